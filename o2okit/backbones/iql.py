"""IQL (Kostrikov et al., 2022): the value of the dataset's better actions, never of others.

    L_V = mean_B |τ - 1[u < 0]| u²,            u = min_j Q̄_j(s, a) - V(s)
    L_Q = ½ Σ_j mean_B (Q_j(s, a) - y)²,       y = r + γ (1 - terminated) V(s')
    L_π = -mean_B min(exp(β u), 100) log π(a|s)

Numbered departures from the paper:
    1. The actor's learning rate follows a cosine over ``cosine_steps`` updates of the pre-training and is
       constant when the agent is fine-tuned (specs/gde.md 2.4). ``cosine_steps`` given for the fine-tuning,
       too, goes on with the cosine, which climbs back beyond its end (CORL; specs/qcse.md E19).
    2. log σ lies in [-20, 2] (CORL; specs/ocr_cft.md 2.1), in the authors' code above -5 (specs/gde.md 2.4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from o2okit.backbones.actor_critic import ActorCriticHyperparameters
from o2okit.backbones.gaussian import GaussianActorCritic
from o2okit.data import Batch
from o2okit.hyper import per_run, static
from o2okit.nn import Adam, StackedMLP
from o2okit.streams import Draws


@dataclass(frozen=True)
class IQLHyperparameters(ActorCriticHyperparameters):
    """Defaults: specs/qcse.md 3."""

    value_lr: float = static(3e-4, "", "spec 3, Adam")
    expectile: float = per_run(0.7, "τ", "spec 3; 0.9 AntMaze", high=1)
    beta: float = per_run(3.0, "β", "spec 3; 10 AntMaze")
    cosine_steps: int = static(1_000_000, "", "spec 3; 0: constant")


def expectile_loss(u: Tensor, expectile: Tensor) -> Tensor:
    """|τ - 1[u < 0]| u² of ``u`` ``[R, B]``, with one τ per run ``[R]``."""
    return (expectile[:, None] - (u < 0).float()).abs() * u.square()


class IQL(GaussianActorCritic):
    """A cohort of IQL agents; arguments as for ``Agent``."""

    Hyperparameters = IQLHyperparameters
    version = 1
    bounded_mean = True
    fine_tuning: ClassVar[Mapping[str, Any]] = {"cosine_steps": 0}

    def build(self, seeds: Sequence[int]) -> None:
        """As ``Agent.build``."""
        super().build(seeds)
        self.make_actor(seeds)
        self.make_critics(seeds)
        sizes = (self.obs_size, *self.hyper.critic_hidden, 1)
        self.value = StackedMLP(seeds, sizes, name="value", device=self.device)
        self.value_adam = Adam([self.value], self.hyper.value_lr)

    @classmethod
    def paced(cls, offline_steps: int) -> dict[str, Any]:
        """The cosine spans the pre-training, as in IQL's code."""
        return {"cosine_steps": offline_steps}

    def v(self, obs: Tensor) -> Tensor:
        """V(s) ``[R, B]`` of the value network."""
        return self.value(obs)[..., 0]

    # --- losses -----------------------------------------------------------------------------------
    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """Bootstrap target ``y`` ``[R, B]``."""
        return self.backup(batch, self.v(batch.next_obs))

    def value_loss(self, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Loss ``[R]``, the advantage u ``[R, B]`` without gradient, metrics ``[R]``."""
        with torch.no_grad():
            q = self.q(self.target_critic, batch.obs, batch.action).amin(1)
        v = self.v(batch.obs)
        u = q - v
        loss = expectile_loss(u, self.hyper.expectile).mean(-1)
        return loss, u.detach(), {"value_loss": loss.detach(), "v": v.detach().mean(-1)}

    def actor_loss(self, batch: Batch, advantage: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss ``[R]`` and its metrics ``[R]``."""
        scaled = advantage * self.hyper.beta[:, None]
        return self.weighted_imitation(batch.obs, batch.action, scaled)

    # --- update -----------------------------------------------------------------------------------
    def schedule(self) -> None:
        """The actor's learning rate."""
        h = self.hyper
        if h.cosine_steps:
            cosine = math.cos(math.pi * self.updates / h.cosine_steps)
            self.actor_adam.lr = h.actor_lr * 0.5 * (1 + cosine)

    def learn(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """One step of value, critics, target critics and actor; the target takes the old value."""
        target = self.method.target(batch, lambda: self.target(batch))
        loss, advantage, metrics = self.value_loss(batch)
        self.value_adam.step(loss)
        loss, critic_metrics = self.method.critic_loss(
            batch, target, lambda: self.critic_loss(batch, target)
        )
        self.critic_adam.step(0.5 * loss)
        self.target_critic.follow(self.critic, self.hyper.target_rate)
        loss, actor_metrics = self.method.actor_loss(
            batch, lambda: self.actor_loss(batch, advantage)
        )
        self.actor_adam.step(loss)
        return metrics | critic_metrics | actor_metrics
