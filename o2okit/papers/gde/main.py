"""GDE, Sections 5.2 and B.7: the benchmark (Table 2, Figs. 6a, 8, 9).

Numbered departures from the paper:
    1. The curves are of what is fine-tuned or trained from scratch; Offline is where most of them begin.
    2. Fig. 6a is judged by each seed's own interquartile mean over tasks; the figure pools all runs, as in
       rliable.
    3. "Many methods" and "most other methods" are more than half of all comparisons, a method on a task.
       "Close to or slightly above" is from five points below to ten above. By this reading the printed table
       itself does not bear it out: 31 of its 90 cells lie there.
    4. "Comparable" (claim 3) is within five points on either side: to be better counts against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from o2okit.papers.gde import entries as e
from o2okit.papers.grid import GridStudy, Panel

ALL = (*e.BASELINES, e.GDE)
NEAR = (5.0, 10.0)  # departure 3: points below and above
OTHERS = (e.AWAC, e.IQL, e.OFF2ON, e.JSRL, e.QDAGGER, e.PEX)  # that fine-tune, and are not GDE


class MainStudy(GridStudy):
    """The study behind ``notebooks/gde/main.ipynb``."""

    key = "gde/main"
    title = "5.2 Experiment results: GDE and eight baselines on D4RL"
    panels: ClassVar[Mapping[str, Panel]] = {
        "table_2": Panel("Table 2: GDE and eight others", ALL),
        "figure_6a": Panel("Fig. 6a: all tasks together", ALL, aggregate="iqm"),
        "figure_8": Panel("Fig. 8: fine-tuning on AntMaze", ALL[1:], curves=True, tasks=e.ANTMAZE),
        "figure_9": Panel(
            "Fig. 9: fine-tuning in locomotion", ALL[1:], curves=True, tasks=e.LOCOMOTION, window=11
        ),
    }
    amounts = e.AMOUNTS
    groups = e.GROUPS
    statistics = e.STATISTICS

    def _judge(self) -> list[dict[str, Any]]:
        below_scratch = [(other, "<", e.SCRATCH) for other in OTHERS]  # departure 3
        near_offline = [(other, "~", e.OFFLINE) for other in OTHERS]
        return [
            self.judge_tasks("gde-01", "most", "", e.GDE, e.BASELINES),
            self.judge_tasks("gde-02", "all", "antmaze", e.GDE, e.BASELINES),
            self.judge_tasks("gde-03", "most", e.RANDOM, e.GDE, [e.SCRATCH]),
            self.judge_pairs("gde-04", "most", e.RANDOM, below_scratch),
            self.judge_total("gde-05", "locomotion", e.GDE, e.OFFLINE),
            self.judge_total("gde-06", "antmaze", e.GDE, e.OFFLINE),
            self.judge_total("gde-07", "locomotion", e.QDAGGER, e.OFFLINE),
            self.judge_total("gde-08", "antmaze", e.QDAGGER, e.OFFLINE),
            self.judge_pairs("gde-09", "most", "", near_offline, equal_margin=NEAR),
            self.counted(
                self.judge_measure(
                    "gde-10", lambda entry: self.middle(entry, ""), e.GDE, *e.BASELINES
                ),
                what="interquartile mean of",
            ),
        ]
