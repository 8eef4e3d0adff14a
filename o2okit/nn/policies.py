"""Policies: networks with a distribution over actions, which can act, be copied and be compared.

For continuous actions every one stands on a diagonal Gaussian. Two of a kind are compared by the
divergence of their Gaussians: exact where both are squashed by the same function, and for clipped samples
the usual approximation (specs/gde.md 2.2).
"""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor

from o2okit.nn.distributions import normal_kl, tanh_normal_sample
from o2okit.nn.saved import Parts
from o2okit.nn.stacked import Stacked, StackedMLP


class Policy(Parts):
    """Base class.

    Args:
        actor: the network.
        others: further parameters of the distribution.
    """

    def __init__(self, actor: StackedMLP, *others: Stacked) -> None:
        self.parts: tuple[Stacked, ...] = (actor, *others)

    def gaussian(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``[R, B, A]`` and log σ (the same or ``[R, 1, A]``) for ``obs`` ``[R, B, D]``."""
        raise TypeError(f"{type(self).__name__} defines no distribution")

    def mode(self, obs: Tensor) -> Tensor:
        """Deterministic actions ``[R, B, A]``: the mean's."""
        return self.gaussian(obs)[0].clamp(-1, 1)

    def sample(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Actions ``[R, B, A]`` for standard normal ``noise`` ``[R, B, A]``."""
        mean, log_std = self.gaussian(obs)
        return (mean + log_std.exp() * noise).clamp(-1, 1)

    def kl(self, other: Policy, obs: Tensor) -> Tensor:
        """KL(self ‖ other) ``[R, B]`` at ``obs``; ``other`` is of the same kind."""
        return normal_kl(*self.gaussian(obs), *other.gaussian(obs))

    # --- copies -----------------------------------------------------------------------------------
    def copy(self, *, trainable: bool = False) -> Self:
        """The same in tensors of its own, frozen unless ``trainable``."""
        twin = copy.copy(self)
        twin.parts = tuple(part.copy(trainable=trainable) for part in self.parts)
        return twin

    def copy_from(self, other: Policy, where: Tensor | None = None) -> None:
        """Takes over the parameters of ``other``, of the runs ``where`` ``[R]`` if it is given."""
        for mine, theirs in zip(self.parts, other.parts, strict=True):
            mine.copy_from(theirs, where)


class SoftmaxPolicy(Policy):
    """Of a Q-network over discrete actions: greedy, compared as softmax(Q / τ) (specs/gde.md 2.7).

    Args:
        q: the network, an output per action.
        temperature: τ of the comparison.
    """

    def __init__(self, q: StackedMLP, temperature: float = 0.1) -> None:
        super().__init__(q)
        self.temperature = temperature

    def values(self, obs: Tensor) -> Tensor:
        """Q ``[R, B, A]`` for ``obs`` ``[R, B]``."""
        return self.parts[0](obs)

    def mode(self, obs: Tensor) -> Tensor:
        """Best actions ``[R, B]``."""
        return self.values(obs).argmax(-1)

    def kl(self, other: SoftmaxPolicy, obs: Tensor) -> Tensor:
        """As ``Policy.kl``, of the two softmax distributions."""
        log_p, log_q = (
            torch.log_softmax(policy.values(obs) / self.temperature, dim=-1)
            for policy in (self, other)
        )
        return (log_p.exp() * (log_p - log_q)).sum(-1)


class DeterministicPolicy(Policy):
    """Tanh of a network, as TD3's; it acts with Gaussian noise and is compared with σ = 1.

    Args:
        actor: the network.
        noise: σ of the noise ``[R]``; 0 acts without.
    """

    def __init__(self, actor: StackedMLP, noise: Tensor) -> None:
        super().__init__(actor)
        self.noise = noise[:, None, None]

    def gaussian(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """π(s), and σ = 1: the divergence of two is half their squared distance."""
        mean = self.mode(obs)
        return mean, torch.zeros_like(mean)

    def mode(self, obs: Tensor) -> Tensor:
        """π(s)."""
        return torch.tanh(self.parts[0](obs))

    def sample(self, obs: Tensor, noise: Tensor) -> Tensor:
        """π(s) with noise, clipped."""
        return (self.mode(obs) + noise * self.noise).clamp(-1, 1)


class GaussianPolicy(Policy):
    """A network's mean with one free log σ per action dimension; samples are clipped.

    Args:
        actor: the network.
        log_std: ``[R, 1, A]``.
        bounded: the mean is bounded by tanh.
    """

    def __init__(self, actor: StackedMLP, log_std: Stacked, *, bounded: bool) -> None:
        super().__init__(actor, log_std)
        self.bounded = bounded

    def gaussian(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``[R, B, A]`` and log σ ``[R, 1, A]``."""
        actor, log_std = self.parts
        mean = actor(obs)
        return torch.tanh(mean) if self.bounded else mean, log_std.values().clamp(-20, 2)


class TanhGaussianPolicy(Policy):
    """SAC's: mean and log σ = m · raw + b from one network, squashed by tanh.

    Args:
        actor: the network, with an output of twice the action's size.
        spread: m and b ``[R, 2]``.
    """

    def __init__(self, actor: StackedMLP, spread: Stacked) -> None:
        super().__init__(actor, spread)

    def gaussian(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log σ ``[R, B, A]`` before tanh."""
        actor, spread = self.parts
        mean, raw = actor(obs).chunk(2, dim=-1)
        scale, offset = spread.values()[:, :, None, None].unbind(1)
        return mean, (scale * raw + offset).clamp(-20, 2)

    def mode(self, obs: Tensor) -> Tensor:
        """Tanh of the mean."""
        return torch.tanh(self.gaussian(obs)[0])

    def sample(self, obs: Tensor, noise: Tensor) -> Tensor:
        """As ``Policy.sample``, but squashed."""
        return tanh_normal_sample(*self.gaussian(obs), noise)[0]
