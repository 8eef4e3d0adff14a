"""GDE, Section 5.3: how often the teacher is renewed, how strongly it guides (Fig. 6b, c).

Numbered departures from the paper:
    1. N = T/F in 5, 10, 20, 50 and ρ in .001, .1, .3, .5, 1; the paper names .001 alone (specs/gde.md 4).
    2. F counts steps of learning only. A stage of scoring goes with each, so that a small F leaves fewer
       updates: with T = 250,000 and L = 5,000 it is 225,000 for N = 5 and 125,000 for N = 50. The laptop's L
       is a larger share of T (8 %, not 2 %): 17,000 and 5,000 of 25,000 steps. There N = 50 learns less,
       whatever the teacher does.
    3. "Early" is the area under the curve of the first quarter of T, and its claim compares N = 5 with 50.
    4. "Insensitive except where very small": ρ = .001 ends below each other ρ, and these end alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from o2okit.papers.declarations import Amounts
from o2okit.papers.gde import entries as e
from o2okit.papers.grid import Entry, GridStudy, Panel
from o2okit.report.curves import curve_statistic

MAZE = "antmaze-medium-diverse-v0"
EARLY = 0.25  # of T: departure 3


def renewed(times: int) -> Callable[[Amounts], int]:
    """F such that T/F is ``times``."""
    return lambda amount: max(1, amount.online_steps // times)


TIMES = tuple(
    e.iql(f"N = {n}", "", "gde", method_hyper={"fine_tune_steps": renewed(n)})
    for n in (5, 10, 20, 50)
)
TINY, *OTHERS = RHOS = tuple(
    e.iql(f"ρ = {rho:g}", "", "gde", method_hyper={"rho": rho})
    for rho in (0.001, 0.1, 0.3, 0.5, 1.0)
)


class HyperparametersStudy(GridStudy):
    """The study behind ``notebooks/gde/hyperparameters.ipynb``."""

    key = "gde/hyperparameters"
    title = "5.3 Hyper-parameters: how often the teacher is renewed, how strongly it guides"
    panels: ClassVar[Mapping[str, Panel]] = {
        "figure_6b": Panel("Fig. 6b: GDE by N = T/F", TIMES, curves=True, tasks=(MAZE,)),
        "figure_6c": Panel("Fig. 6c: GDE by ρ", RHOS, curves=True, tasks=(MAZE,)),
    }
    amounts = e.amounts(laptop={"tasks": (MAZE,)}, paper={"tasks": (MAZE,)})
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"antmaze": (MAZE,)}
    statistics = e.STATISTICS
    stand_in = e.STAND_IN

    def early(self, task: str, entry: Entry) -> np.ndarray:
        """Area per step under the first quarter of each seed's curve ``[seeds]``."""
        curves = [self.curve(task, entry, seed) for seed in self.seeds]
        first = [curve[curve["step"] <= EARLY * self.amount.online_steps] for curve in curves]
        return np.array([curve_statistic("area", part["score"], part["step"]) for part in first])

    def _judge(self) -> list[dict[str, Any]]:
        alike = [(lhs, "~", rhs) for lhs, rhs in itertools.combinations(TIMES, 2)]
        tiny = [(TINY, "<", other) for other in OTHERS]
        tiny += [(lhs, "~", rhs) for lhs, rhs in itertools.combinations(OTHERS, 2)]
        return [
            self.judge_pairs("gde-11", "all", "antmaze", [(TIMES[0], "<", TIMES[-1])], self.early),
            self.judge_pairs("gde-12", "all", "antmaze", alike),
            self.judge_pairs("gde-13", "all", "antmaze", tiny),
        ]
