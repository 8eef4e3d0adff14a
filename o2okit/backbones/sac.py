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
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from o2okit.backbones.actor_critic import ActorCritic, ActorCriticHyperparameters
from o2okit.data import Batch
from o2okit.hyper import per_run, static
from o2okit.nn import Adam, Stacked, StackedMLP
from o2okit.nn.distributions import tanh_normal_sample
from o2okit.streams import Draws
from o2okit.tasks import Task


@dataclass(frozen=True)
class SACHyperparameters(ActorCriticHyperparameters):
    """Defaults: specs/tasks.md 6 (D4RL's rlkit script) unless another source is named."""

    actor_lr: float = static(3e-4, "", "spec 6, Adam")
    critic_lr: float = static(3e-4, "", "spec 6, Adam")
    alpha_lr: float = static(3e-4, "", "spec 6, Adam")
    alpha: float = per_run(1.0, "α", "at the start", low=1e-8)
    entropy_scale: float = per_run(1.0, "", "target entropy -scale · |A|")


class SAC(ActorCritic):
    """A cohort of SAC agents; arguments as for ``Agent``."""

    Hyperparameters = SACHyperparameters
    version = 1

    def __init__(
        self,
        task: Task,
        hypers: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(task, hypers, seeds, device)
        h, obs, act = self.hyper, self.obs_size, self.act_size
        actor, critic = (obs, *h.hidden, 2 * act), (obs + act, *h.hidden, 1)
        self.actor = StackedMLP(seeds, actor, name="actor", device=device)
        self.spread = Stacked([np.tile([1.0, -1.0], (self.runs, 1))], device=device)  # m and b
        self.critic = StackedMLP(seeds, critic, name="critic", members=2, device=device)
        self.target_critic = self.critic.copy()
        self.log_alpha = Stacked([np.log([[run["alpha"]] for run in hypers])], device=device)
        self.actor_adam = Adam([self.actor, self.spread], h.actor_lr)
        self.critic_adam = Adam([self.critic], h.critic_lr)
        self.alpha_adam = Adam([self.log_alpha], h.alpha_lr)

    # --- policy -----------------------------------------------------------------------------------
    def policy(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log σ ``[R, B, A]`` of the Gaussian before tanh."""
        mean, raw = self.actor(obs).chunk(2, dim=-1)
        scale, offset = self.spread.values()[:, :, None, None].unbind(1)
        return mean, (scale * raw + offset).clamp(-20, 2)

    def sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions ``[R, B, A]`` and their log-probabilities ``[R, B]``."""
        return tanh_normal_sample(*self.policy(obs), noise)

    def explore(self, obs: Tensor, draws: Draws) -> Tensor:
        """A sample of the policy."""
        return self.sample(obs, draws.normal("explore", 1, self.act_size))[0]

    def mode(self, obs: Tensor) -> Tensor:
        """tanh of the mean."""
        return torch.tanh(self.policy(obs)[0])

    # --- losses -----------------------------------------------------------------------------------
    def q(self, critic: StackedMLP, obs: Tensor, action: Tensor, frozen: bool = False) -> Tensor:
        """``[R, E, B]``; ``frozen``: the gradient goes to the action alone."""
        return critic(torch.cat([obs, action], dim=-1), frozen=frozen)[..., 0]

    @torch.no_grad()
    def target(self, batch: Batch, noise: Tensor) -> Tensor:
        """Bootstrap target ``y`` ``[R, B]``."""
        action, log_prob = self.sample(batch.next_obs, noise)
        next_q = self.q(self.target_critic, batch.next_obs, action).amin(1)
        next_v = next_q - self.log_alpha.weights[0].exp() * log_prob
        return batch.reward + self.hyper.discount[:, None] * (1 - batch.terminated) * next_v

    def critic_loss(self, batch: Batch, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the critics' mean squared errors ``[R]``."""
        q = self.q(self.critic, batch.obs, batch.action)
        loss = (q - target[:, None]).square().mean(-1).sum(-1)
        return loss, {"critic_loss": loss.detach(), "q": q.detach().mean((1, 2))}

    def actor_loss(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Loss ``[R]``, the mean log-probability ``[R]`` that the temperature needs, metrics."""
        action, log_prob = self.sample(obs, noise)
        alpha = self.log_alpha.weights[0].exp()
        q = self.q(self.critic, obs, action, frozen=True).amin(1)
        loss = (alpha * log_prob - q).mean(-1)
        entropy = -log_prob.detach().mean(-1)
        metrics = {"actor_loss": loss.detach(), "entropy": entropy, "alpha": alpha[:, 0]}
        return loss, -entropy, metrics

    # --- update -----------------------------------------------------------------------------------
    def update(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """One step of actor, temperature, critics and target critics."""
        noise = draws.normal("update", 2, self.hyper.batch_size, self.act_size)
        target = self.target(batch, noise[:, 0])
        critic_loss, critic_metrics = self.critic_loss(batch, target)
        actor_loss, log_prob, actor_metrics = self.actor_loss(batch.obs, noise[:, 1])
        target_entropy = -self.hyper.entropy_scale * self.act_size
        alpha_loss = -self.log_alpha.values()[:, 0] * (log_prob + target_entropy)
        steps = [
            (adam, adam.gradient(loss))
            for adam, loss in (
                (self.actor_adam, actor_loss),
                (self.critic_adam, critic_loss),
                (self.alpha_adam, alpha_loss),
            )
        ]
        for adam, gradient in steps:
            adam.apply(gradient)
        self.target_critic.follow(self.critic, self.hyper.target_rate)
        self.updates += 1
        return critic_metrics | actor_metrics
