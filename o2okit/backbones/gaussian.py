"""The Gaussian policy of AWAC and IQL: free log σ, actions clipped after sampling.

L_π = -mean_B w(s, a) log π(a|s),   w = min(exp(A(s, a) · β), 100)          (advantage weighting)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from o2okit.backbones.actor_critic import ActorCritic
from o2okit.nn import Adam, GaussianPolicy, Stacked, StackedMLP
from o2okit.nn.distributions import normal_log_prob

MAX_WEIGHT = 100.0


class GaussianActorCritic(ActorCritic):
    """Base class of AWAC and IQL."""

    bounded_mean = False  # IQL bounds it by tanh

    def make_actor(self, seeds: Sequence[int]) -> None:
        """The mean's network, one log σ per action dimension, and their optimiser."""
        sizes = (self.obs_size, *self.hyper.hidden, self.act_size)
        self.actor = StackedMLP(seeds, sizes, name="actor", device=self.device)
        self.log_std = Stacked([np.zeros((self.runs, 1, self.act_size))], device=self.device)
        self.policy = GaussianPolicy(self.actor, self.log_std, bounded=self.bounded_mean)
        self.actor_adam = Adam([self.actor, self.log_std], self.hyper.actor_lr)

    # --- loss -------------------------------------------------------------------------------------
    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        """Log π(a|s) ``[R, B]``; the clipping is ignored, as in the authors' code."""
        return normal_log_prob(action, *self.policy.gaussian(obs))

    def weighted_imitation(
        self, obs: Tensor, action: Tensor, scaled_advantage: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_π ``[R]`` and its metrics ``[R]`` for β · A ``[R, B]``."""
        weight = scaled_advantage.exp().clamp(max=MAX_WEIGHT)
        loss = -(weight * self.log_prob(obs, action)).mean(-1)
        return loss, {"actor_loss": loss.detach(), "weight": weight.mean(-1)}
