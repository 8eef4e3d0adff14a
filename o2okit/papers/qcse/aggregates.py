"""QCSE, Section F.3: all tasks of Table 1 together (Fig. 11). The runs are Table 1's.

Numbered departures from the paper:
    1. The median is that of the tasks' means; intervals are stratified bootstraps, as rliable's. Verdicts
       compare each seed's aggregate over the tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from o2okit.papers.grid import Entry, GridStudy, Panel
from o2okit.papers.qcse import entries as e
from o2okit.report import statistics

LINES = e.both(e.CONSERVATIVE)
KINDS = ("median", "iqm", "mean")


class AggregateStudy(GridStudy):
    """The study behind ``notebooks/qcse/aggregates.ipynb``."""

    key = "qcse/aggregates"
    title = "F.3 Aggregates over tasks"
    panels: ClassVar[Mapping[str, Panel]] = {
        f"figure_11_{kind}": Panel(f"Fig. 11: {kind} of all tasks", LINES, aggregate=kind)
        for kind in KINDS
    }
    amounts = e.amounts(laptop=e.SHORT)
    groups = e.GROUPS
    statistics = e.STATISTICS

    def each_seed(self, kind: str, entry: Entry) -> np.ndarray:
        """The aggregate over the tasks that are run, of each seed ``[seeds]``."""
        scores = [self.scores(task, entry) for task in self.run_of("")]
        how = getattr(statistics, kind)
        return np.array([how([[one] for one in seed]) for seed in zip(*scores, strict=True)])

    def _judge(self) -> list[dict[str, Any]]:
        each = {
            f"{kind}, {mine.label}": self.compare(
                "qcse-32", lambda entry, kind=kind: self.each_seed(kind, entry), mine, other
            )
            for kind in KINDS
            for other, mine in e.CONSERVATIVE
        }
        return [self.counted(self.judge_over("qcse-32", "all", each), what="over")]
