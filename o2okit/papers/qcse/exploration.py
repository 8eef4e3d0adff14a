"""QCSE, Section 6.1: against other bonuses (Table 3), and against none that knows anything (ours).

Numbered departures from the paper:
    1. SE, announced without results (specs/qcse.md E12), and a constant bonus stand beside CQL's columns.
    2. All bonuses are λ tanh(b) on own rows, so that only the signal differs (spec 2).
    3. Where Table 3 puts the other bonuses beside none the paper does not say in words: findings of ours,
       each with the order that it prints (spec 1, C8).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from o2okit.papers.grid import GridStudy, Panel
from o2okit.papers.qcse import entries as e

TASKS = (*e.ANTMAZE[:2], "halfcheetah-medium-v2", "walker2d-medium-v2", "ant-medium-v2")
BONUSES = (("VCSE", "vcse", "vcse"), ("RND", "rnd", "rnd-bonus"))
CONTROLS = (("SE", "", "se"), ("constant", "", "const"))


def columns(backbone: str, label: str, published: str, bonuses: tuple) -> tuple:
    """The backbone with each bonus."""
    return tuple(
        e.on(backbone, f"{label} + {name}", f"{published}+{printed}" if printed else "", method)
        for name, printed, method in bonuses
    )


CQL_VCSE, CQL_RND = columns("cql", "CQL", "cql", BONUSES)
CAL_VCSE, CAL_RND = columns("cal-ql", "Cal-QL", "cal_ql", BONUSES)
CQL_SE, CQL_CONST = columns("cql", "CQL", "cql", CONTROLS)
PRINTED = (e.CQL, CQL_VCSE, CQL_RND, e.CQL_QCSE, e.CAL_QL, CAL_VCSE, CAL_RND, e.CAL_QL_QCSE)
AS_PRINTED = (
    (e.CQL, CQL_VCSE),
    (e.CQL, CQL_RND),
    (CAL_VCSE, e.CAL_QL),
    (e.CAL_QL, CAL_RND),
)  # departure 3
OURS = (e.CQL, CQL_CONST, CQL_SE, CQL_VCSE, CQL_RND, e.CQL_QCSE)


class ExplorationStudy(GridStudy):
    """The study behind ``notebooks/qcse/exploration.ipynb``."""

    key = "qcse/exploration"
    title = "6.1 QCSE and other bonuses"
    panels: ClassVar[Mapping[str, Panel]] = {
        "table_3": Panel("Table 3: bonuses on CQL and Cal-QL", PRINTED),
        "bonuses": Panel("Ours: CQL with every bonus, and with a constant one", OURS),
        "bonuses_curves": Panel("Ours: learning curves of CQL", OURS, curves=True),
    }
    amounts = e.amounts(
        laptop={**e.SHORT, "tasks": ("halfcheetah-medium-v2",)}, paper={"tasks": TASKS}
    )
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"antmaze": TASKS[:2], "medium": TASKS[2:]}
    statistics = e.STATISTICS
    stand_in = e.STAND_IN

    def _judge(self) -> list[dict[str, Any]]:
        def total(claim: str, on_cql: Any, on_cal_ql: Any) -> dict[str, Any]:
            pairs = ((e.CQL_QCSE, on_cql), (e.CAL_QL_QCSE, on_cal_ql))
            each = {
                f"{lhs.label} against {rhs.label}": self.compare(
                    claim, lambda entry: self.total(entry, ""), lhs, rhs
                )
                for lhs, rhs in pairs
                if self.run_of("")
            }
            return self.counted(self.judge_over(claim, "all", each))

        def own(number: int, lhs: Any, rhs: Any) -> dict[str, Any]:
            words = f"{lhs.label} ends above {rhs.label} (sum over tasks)"
            sides = self.total(lhs, ""), ">", self.total(rhs, "")
            return self.counted(self.judge_own(number, words, *sides, paired=self.paired(lhs, rhs)))

        return [
            total("qcse-13", CQL_VCSE, CAL_VCSE),
            total("qcse-14", CQL_RND, CAL_RND),
            own(1, e.CQL_QCSE, CQL_CONST),
            *(own(number, *pair) for number, pair in enumerate(AS_PRINTED, start=2)),
        ]
