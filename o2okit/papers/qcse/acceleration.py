"""QCSE, Section 6.2: a bonus only every n updates (Table 4): score and hours.

Numbered departures from the paper:
    1. Updates between two bonuses have none (specs/qcse.md 2; ``reuse`` would keep a row's last one).
    2. Hours are those of the runs on this machine, a run's share of its cohort: on a CPU the processor's, not
       the clock's, since machines are busy. Claims about them compare hours in percent of the backbone's own;
       "close to" is within 10 percent (the printed hours differ by 6), and "about an hour" or "a lot" any
       more. All seeds share one measurement: such a verdict says nothing of its noise.
    3. The pen's files are pickled and can't be built (specs/samg.md 4): none is read, another stands in, and
       claims 24 to 30 are not judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from o2okit.papers.grid import Entry, GridStudy, Panel
from o2okit.papers.qcse import entries as e

PEN = ("pen-binary-v0",)
CHEETAH = "halfcheetah-medium-v2"  # stands in: Table 3's runs with CQL and Cal-QL are these, too
MARGIN_PERCENT = 10.0  # departure 2
EVERY = (1, 10, 20, 50, 100)


def every(backbone: str, label: str, published: str) -> dict[int, Entry]:
    """The backbone alone (0), and with a bonus every n updates."""
    found = {
        n: e.on(backbone, f"{label} + QCSE, n = {n}", f"{published}+qcse (n={n})", "qcse", every=n)
        for n in EVERY
    }
    return {0: e.on(backbone, label, published), **found}


CAL_QL, CQL = every("cal-ql", "Cal-QL", "cal_ql"), every("cql", "CQL", "cql")
ALL = (*CAL_QL.values(), *CQL.values())


class AccelerationStudy(GridStudy):
    """The study behind ``notebooks/qcse/acceleration.ipynb``."""

    key = "qcse/acceleration"
    title = "6.2 Acceleration: a bonus every n updates"
    panels: ClassVar[Mapping[str, Panel]] = {
        "table_4": Panel("Table 4: score by n", ALL),
        "table_4_hours": Panel("Table 4: hours by n", ALL, hours=True, printed="table_4"),
    }
    amounts = e.amounts(
        smoke={"tasks": (CHEETAH,)},
        laptop={**e.SHORT, "tasks": PEN},
        paper={"tasks": PEN, "offline_steps": 20_000, "online_steps": 200_000},
    )
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"adroit": PEN}
    statistics = e.STATISTICS
    stand_in = CHEETAH

    def percent(self, base: Entry) -> Any:
        """A measure: hours in percent of an entry's."""
        return lambda task, entry: 100 * self.hours(task, entry) / np.mean(self.hours(task, base))

    def _judge(self) -> list[dict[str, Any]]:
        cal, cql = CAL_QL[0], CQL[0]

        def hours(
            claim: str, base: Entry, lhs: Entry, direction: str, rhs: Entry
        ) -> dict[str, Any]:
            return self.judge_pairs(
                *(claim, "all", "", [(lhs, direction, rhs)], self.percent(base)),
                equal_margin=MARGIN_PERCENT,
            )

        slower = {
            f"{task}, {backbone[1].label}": self.compare(
                "qcse-30",
                lambda entry, task=task, base=backbone[0]: self.percent(base)(task, entry),
                *(backbone[1], backbone[0]),
            )
            for task in self.run_of("")
            for backbone in (CQL, CAL_QL)
        }
        return [
            hours("qcse-24", cal, CAL_QL[100], "~", cal),
            self.judge_pairs("qcse-25", "all", "", [(CAL_QL[100], "~", cal)]),
            self.judge_pairs("qcse-26", "all", "", [(CAL_QL[20], ">", cal)]),
            hours("qcse-27", cal, CAL_QL[20], ">", cal),
            hours("qcse-28", cql, CQL[50], "<", CQL[1]),
            self.judge_pairs("qcse-29", "all", "", [(CQL[50], ">", cql)]),
            self.judge_over("qcse-30", "all", slower),
        ]
