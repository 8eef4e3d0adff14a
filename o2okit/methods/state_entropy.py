"""SE (Seo et al., 2021): a bonus for rare states, r ← r + λ tanh(log(1 + ε^S)).

ε^S is the distance to the k-th nearest state of the reference set (``o2okit.methods.neighbours``).

Numbered departures from the paper:
    1. Distances of observations, not of a random encoder's features: they are low-dimensional here.
    2. λ tanh and the reference set are QCSE's, so that the signals alone differ; VCSE's code divides by a
       running mean or standard deviation instead (specs/qcse.md 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from o2okit.data import Batch
from o2okit.hyper import choice, per_run, static
from o2okit.methods.intrinsic import Intrinsic, IntrinsicHyperparameters, Rows
from o2okit.methods.neighbours import moments, state_bonus, up_to_kth
from o2okit.tasks import Task

NEAREST = {"walker2d": 20, "hopper": 10}  # k by robot; the other tasks': 25 AntMaze, 15


@dataclass(frozen=True)
class NeighbourHyperparameters(IntrinsicHyperparameters):
    """Defaults: specs/qcse.md 2."""

    k: int = per_run(15, "k", "spec 2; 20 walker2d, 10 hopper, 25 AntMaze; 0: no bonus")
    size: int = static(128, "M", "spec 2, our decision: rows of the reference set", low=2)
    reference: str = choice("minibatch", "buffer", source="spec 2; buffer: M drawn rows alone")
    s_norm: str = choice("dimensions", "none", "root", "zscore", source="spec 2: s / d_s")


class SE(Intrinsic):
    """State entropy; arguments as for ``Naive``. What the other bonuses by neighbours stand on."""

    Hyperparameters = NeighbourHyperparameters

    @classmethod
    def settings(cls, task: Task, online_steps: int) -> dict[str, Any]:
        """The neighbour by task."""
        return {"k": 25 if task.family == "antmaze" else NEAREST.get(task.environment, 15)}

    def build(self, seeds: Sequence[int]) -> None:
        """The neighbours of each run; λ is 0 where k is."""
        self.up_to = up_to_kth(self.hyper.k.clamp(min=1))
        self.weight = torch.where(self.hyper.k > 0, self.hyper.weight, 0.0)

    def weights(self) -> Tensor:
        """As ``Intrinsic.weights``."""
        return self.weight

    def beside(self) -> int:
        """As ``Intrinsic.beside``."""
        if self.hyper.reference == "buffer":
            return self.hyper.size
        least, _ = self.replay.own_rows(self.places.shape[1])
        return max(self.hyper.size - least, 0)

    def look(self, batch: Batch) -> Rows:
        """The reference set, the queries first."""
        return self.rows(batch, self.hyper.size, only_drawn=self.hyper.reference == "buffer")

    def scaled(self, rows: Rows) -> tuple[Tensor, float]:
        """The states ``[R, N, d]``, and the unit in which their distances are measured."""
        states, size = rows.obs, self.task.obs_size
        if self.hyper.s_norm == "zscore":
            mean, std = moments(states, rows.present)
            states = (states - mean) / (std + 1e-5)
        return states, {"dimensions": size, "root": size**0.5}.get(self.hyper.s_norm, 1.0)

    def bonus(self, batch: Batch) -> Tensor:
        """As ``Intrinsic.bonus``."""
        rows = self.look(batch)
        states, unit = self.scaled(rows)
        return state_bonus(states, rows.present, rows.first, self.up_to, unit=unit)
