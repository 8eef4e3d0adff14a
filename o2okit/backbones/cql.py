"""CQL(H) (Kumar et al., 2020): SAC whose critics are pushed down on other actions than the dataset's.

    y      = r + γ (1 - terminated) max_m min_j Q̄_j(s', a'_m),        a'_1..N ~ π(·|s')   (no entropy)
    OOD_j  = logsumexp over 3N actions of  Q_j(s, u) - |A| log ½,          u uniform
                                           Q_j(s, a') - log π(a'|s'),      a' ~ π(·|s'), evaluated at s
                                           Q_j(s, ã) - log π(ã|s),         ã ~ π(·|s)
    L_Q    = Σ_j mean_B (Q_j(s, a) - y)² + w (mean_B (OOD_j - Q_j(s, a)))

With a Lagrange multiplier: w α' (diff_j - gap) in place of w diff_j, and L_α' = -½ Σ_j w α' (diff_j - gap).

Numbered departures from the paper:
    1. Importance sampling with 3N actions, N = 10, as in the authors' code; temperature 1.
    2. max-target backup (Cal-QL's code); ``max_backup=False`` takes one sample.
    3. Fixed weight by default (specs/qcse.md 3, Gym); ``gap`` > 0 turns the multiplier on (AntMaze 0.8).
    4. All losses are evaluated at the same, old parameters (Cal-QL's code); CORL steps one after the other.
    5. Where the processor has units for bfloat16, the critics' products between hidden layers run in it
       (``o2okit.nn.precision``). Relative error of a fresh agent's loss 1e-7, of its gradient 1.3 %.
    6. With n-step sums the penalty's next actions are those of the state that the sum ends at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from o2okit.backbones.sac import SAC, SACHyperparameters
from o2okit.data import Batch
from o2okit.hyper import per_run, static
from o2okit.nn import Adam, Stacked, StackedMLP
from o2okit.nn.distributions import EDGE, tanh_normal_sample
from o2okit.streams import Draws

MAX_MULTIPLIER = 1e6


@dataclass(frozen=True)
class CQLHyperparameters(SACHyperparameters):
    """Defaults: specs/qcse.md 3 (Cal-QL's code; Gym)."""

    critic_hidden: tuple[int, ...] = static((256,) * 4, "", "spec 3; critics", low=1)
    actor_lr: float = static(1e-4, "", "spec 3, Adam")
    alpha_lr: float = static(1e-4, "", "spec 3, Adam")
    normalise: bool = static(False, "", "spec 3")
    weight: float = per_run(5.0, "w", "spec 3, Gym; 1 Adroit")
    n_actions: int = static(10, "N", "spec 3", low=1)
    max_backup: bool = static(True, "", "spec 3")
    gap: float = per_run(0.0, "", "spec 3: 0.8 AntMaze; 0: fixed weight")
    multiplier_lr: float = static(3e-4, "", "spec 3, Adam")


class CQL(SAC):
    """A cohort of CQL agents; arguments as for ``Agent``."""

    Hyperparameters = CQLHyperparameters
    version = 1
    asks = ("target", "actor_loss", "constraint")  # TD loss and penalty are one

    def build(self, seeds: Sequence[int]) -> None:
        """As ``Agent.build``."""
        super().build(seeds)
        self.log_multiplier = Stacked([np.ones((self.runs, 1))], device=self.device)
        self.multiplier_adam = Adam([self.log_multiplier], self.hyper.multiplier_lr)

    def make_networks(self, seeds: Sequence[int]) -> None:
        """Orthogonal weights, a nearly silent output layer, zero biases (specs/qcse.md 3)."""
        kind = {"initialiser": "orthogonal", "gains": (math.sqrt(2), 0.01)}
        sizes = (self.obs_size, *self.hyper.hidden, 2 * self.act_size)
        self.actor = StackedMLP(seeds, sizes, name="actor", device=self.device, **kind)
        self.make_critics(seeds, **kind)

    def prepare(self, batch: Batch) -> Batch:
        """As ``ActorCritic.prepare``; actions clipped to ±0.99999 (specs/qcse.md 3)."""
        batch = super().prepare(batch)
        return batch._replace(action=batch.action.clamp(-EDGE, EDGE))

    # --- actions ----------------------------------------------------------------------------------
    def samples(self, gaussian: tuple[Tensor, Tensor], noise: Tensor) -> tuple[Tensor, Tensor]:
        """``N`` actions per state ``[R, B, N, A]`` and their log-probabilities ``[R, B, N]``."""
        mean, log_std = (part.detach()[:, :, None] for part in gaussian)
        return tanh_normal_sample(mean, log_std, noise)

    def many_q(self, critic: StackedMLP, obs: Tensor, actions: Tensor, **kind: Any) -> Tensor:
        """Q ``[R, E, B, N]`` of ``N`` actions per state."""
        runs, rows, n, _ = actions.shape
        obs = obs[:, :, None].expand(-1, -1, n, -1)
        x = torch.cat([obs, actions], dim=-1).view(runs, rows * n, -1)
        return critic(x, many=True, **kind).view(runs, -1, rows, n)

    # --- losses -----------------------------------------------------------------------------------
    @torch.no_grad()
    def target(self, batch: Batch, actions: Tensor) -> Tensor:
        """Bootstrap target ``y`` ``[R, B]`` for next actions ``[R, B, N, A]``."""
        q = self.many_q(self.target_critic, batch.next_obs, actions).amin(1)
        return self.backup(batch, q.amax(-1))

    def calibrate(self, q: Tensor, batch: Batch) -> Tensor:
        """What Cal-QL does to the values ``[R, E, B, n]`` of the policy's actions. CQL: nothing."""
        return q

    def conservative_loss(
        self, batch: Batch, target: Tensor, actions: Tensor, log_probs: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """TD loss and penalty.

        Args:
            batch: the minibatch.
            target: ``y`` ``[R, B]``.
            actions: uniform, next, current ``[R, B, 3N, A]``.
            log_probs: of these ``[R, B, 3N]``.

        Returns:
            TD loss ``[R]``, how far each critic's difference is beyond the gap ``[R, E]``, metrics ``[R]``.
            Where rows count less for the constraint, their part of the gap does, too.
        """
        every = torch.cat([batch.action[:, :, None], actions], dim=2)
        q = self.many_q(self.critic, batch.obs, every)
        n = self.hyper.n_actions
        taken, uniform, policy = q.split([1, n, 2 * n], dim=-1)
        taken, policy = taken[..., 0], self.calibrate(policy, batch)
        others = torch.cat([uniform, policy], dim=-1) - log_probs[:, None]
        difference, rows = others.logsumexp(-1) - taken, self.method.constraint(batch)
        excess = difference - self.hyper.gap[:, None, None]
        if rows is not None:
            difference, excess = difference * rows[:, None], excess * rows[:, None]
        difference, excess = difference.mean(-1), excess.mean(-1)
        loss = (taken - target[:, None]).square().mean(-1).sum(-1)
        metrics = {
            "critic_loss": loss.detach(),
            "q": taken.detach().mean((1, 2)),
            "cql_difference": difference.detach().mean(1),
        }
        return loss, excess, metrics

    def penalty(self, excess: Tensor) -> tuple[Tensor, Tensor]:
        """(penalty, loss of the multiplier) ``[R]``, from the differences beyond the gap ``[R, E]``."""
        h = self.hyper
        multiplier = self.log_multiplier.values()[:, 0].exp().clamp(max=MAX_MULTIPLIER)
        excess = h.weight * excess.sum(-1)
        penalty = torch.where(h.gap > 0, multiplier.detach() * excess, excess)
        return penalty, -0.5 * multiplier * torch.where(h.gap > 0, excess.detach(), 0.0)

    # --- update -----------------------------------------------------------------------------------
    def learn(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """One step of actor, temperature, critics, multiplier and target critics."""
        rows, n, act = self.hyper.batch_size, self.hyper.n_actions, self.act_size
        backup = n if self.hyper.max_backup else 1
        noise = draws.normal("update", rows, 1 + 2 * n + backup, act)
        single, current, following, targets = noise.split([1, n, n, backup], dim=2)
        uniform = draws.uniform("update actions", rows, n, act).float() * 2 - 1

        gaussian = self.policy.gaussian(batch.obs)
        actor_loss, actor_metrics = self.method.actor_loss(
            batch, lambda: self.actor_loss(batch.obs, gaussian, single[:, :, 0])
        )
        with torch.no_grad():
            next_gaussian = self.policy.gaussian(batch.next_obs)
            a_next, log_next = self.samples(next_gaussian, following)
            a_now, log_now = self.samples(gaussian, current)
            a_target, _ = self.samples(next_gaussian, targets)
            log_uniform = torch.full_like(log_now, -act * math.log(2))
        target = self.method.target(batch, lambda: self.target(batch, a_target))
        td_loss, excess, metrics = self.conservative_loss(
            batch,
            target,
            torch.cat([uniform, a_next, a_now], dim=2),
            torch.cat([log_uniform, log_next, log_now], dim=2),
        )
        penalty, multiplier_loss = self.penalty(excess)
        steps = [
            (self.actor_adam, self.actor_adam.gradient(actor_loss)),
            (self.alpha_adam, self.alpha_adam.gradient(self.alpha_loss(actor_metrics["entropy"]))),
            (self.critic_adam, self.critic_adam.gradient(td_loss + penalty)),
            (self.multiplier_adam, self.multiplier_adam.gradient(multiplier_loss)),
        ]
        for adam, gradient in steps:
            adam.apply(gradient)
        self.target_critic.follow(self.critic, self.hyper.target_rate)
        return metrics | actor_metrics
