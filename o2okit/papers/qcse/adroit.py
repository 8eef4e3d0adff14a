"""QCSE, Section 6.1: dexterous hands that are told only whether they succeeded (Table 2).

Numbered departures from the paper:
    1. The spread is that of the seeds; the paper prints that of single episodes (specs/qcse.md E5).
    2. 200,000 steps on the pen, a million on the door in ``paper`` (E17; there is no switch).
    3. The tasks' files are pickled and can't be built (specs/samg.md 4): none is read, another stands in, and
       claims 10 and 11 are not judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from o2okit.papers.grid import GridStudy, Panel
from o2okit.papers.qcse import entries as e

BINARY = ("pen-binary-v0", "door-binary-v0")


class AdroitStudy(GridStudy):
    """The study behind ``notebooks/qcse/adroit.ipynb``."""

    key = "qcse/adroit"
    title = "6.1 Dexterous hands with binary rewards"
    panels: ClassVar[Mapping[str, Panel]] = {
        "table_2": Panel("Table 2: success rates", e.both(e.CONSERVATIVE)),
        "table_2_curves": Panel(
            "Ours: learning curves behind Table 2", e.both(e.CONSERVATIVE), curves=True
        ),
    }
    amounts = e.amounts(
        laptop={**e.SHORT, "tasks": BINARY},
        paper={
            "tasks": BINARY,
            "offline_steps": 20_000,
            "online_steps": 200_000,
            "longer": {BINARY[1]: 5},  # departure 2
        },
    )
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"adroit": BINARY}
    statistics = e.STATISTICS
    stand_in = e.STAND_IN

    def _judge(self) -> list[dict[str, Any]]:
        (cql, ours), (cal, cal_ours) = e.CONSERVATIVE
        return [
            self.judge_tasks("qcse-10", "all", "adroit", ours, [cql]),
            self.judge_tasks("qcse-11", "all", "adroit", cal_ours, [cal]),
        ]
