"""PEX, policy expansion (Zhang et al., 2023): the offline policy stays beside a new one, the critics choose.

    a ∈ { π_off(s), ã },  ã ~ π_on(·|s),      P(a) ∝ exp(κ min_j Q_j(s, a))

Numbered departures from the paper (specs/gde.md 3):
    1. The new policy learns by the backbone's loss on the batch's actions (the authors' code draws them
       anew from both policies).
    2. In an evaluation ã is the new policy's mean with probability 0.9, else a sample; and with the same
       probability the better of both is taken, else the choice is as ever (specs/ocr_cft.md 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from o2okit.data import Dataset
from o2okit.hyper import per_run, static
from o2okit.methods.base import Naive
from o2okit.nn.distributions import sigmoid
from o2okit.streams import Draws
from o2okit.tasks import Task


@dataclass(frozen=True)
class PEXHyperparameters:
    """Defaults: specs/gde.md 3."""

    inverse_temperature: float = per_run(10.0, "κ", "spec 3")
    warm_up: int = static(5_000, "", "spec 3, steps without updates")
    mean_probability: float = per_run(0.9, "", "spec 3, in an evaluation", high=1)


class PEX(Naive):
    """Policy expansion; arguments as for ``Naive``."""

    Hyperparameters = PEXHyperparameters
    version = 3
    replay = "half"
    backbones = ("td3+bc", "awac", "iql", "cql", "cal-ql")

    @classmethod
    def settings(cls, task: Task, online_steps: int) -> dict[str, Any]:
        """The warm-up is at most 2 % of the budget, as in the paper (5,000 of 250,000)."""
        return {"warm_up": min(5_000, online_steps // 50)}

    @classmethod
    def first_update(cls, hyper: Mapping[str, Any]) -> int:
        """As ``Naive.first_update``: after the warm-up."""
        return hyper["warm_up"]

    def build(self, seeds: Sequence[int]) -> None:
        """The offline policy and a fresh one's parameters."""
        self.offline, self.fresh = self.agent.policy.copy(), self.agent.policy.copy()

    def prepare(self, dataset: Dataset | None) -> None:
        """The offline policy is kept; the agent's own starts anew, its critics stay."""
        self.offline.copy_from(self.agent.policy)
        self.agent.renew_policy(self.fresh)

    def learns(self) -> bool:
        """After the warm-up."""
        return self.step >= self.hyper.warm_up

    def choose(self, obs: Tensor, own: Tensor, u: Tensor, better: Tensor | None = None) -> Tensor:
        """π_off(s) or ``own`` ``[R, n, A]`` by ``u`` ``[R, n]``, for standardised ``obs`` ``[R, n, D]``.

        Where ``better`` ``[R, n]`` is true the critics' favourite is taken, whatever ``u`` is.
        """
        agent, old = self.agent, self.offline.mode(obs)
        both = torch.cat([old, own], dim=1)
        q = agent.q(agent.critic, torch.cat([obs, obs], dim=1), both).amin(1)
        q_old, q_own = q.chunk(2, dim=1)
        kept = sigmoid(self.hyper.inverse_temperature[:, None] * (q_old - q_own))
        if better is not None:
            kept = torch.where(better, (q_old >= q_own).float(), kept)
        return torch.where((u < kept)[..., None], old, own)

    @torch.no_grad()
    def act(self, obs: Tensor, draws: Draws) -> Tensor:
        """One of both policies' actions."""
        obs = self.agent.view(obs[:, None])
        own = self.agent.policy.sample(obs, draws.normal("explore", 1, self.task.act_size))
        return self.choose(obs, own, draws.uniform("choice", 1))[:, 0]

    @torch.no_grad()
    def greedy(self, obs: Tensor, draws: Draws) -> Tensor:
        """Mostly the better one of both means."""
        obs, policy, n = self.agent.view(obs), self.agent.policy, obs.shape[1]
        sample = policy.sample(obs, draws.normal("explore", n, self.task.act_size))
        u = draws.uniform("choice", n, 3)
        mean, better = (u[..., :2] < self.hyper.mean_probability[:, None, None]).unbind(-1)
        own = torch.where(mean[..., None], policy.mode(obs), sample)
        return self.choose(obs, own, u[..., 2], better)
