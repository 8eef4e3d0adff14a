"""JSRL (Uchendu et al., 2023): the offline policy leads an episode, the student takes over ever earlier.

    a_t = π_g(s_t) for t < h, else a_t ~ π(·|s_t);      h = H (1 - k/10), k = 0, ..., 10

The next k begins when the mean of the last five evaluations of both together is at least the best such
mean so far, less 1 % of it. What is evaluated and reported is the combined policy.

Numbered departures from the paper (specs/gde.md 3):
    1. The student's policy starts from scratch, with the offline critics; ``inherit`` keeps the offline
       policy.
    2. The guide acts by its mean.
    3. The first evaluation, of the guide alone, is the first best. Until there are five evaluations, those
       that there are count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from o2okit.data import Batch, Dataset
from o2okit.hyper import per_run, static
from o2okit.methods.base import Naive
from o2okit.streams import Draws


@dataclass(frozen=True)
class JSRLHyperparameters:
    """Defaults: specs/gde.md 3."""

    stages: int = static(10, "", "spec 3, between h = H and h = 0", low=1)
    evaluations: int = static(5, "", "spec 3, in the mean", low=1)
    tolerance: float = per_run(0.01, "", "spec 3, of the best mean")
    inherit: bool = static(False, "", "spec 3: init='offline'")


class JSRL(Naive):
    """Jump-start RL; arguments as for ``Naive``."""

    Hyperparameters = JSRLHyperparameters
    replay = "online"
    backbones = ("td3+bc", "awac", "iql", "cql", "cal-ql")
    saved_tensors = ("elapsed", "stage", "recent", "best")

    def build(self, seeds: Sequence[int]) -> None:
        """The guide, a fresh student, where each episode and each run's curriculum stand."""
        self.guide, self.student = self.agent.policy.copy(), self.agent.policy.copy()
        self.elapsed, self.stage = torch.zeros(2, self.runs, dtype=torch.long, device=self.device)
        size = (self.runs, self.hyper.evaluations)
        self.recent = torch.full(size, torch.nan, dtype=torch.float64, device=self.device)
        self.best = torch.full((self.runs,), -torch.inf, dtype=torch.float64, device=self.device)

    def prepare(self, dataset: Dataset | None) -> None:
        """The guide is the offline policy; the student forgets it."""
        self.guide.copy_from(self.agent.policy)
        if not self.hyper.inherit:
            self.agent.renew_policy(self.student)

    def guided_steps(self) -> Tensor:
        """H ``[R]``."""
        left = self.hyper.stages - self.stage
        return (self.task.horizon * left).div(self.hyper.stages, rounding_mode="floor")

    @torch.no_grad()
    def act(self, obs: Tensor, draws: Draws) -> Tensor:
        """The guide's mean in the first h steps of an episode, then a sample of the student."""
        lead = self.guide.mode(self.agent.view(obs[:, None]))[:, 0]
        guided = self.elapsed < self.guided_steps()
        return torch.where(guided[:, None], lead, self.agent.act(obs, draws))

    def observe(self, reward: Tensor, ended: Tensor) -> None:
        """Counts the steps of the episodes."""
        self.elapsed.copy_(torch.where(ended, 0, self.elapsed + 1))

    @torch.no_grad()
    def greedy(self, obs: Tensor, draws: Draws) -> Tensor:
        """Both together, each by its mean."""
        lead, own = self.guide.mode(self.agent.view(obs)), self.agent.greedy(obs)
        return torch.where((draws.step < self.guided_steps())[:, None, None], lead, own)

    def after_evaluation(self, scores: Sequence[Mapping[str, Any]]) -> None:
        """Hands over earlier where the combined policy holds its level."""
        latest = torch.tensor([row["return"] for row in scores], dtype=torch.float64)
        self.recent.copy_(torch.cat([self.recent[:, 1:], latest.to(self.recent)[:, None]], dim=1))
        mean, known = self.recent.nanmean(1), self.best.isfinite()
        holds = known & (mean >= self.best - self.hyper.tolerance * self.best.abs())
        self.stage.copy_((self.stage + holds).clamp(max=self.hyper.stages))
        self.best.copy_(torch.maximum(self.best, mean))

    def extra_updates(self, batch: Batch) -> dict[str, Tensor]:
        """Nothing learns here; h is worth knowing."""
        return {"guided_steps": self.guided_steps().float()}
