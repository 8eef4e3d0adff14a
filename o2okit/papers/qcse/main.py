"""QCSE, Section 6.1: CQL and Cal-QL with and without QCSE (Table 1, Fig. 3).

Numbered departures from the paper:
    1. Each comparison of claims 7 and 8 asks for a higher end and a larger area under the curve.
    2. The "gap" of claim 9 is how far the first fifth of a curve falls below its start, at most.
    3. ``table_1_best`` has the maximum of each curve: what the paper prints for medium-replay (spec E4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from o2okit.papers.grid import Entry, GridStudy, Panel
from o2okit.papers.qcse import entries as e
from o2okit.report.curves import curve_statistic

OTHERS = (e.IQL, e.AWAC, e.TD3_BC)
LINES = e.both(e.CONSERVATIVE)
EARLY = 0.2  # of the fine-tuning: departure 2


class MainStudy(GridStudy):
    """The study behind ``notebooks/qcse/main.ipynb``."""

    key = "qcse/main"
    title = "6.1 Does QCSE improve CQL and Cal-QL?"
    panels: ClassVar[Mapping[str, Panel]] = {
        "table_1": Panel("Table 1: fine-tuned scores", (*OTHERS, *LINES), unlike=e.REPLAY),
        "table_1_best": Panel(
            "Table 1, medium-replay: the maximum of each run",
            (*OTHERS, *LINES),
            tasks=e.REPLAY,
            statistic="best",
            printed="table_1",
        ),
        "figure_3": Panel("Fig. 3: learning curves", LINES, curves=True),
    }
    amounts = e.amounts(laptop=e.SHORT)
    groups = e.GROUPS
    statistics = e.STATISTICS

    def area(self, task: str, entry: Entry) -> np.ndarray:
        """Area per step under each seed's curve ``[seeds]``."""
        curves = [self.curve(task, entry, seed) for seed in self.seeds]
        return np.array([curve_statistic("area", c["score"], c["step"]) for c in curves])

    def gap(self, task: str, entry: Entry) -> np.ndarray:
        """How far each seed falls below its start in the beginning ``[seeds]``."""
        curves = [self.curve(task, entry, seed) for seed in self.seeds]
        first = [c["score"][c["step"] <= EARLY * self.amount.online_steps] for c in curves]
        return np.array([each.iloc[0] - each.min() for each in first])

    def _judge(self) -> list[dict[str, Any]]:
        (cql, ours), (cal, cal_ours) = e.CONSERVATIVE

        def better(claim: str, mine: Entry, other: Entry) -> dict[str, Any]:
            """Departure 1."""
            measures = {"end": self.scores, "area": self.area}
            each = {
                f"{task}, {name}": self.compare(
                    claim,
                    lambda entry, task=task, measure=measure: measure(task, entry),
                    mine,
                    other,
                )
                for task in self.run_of("")
                for name, measure in measures.items()
            }
            return self.judge_over(claim, "all", each, self.not_run("") * len(measures))

        smoother = [(mine, "<", other) for other, mine in e.CONSERVATIVE]
        return [
            self.judge_total("qcse-01", "", ours, cql),
            self.judge_total("qcse-02", "", cal_ours, cal),
            self.judge_total("qcse-03", "", ours, *OTHERS, cql, cal, cal_ours),
            self.judge_tasks("qcse-04", "nearly all", "", ours, [cql]),
            self.judge_tasks("qcse-05", "nearly all", "", ours, [cal]),
            self.judge_tasks("qcse-06", "all", e.GYM, ours, [cql]),
            better("qcse-07", ours, cql),
            better("qcse-08", cal_ours, cal),
            self.judge_pairs("qcse-09", "most", "", smoother, self.gap),
        ]
