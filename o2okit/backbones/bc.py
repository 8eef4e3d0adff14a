"""BC: imitation of the dataset by a deterministic policy.

L_π = mean_B,A (π(s) - a)²
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from o2okit.backbones.actor_critic import ActorCritic, ActorCriticHyperparameters
from o2okit.data import Batch
from o2okit.nn import Adam, DeterministicPolicy, StackedMLP
from o2okit.streams import Draws


class BC(ActorCritic):
    """A cohort of imitating agents; arguments as for ``Agent``. It has no critics."""

    Hyperparameters = ActorCriticHyperparameters
    version = 1
    asks = ("actor_loss",)
    imitates = True

    def build(self, seeds: Sequence[int]) -> None:
        """As ``Agent.build``."""
        super().build(seeds)
        sizes = (self.obs_size, *self.hyper.hidden, self.act_size)
        self.actor = StackedMLP(seeds, sizes, name="actor", device=self.device)
        # Without noise: nothing tells good from bad.
        silent = torch.zeros(self.runs, device=self.device)
        self.policy = DeterministicPolicy(self.actor, silent)
        self.actor_adam = Adam([self.actor], self.hyper.actor_lr)

    # --- loss and update --------------------------------------------------------------------------
    def actor_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error ``[R]``, also as a metric."""
        loss = (self.policy.mode(batch.obs) - batch.action).square().mean((1, 2))
        return loss, {"actor_loss": loss.detach()}

    def learn(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """One step of the actor."""
        loss, metrics = self.method.actor_loss(batch, lambda: self.actor_loss(batch))
        self.actor_adam.step(loss)
        return metrics
