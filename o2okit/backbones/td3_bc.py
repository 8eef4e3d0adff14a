"""TD3+BC (Fujimoto & Gu, 2021): TD3 whose actor also imitates the dataset.

    L_π = -λ mean_B Q_1(s, π(s)) + mean_B,A (π(s) - a)²,   λ = α / mean_B |Q_1(s, π(s))|

Numbered departures from the paper: none.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from o2okit.backbones.base import HOOKS
from o2okit.backbones.td3 import TD3, TD3Hyperparameters
from o2okit.data import Batch
from o2okit.hyper import per_run
from o2okit.nn import mean_per_run


@dataclass(frozen=True)
class TD3BCHyperparameters(TD3Hyperparameters):
    """TD3's, and the weight of the critic."""

    alpha: float = per_run(2.5, "α", "spec 2.8")


class TD3BC(TD3):
    """A cohort of TD3+BC agents; arguments as for ``Agent``."""

    Hyperparameters = TD3BCHyperparameters
    version = 1
    asks = HOOKS

    def actor_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss ``[R]`` and its metrics ``[R]``; λ carries no gradient."""
        action = self.policy.mode(batch.obs)
        q = self.q(self.critic, batch.obs, action, only=0)
        weight = self.hyper.alpha / mean_per_run(q.detach().abs())
        imitation, rows = (action - batch.action).square(), self.method.constraint(batch)
        if rows is not None:
            imitation = imitation * rows[..., None]
        imitation = imitation.mean((1, 2))
        loss = imitation - weight * q.mean(-1)
        return loss, {"actor_loss": loss.detach(), "bc_loss": imitation.detach()}
