"""GDE, Section A.3: how to use the offline data, and how far seeds lie apart (Table 5, Fig. 7).

Numbered departures from the paper:
    1. OnIQL stands beside Table 5, to which the text compares it; its published values are Table 9's, which
       has them for all fifteen tasks.
    2. Fig. 7 does not name its methods; ours shows IQL, Off2OnRL and GDE.
    3. Off2OnRL is its balanced replay with one IQL agent (``o2okit.methods.balanced_replay``).
    4. "High variance" and "varies widely" are about spreads (``o2okit.papers.judging``): larger than those of
       the other three; of a method on a task, larger than five points. The text says "sometimes".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from o2okit.papers.gde import entries as e
from o2okit.papers.grid import GridStudy, Panel
from o2okit.report.verdicts import MARGIN_POINTS

ON_IQL = e.renamed(e.ON_IQL, "OnIQL", "table_9:on_iql (250k)")
FIGURE_7 = (e.IQL, e.OFF2ON, e.GDE)
WIDE = ("hopper-random-v2", "walker2d-random-v2")
NOT_RANDOM = tuple(name for name in e.LOCOMOTION + e.ANTMAZE if name not in e.RANDOM)


class OfflineDataStudy(GridStudy):
    """The study behind ``notebooks/gde/offline_data.ipynb``."""

    key = "gde/offline_data"
    title = "A.3 Open questions: the offline data, and variance over seeds"
    panels: ClassVar[Mapping[str, Panel]] = {
        "table_5": Panel(
            "Table 5: ways to use the dataset, and OnIQL, which does not",
            (e.IQL, e.FILTER, e.PER, e.OFF2ON, ON_IQL),
        ),
        "figure_7": Panel(
            "Fig. 7: two random datasets", FIGURE_7, curves=True, tasks=WIDE, per_seed=True
        ),
        "figure_7_share": Panel(
            "Fig. 7, upper right: online transitions in Off2OnRL's minibatches",
            (e.OFF2ON,),
            curves=True,
            tasks=WIDE,
            per_seed=True,
            metric="online_share",
        ),
    }
    amounts = e.amounts(
        smoke={"tasks": WIDE[:1]}, laptop={"tasks": (*e.AMOUNTS["laptop"].tasks, *WIDE)}
    )
    groups = e.GROUPS
    statistics = e.STATISTICS

    def _judge(self) -> list[dict[str, Any]]:
        return [
            self.judge_tasks("gde-24", "most", NOT_RANDOM, e.IQL, [ON_IQL]),
            self.judge_tasks("gde-25", "some", "", e.FILTER, [e.IQL]),
            self.judge_own(
                1,
                "gde-25, its second half: over all tasks Filter and IQL are equal, within 5 points a task",
                self.total(e.FILTER, ""),
                "~",
                self.total(e.IQL, ""),
                paired=True,
                equal_margin=MARGIN_POINTS * len(self.run_of("")),
            ),
            self.judge_total("gde-26", "", e.PER, e.IQL),
            self.judge_measure(
                "gde-27", lambda entry: self.spread(entry, ""), e.OFF2ON, e.IQL, e.FILTER, e.PER
            ),
            self.judge_wide(),
            self.judge_total("gde-42", "", ON_IQL, e.IQL),
        ]

    def judge_wide(self) -> dict[str, Any]:
        """Some method's seeds spread more than five points on one of the two tasks (departure 4)."""
        margin = np.full(len(self.seeds), MARGIN_POINTS)
        sides = {
            f"{task}, {entry.label}": (self.spread(entry, [task]), margin)
            for task in self.run_of(WIDE)
            for entry in FIGURE_7
        }
        missing = self.not_run(WIDE) * len(FIGURE_7)
        return self.judge_sides("gde-41", "some", sides, missing)
