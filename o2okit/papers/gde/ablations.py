"""GDE, Section 5.5: what each of its parts contributes (Table 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from o2okit.papers.gde import entries as e
from o2okit.papers.grid import GridStudy, Panel

PARTS = (e.NO_EXPLOIT, e.NO_EXPLORE, e.NO_TEACHER)


class AblationStudy(GridStudy):
    """The study behind ``notebooks/gde/ablations.ipynb``."""

    key = "gde/ablations"
    title = "5.5 Ablations: exploitation, exploration, teacher, n-step sums"
    panels: ClassVar[Mapping[str, Panel]] = {
        "table_4": Panel("Table 4: GDE without one of its parts", (*PARTS, e.NO_N_STEP, e.GDE)),
        "table_4_curves": Panel(
            "Ours: learning curves behind Table 4", (*PARTS, e.NO_N_STEP, e.GDE), curves=True
        ),
    }
    amounts = e.AMOUNTS
    groups = e.GROUPS
    statistics = e.STATISTICS

    def _judge(self) -> list[dict[str, Any]]:
        parts = {"locomotion": PARTS, "antmaze": (*PARTS, e.NO_N_STEP)}
        lower = {
            f"{group}, {part.label}": self.compare(
                "gde-16", lambda entry, group=group: self.total(entry, group), e.GDE, part
            )
            for group, removed in parts.items()
            if self.run_of(group)
            for part in removed
        }
        missing = sum(len(removed) for group, removed in parts.items() if not self.run_of(group))
        return [
            self.judge_over("gde-16", "all", lower, missing),
            self.judge_total("gde-17", "locomotion", e.NO_EXPLORE, e.NO_EXPLOIT, e.NO_TEACHER),
            self.judge_total(
                *("gde-18", "antmaze", e.NO_TEACHER),
                *(e.NO_EXPLOIT, e.NO_EXPLORE, e.NO_N_STEP),
            ),
            self.judge_total("gde-19", "antmaze", e.GDE, e.NO_N_STEP),
        ]
