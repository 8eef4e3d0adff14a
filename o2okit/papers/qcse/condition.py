"""QCSE, Section 4.1: whether to condition on Q or on V (Fig. 2).

Numbered departures from the paper:
    1. The figure's tasks are not legible in our text: the eight Gym tasks (specs/qcse.md 4).
    2. "Better overall" is judged by the sum of the final scores; ``figure_2_scores`` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from o2okit.papers.grid import GridStudy, Panel
from o2okit.papers.qcse import entries as e

VCSE = e.on("awac", "AWAC + VCSE", "", "vcse")
LINES = (e.AWAC, VCSE, e.AWAC_QCSE)


class ConditionStudy(GridStudy):
    """The study behind ``notebooks/qcse/condition.ipynb``."""

    key = "qcse/condition"
    title = "4.1 Is it better to condition on Q or on V?"
    panels: ClassVar[Mapping[str, Panel]] = {
        "figure_2": Panel("Fig. 2: AWAC with a bonus conditioned on V or on Q", LINES, curves=True),
        "figure_2_scores": Panel("Ours: final scores behind Fig. 2", LINES),
    }
    amounts = e.amounts(paper={"tasks": e.GYM})
    groups = e.GYM_GROUPS
    statistics = e.STATISTICS

    def _judge(self) -> list[dict[str, Any]]:
        return [self.judge_total("qcse-16", "", e.AWAC_QCSE, VCSE)]
