"""GDE, Section C.1: SAC from scratch, without the dataset and with it in the replay (Table 8).

Numbered departures from the paper:
    1. "Near 0 on AntMaze" is: within five points of 0, on every maze, with and without the dataset.
    2. "Sometimes hurts ... in the random tasks" is: in most of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from o2okit.papers.gde import entries as e
from o2okit.papers.grid import GridStudy, Panel

SAC = e.renamed(e.SCRATCH, "SAC", "sac (from_scratch)")
ENTRIES = (SAC, e.PRELOADED, e.GDE)


class SACStudy(GridStudy):
    """The study behind ``notebooks/gde/sac.ipynb``."""

    key = "gde/sac"
    title = "C.1 Comparison with SAC with a preloaded buffer"
    panels: ClassVar[Mapping[str, Panel]] = {
        "table_8": Panel("Table 8: SAC from scratch and GDE", ENTRIES),
        "table_8_curves": Panel("Ours: learning curves behind Table 8", ENTRIES, curves=True),
    }
    amounts = e.amounts(laptop={"tasks": (*e.AMOUNTS["laptop"].tasks, "hopper-random-v2")})
    groups = e.GROUPS
    statistics = e.STATISTICS

    def _judge(self) -> list[dict[str, Any]]:
        nothing = np.zeros(len(self.seeds))
        sides = {
            f"{task}, {entry.label}": (self.scores(task, entry), nothing)
            for task in self.run_of("antmaze")
            for entry in (e.PRELOADED, SAC)
        }
        return [
            self.judge_tasks("gde-28", "most", e.RANDOM, e.PRELOADED, [SAC]),
            self.judge_sides("gde-29", "all", sides, 2 * self.not_run("antmaze")),
        ]
