"""What the backbones for continuous actions share: observations, rewards, twin critics, acting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from o2okit.backbones.base import Agent, Normaliser, power
from o2okit.data import Batch, Dataset
from o2okit.hyper import choice, per_run, static
from o2okit.nn import Adam, Policy, StackedMLP
from o2okit.streams import Draws


@dataclass(frozen=True)
class ActorCriticHyperparameters:
    """What all of them have. Defaults: specs/qcse.md 3 (the values of the authors' code)."""

    hidden: tuple[int, ...] = static((256, 256), "", "spec 3; actor", low=1)
    critic_hidden: tuple[int, ...] = static((256, 256), "", "spec 3; critics", low=1)
    critic_norm: str = choice(
        *("none", "before"), source="specs/ocr_cft.md E9: LayerNorm before each ReLU", later=True
    )
    batch_size: int = static(256, "B", "spec 3", low=1)
    actor_lr: float = static(3e-4, "", "spec 3, Adam")
    critic_lr: float = static(3e-4, "", "spec 3, Adam")
    discount: float = per_run(0.99, "γ", "spec 3", high=1)
    target_rate: float = static(0.005, "τ", "spec 3, Polyak averaging", high=1)
    normalise: bool = static(True, "", "spec 3, observations by the dataset's mean and std + 1e-3")
    reward_scale: float = per_run(1.0, "", "r ← scale · r + bias", low=-float("inf"))
    reward_bias: float = per_run(0.0, "", "AntMaze: -1 or -5", low=-float("inf"))


def geometric_sum(ratio: Tensor, terms: Tensor) -> Tensor:
    """1 + ratio + ratio² + ..., as many ``terms`` ``[R, B]``; ``ratio`` ``[R, 1]`` in [0, 1]."""
    return torch.where(ratio < 1, (1 - power(ratio, terms)) / (1 - ratio), terms)


class ActorCritic(Agent):
    """Base class; a backbone adds its networks, its losses and its policy."""

    policy: Policy
    acts_by = ("greedy", "sampled")
    carried = ("normalise",)
    _taken: tuple[Tensor, Tensor] | None = None  # a minibatch's observations, and Q of its actions

    def build(self, seeds: Sequence[int]) -> None:
        """As ``Agent.build``."""
        self.normaliser = Normaliser(self.runs, self.obs_size, self.device)

    def make_critics(self, seeds: Sequence[int], **kind: Any) -> None:
        """Twin critics, their targets and their optimiser."""
        self.critic = self.new_critic(seeds, "critic", **kind)
        self.target_critic = self.critic.copy()
        self.critic_adam = Adam([self.critic], self.hyper.critic_lr)

    def new_critic(self, seeds: Sequence[int], name: str, **kind: Any) -> StackedMLP:
        """A pair of critics as the hyper-parameters say; ``name``: of its initial parameters' stream."""
        sizes = (self.obs_size + self.act_size, *self.hyper.critic_hidden, 1)
        norm = self.hyper.critic_norm == "before"
        kind |= {"members": 2, "layer_norm": norm, "device": self.device}
        return StackedMLP(seeds, sizes, name=name, **kind)

    def fit(self, dataset: Dataset) -> None:
        """Takes the dataset's statistics, before the first update."""
        if self.hyper.normalise:
            self.normaliser.fit(dataset.observations)

    def prepare(self, batch: Batch) -> Batch:
        """Observations standardised, rewards scaled."""
        scale, bias = self.hyper.reward_scale[:, None], self.hyper.reward_bias[:, None]
        if batch.steps is not None:  # the bias of each reward in the sum
            bias = bias * geometric_sum(self.hyper.discount[:, None], batch.steps)
        return batch._replace(
            obs=self.normaliser(batch.obs),
            next_obs=self.normaliser(batch.next_obs),
            reward=batch.reward * scale + bias,
        )

    def renew_policy(self, initial: Policy) -> None:
        """The policy starts again as ``initial``, with a fresh optimiser; the critics stay."""
        self.policy.copy_from(initial)
        self.actor_adam.reset()

    # --- critics ----------------------------------------------------------------------------------
    def q(self, critic: StackedMLP, obs: Tensor, action: Tensor, **kind: Any) -> Tensor:
        """``[R, E, B]``; ``frozen=True``: the gradient goes to the action alone."""
        return critic(torch.cat([obs, action], dim=-1), **kind)[..., 0]

    def v(self, obs: Tensor) -> Tensor:
        """V(s) ``[R, B]``: min_j Q_j(s, a) of the policy's mean action."""
        return self.q(self.critic, obs, self.policy.mode(obs)).amin(1)

    def taken_q(self, batch: Batch) -> Tensor:
        """Q_j(s, a) ``[R, E, B]`` of a minibatch's actions, with its gradient.

        Evaluated once for all who ask within an update before the critics' step, ``critic_loss`` being the
        last of them.
        """
        if self._taken is None or self._taken[0] is not batch.obs:
            with torch.enable_grad():
                self._taken = batch.obs, self.q(self.critic, batch.obs, batch.action)
        return self._taken[1]

    def work(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """As ``Agent.work``."""
        metrics = super().work(batch, draws)
        self._taken = None  # a method may have asked for it without the backbone's loss
        return metrics

    def critic_loss(self, batch: Batch, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the critics' mean squared errors ``[R]``, and its metrics ``[R]``."""
        q, self._taken = self.taken_q(batch), None
        loss = (q - target[:, None]).square().mean(-1).sum(-1)
        return loss, {"critic_loss": loss.detach(), "q": q.detach().mean((1, 2))}

    # --- acting -----------------------------------------------------------------------------------
    @torch.no_grad()
    def act(self, obs: Tensor, draws: Draws, policy: Policy | None = None) -> Tensor:
        """Samples ``[R, A]`` for ``obs`` ``[R, D]``; the agent's own are uniform until it has learnt."""
        if policy is None and self.updates == 0:
            return draws.uniform("random action", self.act_size).float() * 2 - 1
        noise = draws.normal("explore", 1, self.act_size)
        return self.sampled(policy or self.policy, obs, noise)

    def sampled(self, policy: Policy, obs: Tensor, noise: Tensor) -> Tensor:
        """A policy's actions ``[R, A]`` for ``obs`` ``[R, D]`` and normal ``noise`` ``[R, 1, A]``."""
        return policy.sample(self.view(obs[:, None]), noise)[:, 0]

    def view(self, obs: Tensor) -> Tensor:
        """Observations ``[..., D]`` standardised."""
        return self.normaliser(obs)

    @torch.no_grad()
    def greedy(self, obs: Tensor) -> Tensor:
        """Deterministic actions ``[R, B, A]`` for ``obs`` ``[R, B, D]``."""
        return self.policy.mode(self.view(obs))
