"""Policies' distributions: diagonal Gaussians, plain and squashed by tanh.

Shapes: ``mean`` ``[R, B, A]``, ``log_std`` the same or ``[R, 1, A]``; log-probabilities are ``[R, B]``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)
LANES = 32  # float32 values that PyTorch takes at once at most: two vector registers of AVX-512
EDGE = 1 - 1e-5  # actions of a dataset are clipped to this before their tanh is undone


def normal_log_prob(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log N(x | mean, std²), summed over the action's dimensions."""
    z = (x - mean) * torch.exp(-log_std)
    return -(0.5 * (z.square() + LOG_2PI) + log_std).sum(-1)


def normal_kl(mean: Tensor, log_std: Tensor, other_mean: Tensor, other_log_std: Tensor) -> Tensor:
    """KL(N(mean, std²) ‖ N(other_mean, other_std²)), summed over the action's dimensions."""
    ratio = torch.exp(2 * (log_std - other_log_std))
    shift = (mean - other_mean).square() * torch.exp(-2 * other_log_std)
    return (other_log_std - log_std + 0.5 * (ratio + shift - 1)).sum(-1)


# On the CPU, PyTorch's atanh, sigmoid, logit and softplus round a tensor's last elements unlike the others:
# a run's numbers would depend on how many runs stand beside it. The first three are made here of functions
# that round all alike; for softplus the tensor is padded to whole vector registers.
def atanh(x: Tensor) -> Tensor:
    """Inverse of tanh in (-1, 1)."""
    return 0.5 * (torch.log1p(x) - torch.log1p(-x))


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return 0.5 * (1 + torch.tanh(0.5 * x))


def logit(p: Tensor) -> Tensor:
    """Inverse of ``sigmoid`` in [0, 1]; infinite at the borders."""
    return torch.log(p) - torch.log1p(-p)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x))."""
    missing = -x.numel() % LANES
    if not missing:
        return F.softplus(x)
    return F.softplus(F.pad(x.reshape(-1), (0, missing)))[: x.numel()].view(x.shape)


def log_tanh_derivative(u: Tensor) -> Tensor:
    """Σ log(1 - tanh²(u)), in the form that does not cancel for large ``|u|``."""
    return 2 * (math.log(2) - u - softplus(-2 * u)).sum(-1)


def tanh_normal_sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Action ``tanh(mean + std · noise)`` with its gradient, and its log-probability."""
    u = mean + torch.exp(log_std) * noise
    # (u - mean) / std is the noise itself, whose gradient is zero.
    normal = -(0.5 * (noise.square() + LOG_2PI) + log_std).sum(-1)
    return torch.tanh(u), normal - log_tanh_derivative(u)
