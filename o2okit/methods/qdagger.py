"""QDagger (Agarwal et al., 2022, "Reincarnating RL"): imitation of the offline policy until it is surpassed.

    L_π ← L_π + λ max(0, 1 - G_π / G_T) mean_B KL(π_T(·|s) ‖ π(·|s))

π_T is the frozen offline policy, G its normalised return, G_π that of the last evaluation.

Numbered departures from the paper (specs/gde.md 3):
    1. Continuous control: the divergence is the policies', not that of softmax values.
    2. No phase of imitation on the dataset alone: the agent starts as the teacher.
    3. A teacher without any return (G_T <= 0) is followed only as long as the agent is worse. Returns of
       a task without reference scores are taken as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from o2okit.backbones.base import Loss
from o2okit.data import Batch, Dataset
from o2okit.hyper import per_run, static
from o2okit.methods.base import Naive
from o2okit.tasks import Task, normalised_score


@dataclass(frozen=True)
class QDaggerHyperparameters:
    """Defaults: specs/gde.md 3."""

    weight: float = per_run(0.3, "λ", "spec 3")
    n: int = static(1, "n", "spec 3; 3 AntMaze", low=1)


def distrust(agent: Tensor, teacher: Tensor) -> Tensor:
    """max(0, 1 - G_π / G_T) ``[R]`` of normalised returns ``[R]``: how much there is left to imitate."""
    ratio = (1 - agent / torch.where(teacher > 0, teacher, 1.0)).clamp(min=0)
    return torch.where(teacher > 0, ratio, (agent < teacher).to(ratio))


class QDagger(Naive):
    """QDagger; arguments as for ``Naive``. Discrete policies are compared as softmax(Q / 0.1)."""

    Hyperparameters = QDaggerHyperparameters
    replay = "online"
    backbones = ("td3+bc", "awac", "iql", "cql", "cal-ql", "cql-discrete", "dqn")
    saved_tensors = ("teacher_score", "factor")

    @classmethod
    def settings(cls, task: Task, online_steps: int) -> dict[str, Any]:
        """AntMaze has 3-step sums."""
        return {"n": 3} if task.family == "antmaze" else {}

    def build(self, seeds: Sequence[int]) -> None:
        """The teacher, what it scores (known after the first evaluation), and the factor of λ."""
        self.teacher = self.agent.policy.copy()
        self.teacher_score = torch.full((self.runs,), torch.nan, device=self.device)
        self.factor = torch.zeros(self.runs, device=self.device)

    def prepare(self, dataset: Dataset | None) -> None:
        """The teacher is the offline policy."""
        self.teacher.copy_from(self.agent.policy)

    @property
    def n_step(self) -> int:
        """As ``Naive.n_step``."""
        return self.hyper.n

    def after_evaluation(self, scores: Sequence[Mapping[str, Any]]) -> None:
        """The first evaluation, before any step, is the teacher's."""
        score = np.array([row[self.task.scored] for row in scores])
        if self.task.reference is not None:
            score = normalised_score(self.task.name, score)
        score = torch.from_numpy(score).to(self.factor)
        if self.step == 0:
            self.teacher_score.copy_(score)
        self.factor.copy_(distrust(score, self.teacher_score))

    def actor_loss(self, batch: Batch, own: Loss) -> tuple[Tensor, dict[str, Tensor]]:
        """The backbone's loss and the imitation's."""
        loss, metrics = own()
        distance = self.teacher.kl(self.agent.policy, batch.obs).mean(-1)
        metrics = metrics | {"teacher_kl": distance.detach(), "distrust": self.factor.clone()}
        return loss + self.hyper.weight * self.factor * distance, metrics
