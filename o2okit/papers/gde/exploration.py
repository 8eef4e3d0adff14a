"""GDE, Section 4.1: what holds exploration back, and what helps it (Table 1, Fig. 4).

IQL fine-tuned on its own transitions (OnIQL), without its constraint (ReIQL), with a bonus for novelty
(RND), and with a behaviour prior that knows no states (BpIQL).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from o2okit.papers.gde import entries as e
from o2okit.papers.grid import GridStudy, Panel

MAZES = e.ANTMAZE[2:]  # medium and large
CRASH = ("antmaze-large-play-v0",)


class ExplorationStudy(GridStudy):
    """The study behind ``notebooks/gde/exploration.ipynb``."""

    key = "gde/exploration"
    title = "4.1 Exploration: which way to act helps fine-tuning?"
    panels: ClassVar[Mapping[str, Panel]] = {
        "table_1": Panel(
            "Table 1: ways to explore, on IQL's own transitions",
            (e.ON_IQL, e.RE_IQL, e.RND, e.BP_IQL),
        ),
        "table_1_curves": Panel(
            "Ours: learning curves behind Table 1",
            (e.ON_IQL, e.RE_IQL, e.RND, e.BP_IQL),
            curves=True,
        ),
        "figure_4": Panel(
            "Fig. 4: ReIQL's policy on antmaze-large-play",
            (e.RE_IQL,),
            curves=True,
            tasks=CRASH,
        ),
        "figure_4_successes": Panel(
            "Fig. 4: successes per step that the policy collects",
            (e.RE_IQL,),
            curves=True,
            tasks=CRASH,
            metric="successes_per_step",
        ),
    }
    amounts = e.amounts(paper={"tasks": e.LOCOMOTION + MAZES})
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = e.GROUPS | {"antmaze": MAZES}
    statistics = e.STATISTICS

    def _judge(self) -> list[dict[str, Any]]:
        return [
            self.judge_tasks("gde-20", "some", "locomotion", e.RE_IQL, [e.ON_IQL]),
            self.judge_tasks("gde-21", "all", "antmaze", e.RE_IQL, [e.ON_IQL]),
            self.judge_total("gde-22", "", e.RND, e.ON_IQL),
            self.judge_total("gde-23", "", e.BP_IQL, e.ON_IQL),
            self.judge_crash(),
        ]

    def judge_crash(self) -> dict[str, Any]:
        """Fig. 4: the best of the last tenth against half of the offline score (specs/gde.md 2.9).

        An agent that scores nothing to begin with cannot fall.
        """
        best, half, run = [], [], 0
        for task in self.tasks_of("figure_4"):
            for seed in self.seeds:
                score, run = self.curve(task, e.RE_IQL, seed)["score"], run + 1
                if score.iloc[0] > 0:
                    best.append(score.iloc[-math.ceil(len(score) / 10) :].max())
                    half.append(score.iloc[0] / 2)
        if run and not best and self.profile != "smoke":
            why = f"none of {run} offline agents scores above zero, so that none can fall"
            return self.not_observed("gde-40", why)
        return self.judge("gde-40", best, half, paired=True)
