"""QCSE, Section 6.1: AWAC, TD3+BC and IQL with the bonus (Fig. 4).

Numbered departures from the paper:
    1. The figure's tasks are not legible in our text: the eight Gym tasks (specs/qcse.md 4).
    2. "Almost all" of task and backbone are nine in ten, by the final scores: ``figure_4_scores``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from o2okit.papers.grid import GridStudy, Panel
from o2okit.papers.qcse import entries as e

PAIRS = ((e.AWAC, e.AWAC_QCSE), (e.TD3_BC, e.TD3_BC_QCSE), (e.IQL, e.IQL_QCSE))


class BackboneStudy(GridStudy):
    """The study behind ``notebooks/qcse/backbones.ipynb``."""

    key = "qcse/backbones"
    title = "6.1 Can QCSE be used with other backbones?"
    panels: ClassVar[Mapping[str, Panel]] = {
        "figure_4": Panel("Fig. 4: AWAC, TD3+BC and IQL with QCSE", e.both(PAIRS), curves=True),
        "figure_4_scores": Panel("Ours: final scores behind Fig. 4", e.both(PAIRS)),
    }
    amounts = e.amounts(
        laptop={"tasks": ("hopper-medium-v2", "walker2d-medium-v2")}, paper={"tasks": e.GYM}
    )
    groups = e.GYM_GROUPS
    statistics = e.STATISTICS

    def _judge(self) -> list[dict[str, Any]]:
        better = [(mine, ">", other) for other, mine in PAIRS]
        return [self.judge_pairs("qcse-12", "nearly all", "", better)]
