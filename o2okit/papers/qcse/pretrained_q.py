"""QCSE, Sections 6.2 and F: the pre-trained Q as condition, and what becomes of the entropy (Figs. 7, 9, 10).

Numbered departures from the paper:
    1. "Randomly initialised" (Fig. 7a) and "from scratch" (Fig. 10) are one line: a fresh critic that learns
       online on the same minibatches from the task's reward (specs/qcse.md 2). One that never learns stands
       beside it in ``figure_10_scores``. Fine-tuning keeps the pre-trained Q.
    2. The eight Gym tasks (spec 4). Figs. 7b and 9 are one figure: they differ in tasks.
    3. The entropy is that of a run's own states, of 5,000 of them (spec 2, Eq. 19). "Ends above" looks at
       the last evaluation, and at log ρ alone, whose constants are no one's. A run that has fewer than 5,000
       has a smaller sample, whose estimate is higher: then only lines at the same step compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from o2okit.papers import histories
from o2okit.papers.grid import Entry, GridStudy, Panel
from o2okit.papers.qcse import entries as e
from o2okit.training import MissingAgentError

SCRATCH, FROZEN = (
    e.on("awac", f"AWAC + QCSE, {name}", "", "qcse", cond_net=kind)
    for name, kind in (("Q from scratch", "random"), ("frozen random Q", "frozen"))
)
LINES = (e.AWAC, FROZEN, SCRATCH, e.AWAC_QCSE)


class PretrainedQStudy(GridStudy):
    """The study behind ``notebooks/qcse/pretrained_q.ipynb``."""

    key = "qcse/pretrained_q"
    title = "6.2 Does it need the pre-trained Q, and does the entropy rise?"
    panels: ClassVar[Mapping[str, Panel]] = {
        "figure_7a": Panel(
            "Fig. 7a: a fresh Q that learns, as condition; as Fig. 10",
            (e.AWAC, SCRATCH, e.AWAC_QCSE),
            curves=True,
        ),
        "figure_10": Panel(
            "Fig. 10: a Q from scratch as condition", (e.AWAC, SCRATCH, e.AWAC_QCSE), curves=True
        ),
        "figure_10_scores": Panel("Ours: final scores behind Figs. 7a and 10", LINES),
        "figure_9": Panel(
            "Fig. 9: entropy of the states visited, in nats; 7b is part of it",
            (e.AWAC, e.AWAC_QCSE),
            curves=True,
            metric="state_entropy",
        ),
    }
    amounts = e.amounts(paper={"tasks": e.GYM})
    groups = e.GYM_GROUPS
    statistics = e.STATISTICS

    def log_radius(self, task: str, entry: Entry) -> np.ndarray:
        """Mean log ρ of each seed's states at the end ``[seeds]``; empty where an archive left them out."""
        runs = [self.result(self.spec(task, entry, seed)) for seed in self.seeds]
        try:
            entropies = [histories.state_entropies(run) for run in runs]
        except MissingAgentError:
            return np.array([])
        return np.array([each["mean_log_radius"].iloc[-1] for each in entropies])

    def _judge(self) -> list[dict[str, Any]]:
        higher = [(e.AWAC_QCSE, ">", e.AWAC)]
        return [
            self.judge_total("qcse-20", "", e.AWAC_QCSE, SCRATCH),
            self.judge_tasks("qcse-21", "most", "", e.AWAC_QCSE, [SCRATCH]),
            self.judge_pairs("qcse-22", "all", "", higher, self.log_radius),
            self.judge_pairs("qcse-23", "most", "", higher, self.log_radius),
        ]
