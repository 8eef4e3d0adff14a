"""QCSE, Section 6.1 and E: against other ways to fine-tune a CQL agent (Fig. 5, Table 12).

Numbered departures from the paper:
    1. Everything is run with the same amounts; the paper quotes part of it, and SUNG's own code stops after
       100,000 steps (specs/qcse.md E8; ours of that length are points of ``table_12_curves``). Plain CQL
       stands beside its columns.
    2. BR is balanced replay with one agent (spec 3 of samg.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from o2okit.papers.grid import Entry, GridStudy, Panel
from o2okit.papers.qcse import entries as e

MEDIUM, REPLAY = e.MEDIUM[:3], e.REPLAY[:3]  # without ant
OTHERS = tuple(
    Entry(label, f"cql+{label.lower()}", "cql", method)
    for label, method in (
        ("APL", "apl"),
        ("PEX", "pex"),
        ("BR", "balanced-replay"),
        ("SUNG", "sung"),
    )
)
PLAIN = e.on("cql", "CQL", "table_1:cql")
COLUMNS = (PLAIN, *OTHERS, e.CQL_QCSE)


class O2OMethodsStudy(GridStudy):
    """The study behind ``notebooks/qcse/o2o_methods.ipynb``."""

    key = "qcse/o2o_methods"
    title = "6.1 QCSE and other fine-tuning methods"
    panels: ClassVar[Mapping[str, Panel]] = {
        "table_12": Panel("Table 12: ways to fine-tune a CQL agent", COLUMNS),
        "figure_5": Panel("Fig. 5: mean of all tasks", COLUMNS, aggregate="mean"),
        "table_12_curves": Panel("Ours: learning curves behind Table 12", COLUMNS, curves=True),
    }
    amounts = e.amounts(laptop=e.SHORT, paper={"tasks": (*e.ANTMAZE, *MEDIUM, *REPLAY)})
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "antmaze": e.ANTMAZE,
        "medium": MEDIUM,
        "medium-replay": REPLAY,
    }
    statistics = e.STATISTICS

    def _judge(self) -> list[dict[str, Any]]:
        return [self.judge_total("qcse-15", "", e.CQL_QCSE, *OTHERS)]
