"""RealNVP (Dinh et al., 2017): a conditional density of actions that can be sampled and evaluated exactly.

    block k:  y = x ⊙ exp(s) + t,   (s, t) = (1 - m_k) ⊙ f_k(m_k ⊙ x, c)
    log p(a | c) = log N(z | 0, 1) + Σ_k Σ_j s_kj - Σ_j log(1 - a_j²),   z = f(atanh(a), c)

The mask m_k alternates between even and odd dimensions, so that a block is inverted by the same network.
With one dimension every second block has nothing to transform: the density is a squashed Gaussian then.

Numbered departures from the paper:
    1. An action lies in [-1, 1]: the flow is that of atanh(a), with a clipped to ±0.99999.
    2. s is bounded smoothly, by ±2, in place of the paper's learnt scale: no point mass is followed for ever.
    3. No batch normalisation: it would tie a row's density to the other rows of its minibatch.
    4. Every block starts as the identity (Kingma & Dhariwal, 2018, 3.3): actions as tanh of normal numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from o2okit.nn.distributions import EDGE, LOG_2PI, atanh, log_tanh_derivative
from o2okit.nn.saved import Parts
from o2okit.nn.stacked import StackedMLP

BOUND = 2.0  # of s


class RealNVP(Parts):
    """``R`` conditional densities of actions ``[R, B, A]`` given ``[R, B, C]``.

    Args:
        seeds: the seed of each run; its initial parameters depend on nothing else.
        size: ``A``.
        condition: ``C``.
        blocks: how many.
        hidden: sizes of the hidden layers of each block's network.
        name: stream of the initial parameters.
        device: where the tensors live.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        size: int,
        condition: int,
        *,
        blocks: int = 6,
        hidden: Sequence[int] = (128, 128),
        name: str,
        device: torch.device | str = "cpu",
    ) -> None:
        sizes = (size + condition, *hidden, 2 * size)
        self.parts = tuple(
            StackedMLP(seeds, sizes, name=f"{name}/{block}", gains=(1.0, 0.0), device=device)
            for block in range(blocks)
        )
        odd = torch.arange(size, device=device) % 2.0
        self._kept = [1 - odd if block % 2 else odd for block in range(blocks)]

    def to_noise(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """(z ``[R, B, A]``, log |det ∂z/∂x| ``[R, B]``) of ``x`` ``[R, B, A]``, which is not bounded."""
        log_det = torch.zeros_like(x[..., 0])
        for block in range(len(self.parts)):
            scale, shift = self._block(block, x, condition)
            x = x * scale.exp() + shift
            log_det = log_det + scale.sum(-1)
        return x, log_det

    def from_noise(self, z: Tensor, condition: Tensor) -> Tensor:
        """The ``x`` ``[R, B, A]`` whose ``to_noise`` is ``z``."""
        for block in reversed(range(len(self.parts))):
            scale, shift = self._block(block, z, condition)
            z = (z - shift) * (-scale).exp()
        return z

    def log_prob(self, action: Tensor, condition: Tensor) -> Tensor:
        """Log-density ``[R, B]`` of ``action`` ``[R, B, A]`` in [-1, 1], clipped to ±0.99999 first."""
        x = atanh(action.clamp(-EDGE, EDGE))
        z, log_det = self.to_noise(x, condition)
        normal = -0.5 * (z.square() + LOG_2PI).sum(-1)
        return normal + log_det - log_tanh_derivative(x)

    @torch.no_grad()
    def sample(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Actions ``[R, B, A]`` for standard normal ``noise`` ``[R, B, A]``, without gradient."""
        return torch.tanh(self.from_noise(noise, condition))

    def _block(self, block: int, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Log-scale and shift ``[R, B, A]``, 0 in the dimensions that the block keeps."""
        kept = self._kept[block]
        scale, shift = self.parts[block](torch.cat([x * kept, condition], dim=-1)).chunk(2, dim=-1)
        return BOUND * torch.tanh(scale / BOUND) * (1 - kept), shift * (1 - kept)
