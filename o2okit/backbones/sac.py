"""SAC (Haarnoja et al., 2018): maximum-entropy actor-critic with a tuned temperature.

    y   = r + γ (1 - terminated) ( min_j Q̄_j(s', a') - α log π(a'|s') ),   a' ~ π(·|s')
    L_Q = Σ_j mean_B (Q_j(s, a) - y)²
    L_π = mean_B ( α log π(a|s) - min_j Q_j(s, a) ),                       a ~ π(·|s)
    L_α = -log α · mean_B ( log π(a|s) + H̄ ),                              H̄ = -|A|

Numbered departures from the paper:
    1. No value network (as in the authors' second version).
    2. log σ = m · raw + b with learnt scalars m = 1, b = -1 at the start, clipped to [-20, 2]
       (specs/qcse.md 3, Cal-QL's code).
    3. All losses are evaluated at the same, old parameters (specs/qcse.md 3, Cal-QL's code).
    4. Networks, rates and standardised states are those of D4RL's behaviour policies (specs/tasks.md 6), also
       where QCSE's paper announces SAC and means CQL's (specs/qcse.md 3); it prints no result of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from o2okit.backbones.actor_critic import ActorCritic, ActorCriticHyperparameters
from o2okit.data import Batch
from o2okit.hyper import per_run, static
from o2okit.nn import Adam, Stacked, StackedMLP, TanhGaussianPolicy, mean_per_run
from o2okit.nn.distributions import tanh_normal_sample
from o2okit.streams import Draws


@dataclass(frozen=True)
class SACHyperparameters(ActorCriticHyperparameters):
    """Defaults: specs/tasks.md 6 (D4RL's rlkit script) unless another source is named."""

    alpha_lr: float = static(3e-4, "", "spec 6, Adam")
    alpha: float = per_run(1.0, "α", "at the start", low=1e-8)
    entropy_scale: float = per_run(1.0, "", "target entropy H̄ = -scale · |A|")


class SAC(ActorCritic):
    """A cohort of SAC agents; arguments as for ``Agent``."""

    Hyperparameters = SACHyperparameters
    version = 1
    carried = (*ActorCritic.carried, "alpha")

    def build(self, seeds: Sequence[int]) -> None:
        """As ``Agent.build``."""
        super().build(seeds)
        self.make_networks(seeds)
        self.spread = Stacked([np.tile([1.0, -1.0], (self.runs, 1))], device=self.device)  # m and b
        self.policy = TanhGaussianPolicy(self.actor, self.spread)
        self.log_alpha = Stacked(
            [np.log([[run["alpha"]] for run in self.hypers])], device=self.device
        )
        self.actor_adam = Adam([self.actor, self.spread], self.hyper.actor_lr)
        self.alpha_adam = Adam([self.log_alpha], self.hyper.alpha_lr)

    def make_networks(self, seeds: Sequence[int]) -> None:
        """Actor, critics and targets."""
        sizes = (self.obs_size, *self.hyper.hidden, 2 * self.act_size)
        self.actor = StackedMLP(seeds, sizes, name="actor", device=self.device)
        self.make_critics(seeds)

    # --- losses -----------------------------------------------------------------------------------
    @torch.no_grad()
    def target(self, batch: Batch, noise: Tensor) -> Tensor:
        """Bootstrap target ``y`` ``[R, B]``."""
        action, log_prob = tanh_normal_sample(*self.policy.gaussian(batch.next_obs), noise)
        next_q = self.q(self.target_critic, batch.next_obs, action).amin(1)
        return self.backup(batch, next_q - self.log_alpha.weights[0].exp() * log_prob)

    def actor_loss(
        self, obs: Tensor, gaussian: tuple[Tensor, Tensor], noise: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss ``[R]`` and its metrics ``[R]``, among them the entropy that tunes α."""
        action, log_prob = tanh_normal_sample(*gaussian, noise)
        alpha = self.log_alpha.weights[0].exp()
        q = self.q(self.critic, obs, action, frozen=True).amin(1)
        loss = (alpha * log_prob - q).mean(-1)
        entropy = -mean_per_run(log_prob.detach())
        return loss, {"actor_loss": loss.detach(), "entropy": entropy, "alpha": alpha[:, 0]}

    def alpha_loss(self, entropy: Tensor) -> Tensor:
        """Loss ``[R]`` of the temperature, from the mean entropy ``[R]``."""
        target = -self.hyper.entropy_scale * self.act_size
        return -self.log_alpha.values()[:, 0] * (target - entropy)

    # --- update -----------------------------------------------------------------------------------
    def learn(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """One step of actor, temperature, critics and target critics."""
        noise = draws.normal("update", 2, self.hyper.batch_size, self.act_size)
        target = self.method.target(batch, lambda: self.target(batch, noise[:, 0]))
        critic_loss, critic_metrics = self.method.critic_loss(
            batch, target, lambda: self.critic_loss(batch, target)
        )
        gaussian = self.policy.gaussian(batch.obs)
        actor_loss, actor_metrics = self.method.actor_loss(
            batch, lambda: self.actor_loss(batch.obs, gaussian, noise[:, 1])
        )
        steps = [
            (self.actor_adam, self.actor_adam.gradient(actor_loss)),
            (self.critic_adam, self.critic_adam.gradient(critic_loss)),
            (self.alpha_adam, self.alpha_adam.gradient(self.alpha_loss(actor_metrics["entropy"]))),
        ]
        for adam, gradient in steps:
            adam.apply(gradient)
        self.target_critic.follow(self.critic, self.hyper.target_rate)
        return critic_metrics | actor_metrics
