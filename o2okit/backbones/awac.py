"""AWAC (Nair et al., 2020): off-policy critics, actor by advantage-weighted regression.

    y   = r + γ (1 - terminated) min_j Q̄_j(s', a'),      a' ~ π(·|s')
    L_Q = Σ_j mean_B (Q_j(s, a) - y)²
    L_π = -mean_B min(exp(A/λ), 100) log π(a|s),          A = min_j Q_j(s, a) - min_j Q_j(s, ã),  ã ~ π(·|s)

Numbered departures from the paper:
    1. The weights are exp(A/λ) clipped at 100, not normalised over the batch (CORL, specs/qcse.md 3).
    2. Three hidden layers of 256 in all networks (CORL, specs/ocr_cft.md 3).
    3. λ = 1 on the robots (specs/qcse.md 3), 0.1 elsewhere (specs/samg.md 2.6); SAMG's and OCR-CFT's robots
       have 1/3 (``hyper={"temperature": 1 / 3}``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from o2okit.backbones.actor_critic import ActorCriticHyperparameters
from o2okit.backbones.gaussian import GaussianActorCritic
from o2okit.data import Batch
from o2okit.hyper import per_run, static
from o2okit.streams import Draws


@dataclass(frozen=True)
class AWACHyperparameters(ActorCriticHyperparameters):
    """Defaults: specs/qcse.md 3."""

    hidden: tuple[int, ...] = static((256, 256, 256), "", "spec 3; actor", low=1)
    critic_hidden: tuple[int, ...] = static((256, 256, 256), "", "spec 3; critics", low=1)
    temperature: float = per_run(1.0, "λ", "spec 3; 1/3 in CORL's MuJoCo files", low=1e-6)


class AWAC(GaussianActorCritic):
    """A cohort of AWAC agents; arguments as for ``Agent``."""

    Hyperparameters = AWACHyperparameters
    version = 1

    def build(self, seeds: Sequence[int]) -> None:
        """As ``Agent.build``."""
        super().build(seeds)
        self.make_actor(seeds)
        self.make_critics(seeds)

    # --- losses -----------------------------------------------------------------------------------
    @torch.no_grad()
    def target(self, batch: Batch, noise: Tensor) -> Tensor:
        """Bootstrap target ``y`` ``[R, B]``."""
        action = self.policy.sample(batch.next_obs, noise)
        return self.backup(batch, self.q(self.target_critic, batch.next_obs, action).amin(1))

    @torch.no_grad()
    def advantage(self, obs: Tensor, action: Tensor, noise: Tensor) -> Tensor:
        """A ``[R, B]``."""
        both = torch.cat([action, self.policy.sample(obs, noise)], dim=1)
        q = self.q(self.critic, torch.cat([obs, obs], dim=1), both).amin(1)
        taken, sampled = q.chunk(2, dim=1)
        return taken - sampled

    def actor_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss ``[R]`` and its metrics ``[R]``."""
        advantage = self.advantage(batch.obs, batch.action, noise)
        scaled = advantage / self.hyper.temperature[:, None]
        return self.weighted_imitation(batch.obs, batch.action, scaled)

    # --- update -----------------------------------------------------------------------------------
    def learn(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """One step of critics, actor and target critics."""
        noise = draws.normal("update", 2, self.hyper.batch_size, self.act_size)
        target = self.method.target(batch, lambda: self.target(batch, noise[:, 0]))
        loss, metrics = self.method.critic_loss(
            batch, target, lambda: self.critic_loss(batch, target)
        )
        self.critic_adam.step(loss)
        loss, actor_metrics = self.method.actor_loss(
            batch, lambda: self.actor_loss(batch, noise[:, 1])
        )
        self.actor_adam.step(loss)
        self.target_critic.follow(self.critic, self.hyper.target_rate)
        return metrics | actor_metrics
