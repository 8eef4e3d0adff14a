"""Filter (GDE, A.3.1): fine-tuning with the best trajectories of the dataset instead of all.

Numbered departures from the paper:
    1. Whole trajectories, the one that reaches the fraction included (specs/gde.md 3).
"""

from __future__ import annotations

from dataclasses import dataclass

from o2okit.data import Dataset
from o2okit.data.returns import top_fraction
from o2okit.hyper import static
from o2okit.methods.base import Naive


@dataclass(frozen=True)
class FilterHyperparameters:
    """Default: specs/gde.md 3."""

    fraction: float = static(0.2, "", "spec 3, of the transitions", low=1e-6, high=1)


class Filter(Naive):
    """Plain fine-tuning on a part of the dataset; arguments as for ``Naive``."""

    Hyperparameters = FilterHyperparameters
    replay = "mixed"
    backbones = ("bc", "td3+bc", "awac", "iql", "cql", "cal-ql")

    def select(self, dataset: Dataset) -> Dataset:
        """The trajectories of highest return."""
        rows = top_fraction(dataset, self.hyper.fraction)
        return dataset.select(rows, f"best {self.hyper.fraction:.0%}")
