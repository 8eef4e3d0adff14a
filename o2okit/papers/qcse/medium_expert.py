"""QCSE, Section F.1: data that are half an expert's (Fig. 8).

Numbered departures from the paper:
    1. The figure's tasks are not legible in our text: four robots (specs/qcse.md 4).
    2. "No significant gain" is judged as equal within five points on each task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from o2okit.papers.grid import GridStudy, Panel
from o2okit.papers.qcse import entries as e

LINES = (e.CQL, e.CQL_QCSE)


class MediumExpertStudy(GridStudy):
    """The study behind ``notebooks/qcse/medium_expert.ipynb``."""

    key = "qcse/medium_expert"
    title = "F.1 Medium-expert data"
    panels: ClassVar[Mapping[str, Panel]] = {
        "figure_8": Panel("Fig. 8: CQL with and without QCSE", LINES, curves=True),
        "figure_8_scores": Panel("Ours: final scores behind Fig. 8", LINES),
    }
    amounts = e.amounts(
        smoke={"tasks": ("hopper-medium-expert-v2",)},
        laptop={**e.SHORT, "tasks": ("hopper-medium-expert-v2",)},
        paper={"tasks": e.EXPERT},
    )
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"medium-expert": e.EXPERT}
    statistics = e.STATISTICS

    def _judge(self) -> list[dict[str, Any]]:
        return [self.judge_pairs("qcse-31", "all", "", [(e.CQL_QCSE, "~", e.CQL)])]
