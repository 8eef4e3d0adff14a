"""The Gaussian policy of AWAC and IQL: free log σ, actions clipped after sampling.

L_π = -mean_B w(s, a) log π(a|s),   w = min(exp(A(s, a) · β), 100)          (advantage weighting)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from o2okit.backbones.actor_critic import ActorCritic
from o2okit.nn import Adam, Stacked, StackedMLP
from o2okit.nn.distributions import normal_log_prob
from o2okit.streams import Draws

MAX_WEIGHT = 100.0


class GaussianActorCritic(ActorCritic):
    """Base class of AWAC and IQL."""

    bounded_mean = False  # IQL bounds it by tanh

    def make_actor(self, seeds: Sequence[int]) -> None:
        """The mean's network, one log σ per action dimension, and their optimiser."""
        sizes = (self.obs_size, *self.hyper.hidden, self.act_size)
        self.actor = StackedMLP(seeds, sizes, name="actor", device=self.device)
        self.log_std = Stacked([np.zeros((self.runs, 1, self.act_size))], device=self.device)
        self.actor_adam = Adam([self.actor, self.log_std], self.hyper.actor_lr)

    # --- policy -----------------------------------------------------------------------------------
    def mean(self, obs: Tensor) -> Tensor:
        """``[R, B, A]``."""
        mean = self.actor(obs)
        return torch.tanh(mean) if self.bounded_mean else mean

    def sample(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Clipped samples ``[R, B, A]``, without gradient."""
        std = self.log_std.weights[0].clamp(-20, 2).exp()
        return (self.mean(obs) + std * noise).clamp(-1, 1)

    def explore(self, obs: Tensor, draws: Draws) -> Tensor:
        """A sample of the policy."""
        return self.sample(obs, draws.normal("explore", 1, self.act_size))

    def mode(self, obs: Tensor) -> Tensor:
        """The mean, clipped."""
        return self.mean(obs).clamp(-1, 1)

    # --- loss -------------------------------------------------------------------------------------
    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        """Log π(a|s) ``[R, B]``; the clipping is ignored, as in the authors' code."""
        return normal_log_prob(action, self.mean(obs), self.log_std.values().clamp(-20, 2))

    def weighted_imitation(
        self, obs: Tensor, action: Tensor, scaled_advantage: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_π ``[R]`` and its metrics ``[R]`` for β · A ``[R, B]``."""
        weight = scaled_advantage.exp().clamp(max=MAX_WEIGHT)
        loss = -(weight * self.log_prob(obs, action)).mean(-1)
        return loss, {"actor_loss": loss.detach(), "weight": weight.mean(-1)}
