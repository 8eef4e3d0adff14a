"""TD3 (Fujimoto et al., 2018): deterministic actor, smoothed targets, delayed actor.

    y   = r + γ (1 - terminated) min_j Q̄_j(s', a'),   a' = clip(π̄(s') + clip(ε, ±0.5)),  ε ~ N(0, 0.2²)
    L_Q = Σ_j mean_B (Q_j(s, a) - y)²
    L_π = -mean_B Q_1(s, π(s))                          every second update, with all target networks

Numbered departures from the paper:
    1. Uniform random actions until the first update only (``learning_starts`` of the run).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from o2okit.backbones.actor_critic import ActorCritic, ActorCriticHyperparameters
from o2okit.data import Batch
from o2okit.hyper import per_run, static
from o2okit.nn import Adam, DeterministicPolicy, Policy, StackedMLP
from o2okit.streams import Draws


@dataclass(frozen=True)
class TD3Hyperparameters(ActorCriticHyperparameters):
    """Defaults: specs/qcse.md 3 and specs/ocr_cft.md 2.8."""

    target_noise: float = per_run(0.2, "", "spec 2.8, std of the target's smoothing")
    noise_clip: float = per_run(0.5, "", "spec 2.8")
    actor_period: int = static(2, "", "spec 2.8, updates between steps of the actor", low=1)
    explore_noise: float = per_run(0.1, "", "spec 3, std of the online action's noise")


class TD3(ActorCritic):
    """A cohort of TD3 agents; arguments as for ``Agent``."""

    Hyperparameters = TD3Hyperparameters
    version = 1

    def build(self, seeds: Sequence[int]) -> None:
        """As ``Agent.build``."""
        super().build(seeds)
        sizes = (self.obs_size, *self.hyper.hidden, self.act_size)
        self.actor = StackedMLP(seeds, sizes, name="actor", device=self.device)
        self.target_actor = self.actor.copy()
        self.policy = DeterministicPolicy(self.actor, self.hyper.explore_noise)
        self.make_critics(seeds)
        self.actor_adam = Adam([self.actor], self.hyper.actor_lr)

    def renew_policy(self, initial: Policy) -> None:
        """As ``ActorCritic.renew_policy``, and its target."""
        super().renew_policy(initial)
        self.target_actor.copy_from(self.actor)

    # --- losses -----------------------------------------------------------------------------------
    @torch.no_grad()
    def target(self, batch: Batch, noise: Tensor) -> Tensor:
        """Bootstrap target ``y`` ``[R, B]``."""
        clip = self.hyper.noise_clip[:, None, None]
        smoothing = (noise * self.hyper.target_noise[:, None, None]).clamp(-clip, clip)
        action = (torch.tanh(self.target_actor(batch.next_obs)) + smoothing).clamp(-1, 1)
        return self.backup(batch, self.q(self.target_critic, batch.next_obs, action).amin(1))

    def actor_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss ``[R]`` and its metrics ``[R]``."""
        loss = -self.q(self.critic, batch.obs, self.policy.mode(batch.obs), only=0).mean(-1)
        return loss, {"actor_loss": loss.detach()}

    # --- update -----------------------------------------------------------------------------------
    def branch(self) -> bool:
        """Whether the actor is trained, too."""
        return (self.updates + 1) % self.hyper.actor_period == 0

    def learn(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """One step of the critics; every second time of actor and targets, too."""
        noise = draws.normal("update", self.hyper.batch_size, self.act_size)
        target = self.method.target(batch, lambda: self.target(batch, noise))
        loss, metrics = self.method.critic_loss(
            batch, target, lambda: self.critic_loss(batch, target)
        )
        self.critic_adam.step(loss)
        if self.branch():
            loss, actor_metrics = self.method.actor_loss(batch, lambda: self.actor_loss(batch))
            self.actor_adam.step(loss)
            self.target_critic.follow(self.critic, self.hyper.target_rate)
            self.target_actor.follow(self.actor, self.hyper.target_rate)
            metrics |= actor_metrics
        return metrics
