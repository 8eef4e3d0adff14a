"""GDE, Section C.3: four times as many online steps (Table 9, Figs. 11 and 12).

Numbered departures from the paper:
    1. The scores of the short budget are those of runs with that budget, not a look at the long ones: ρ falls
       over the whole of a run. They are Table 2's, and OnIQL's those of Table 1.
    2. "Still strong" is judged by the total over all tasks, against OnIQL and QDagger of the same length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from o2okit.papers.gde import entries as e
from o2okit.papers.grid import Entry, GridStudy, Panel

LONGER = 4  # 1,000,000 steps, not 250,000


def both(entry: Entry, published: str) -> tuple[Entry, Entry]:
    """An entry with the short and with the long budget."""
    return (
        e.renamed(entry, entry.label, f"{published} (250k)"),
        e.renamed(entry, f"{entry.label}, long", f"{published} (1m)", length=LONGER),
    )


PAIRS = (both(e.ON_IQL, "on_iql"), both(e.QDAGGER, "iql+qdagger"), both(e.GDE, "iql+gde"))
ON_IQL, QDAGGER, GDE = LONG = tuple(longer for _, longer in PAIRS)


class LongStudy(GridStudy):
    """The study behind ``notebooks/gde/long.ipynb``."""

    key = "gde/long"
    title = "C.3 Fine-tuning with 1M steps"
    panels: ClassVar[Mapping[str, Panel]] = {
        "table_9": Panel(
            "Table 9: the short and the long budget", tuple(e for pair in PAIRS for e in pair)
        ),
        "figure_11": Panel("Fig. 11: AntMaze, long budget", LONG, curves=True, tasks=e.ANTMAZE),
        "figure_12": Panel(
            "Fig. 12: locomotion, long budget", LONG, curves=True, tasks=e.LOCOMOTION
        ),
    }
    amounts = e.AMOUNTS
    groups = e.GROUPS
    statistics = e.STATISTICS

    def _judge(self) -> list[dict[str, Any]]:
        return [self.judge_total("gde-31", "", GDE, ON_IQL, QDAGGER)]
