"""GDE, Section C.4: how many rewards a target sums up, on AntMaze (Table 10, Fig. 13).

Numbered departures from the paper:
    1. n = 3 is GDE's own, and n = 1 is Table 4's "w/o n-step": equal settings are equal runs here. The paper
       prints other numbers for them (totals 532.0 and 530.6; 461.3 and 454.2), so it ran them twice.
    2. "Best" and "less efficient" are judged by the AntMaze total, "higher variance" by the spread on the two
       large mazes (``o2okit.papers.judging``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from o2okit.papers.gde import entries as e
from o2okit.papers.grid import GridStudy, Panel

HORIZONS = ONE, THREE, FIVE, TEN = tuple(
    e.renamed(e.GDE, f"n = {n}", f"iql+gde (n={n})", method_hyper={"n": n}) for n in (1, 3, 5, 10)
)
LARGE = e.ANTMAZE[-2:]


class NStepStudy(GridStudy):
    """The study behind ``notebooks/gde/n_step.ipynb``."""

    key = "gde/n_step"
    title = "C.4 More ablation studies: n-step returns"
    panels: ClassVar[Mapping[str, Panel]] = {
        "table_10": Panel("Table 10: rewards that a target sums up", HORIZONS),
        "figure_13": Panel("Fig. 13: rewards that a target sums up", HORIZONS, curves=True),
    }
    amounts = e.amounts(laptop={"tasks": e.ANTMAZE[:2]}, paper={"tasks": e.ANTMAZE})
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"antmaze": e.ANTMAZE}
    statistics = e.STATISTICS
    stand_in = e.STAND_IN

    def _judge(self) -> list[dict[str, Any]]:
        return [
            self.judge_total("gde-32", "antmaze", THREE, ONE, FIVE, TEN),
            self.judge_measure("gde-33", lambda entry: self.spread(entry, LARGE), TEN, THREE),
            self.judge_total("gde-34", "antmaze", ONE, THREE),
        ]
