"""ReIQL (GDE, 4.1): IQL fine-tuned without its constraint; only the actor's loss changes.

    L_π = -mean_B min_j Q_j(s, μ(s))                           (policy improvement as TD3's)

The critics and the value are IQL's. The policy goes on acting by samples.

Numbered departures from the paper: none; the minimum and the mean action are specs/gde.md 3's reading.
"""

from __future__ import annotations

from torch import Tensor

from o2okit.backbones.base import Loss
from o2okit.data import Batch
from o2okit.methods.base import Naive


class ReIQL(Naive):
    """IQL with an unconstrained actor; arguments as for ``Naive``."""

    replay = "online"
    backbones = ("iql",)

    def actor_loss(self, batch: Batch, own: Loss) -> tuple[Tensor, dict[str, Tensor]]:
        """L_π in the place of advantage-weighted regression."""
        agent = self.agent
        action = agent.policy.mode(batch.obs)
        loss = -agent.q(agent.critic, batch.obs, action, frozen=True).amin(1).mean(-1)
        return loss, {"actor_loss": loss.detach()}
