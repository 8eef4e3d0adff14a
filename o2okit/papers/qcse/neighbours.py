"""QCSE, Section 6.2: which neighbour (Fig. 6), and how strong a bonus (D.3).

Numbered departures from the paper:
    1. k = 20 stands beside the tested ones (specs/qcse.md E15), k = 0 is CQL; medium data of both robots
       (spec 4).
    2. "Depends notably" asks on each task for more spread between the means of all k than the margin, and
       than the same scores shuffled within seeds have (``verdicts.dependence_verdict``). Two earlier rules,
       by which the first run counted as supported, took chance for a dependence: each seed's best k against
       its worst, and those that the other seeds chose.
    3. λ in .1, .5, 1, 2: the paper shows none; "saturates" asks that on most tasks λ = 1 ends at most five
       points below each other.
    4. "Best k about 20, 10, 25" compares that k with the robots' own (10 and 20), with no bonus at all and
       with the largest k.
    5. The bonus's normalisations and the self-inclusive distance are looked at in ``what_the_bonus_is``,
       on recorded transitions alone; λ is swept on this section's tasks (spec 4 has two others).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from o2okit.papers.grid import GridStudy, Panel
from o2okit.papers.qcse import entries as e
from o2okit.report.verdicts import dependence_verdict

WALKER, HOPPER, MAZE = "walker2d-medium-v2", "hopper-medium-v2", e.ANTMAZE[0]
TASKS = (WALKER, HOPPER, MAZE)
K = (10, 15, 20, 25, 50, 85, 100, 110)
BY_K = {
    0: replace(e.CQL, label="k = 0", published=""),
    **{k: e.on("cql", f"k = {k}", "", "qcse", k=k) for k in K},
}
BY_WEIGHT = {w: e.on("cql", f"λ = {w:g}", "", "qcse", weight=w) for w in (0.1, 0.5, 1.0, 2.0)}
PRINTED = {WALKER: 20, HOPPER: 10, MAZE: 25}  # claims 18 and 19
OTHERS = (0, 10, 20, 110)  # what they are compared with: departure 4


class NeighbourStudy(GridStudy):
    """The study behind ``notebooks/qcse/neighbours.ipynb``."""

    key = "qcse/neighbours"
    title = "6.2 Ablation: which neighbour?"
    panels: ClassVar[Mapping[str, Panel]] = {
        "figure_6": Panel("Fig. 6: CQL + QCSE by k", tuple(BY_K.values())),
        "figure_6_curves": Panel("Ours: learning curves by k", tuple(BY_K.values()), curves=True),
        "weights": Panel("Ours: CQL + QCSE by λ", tuple(BY_WEIGHT.values())),
    }
    amounts = e.amounts(laptop=e.SHORT, paper={"tasks": TASKS})
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"medium": TASKS[:2], "antmaze": TASKS[2:]}
    statistics = e.STATISTICS

    def _judge(self) -> list[dict[str, Any]]:
        def above(claim: str, group: str) -> dict[str, Any]:
            """The claim that on each task its printed k ends above the others (departure 4)."""
            asked = [
                (t, PRINTED[t], k) for t in self.named(group) for k in OTHERS if k != PRINTED[t]
            ]
            each = {
                f"{task}, {BY_K[best].label} against {BY_K[k].label}": self.compare(
                    claim, lambda entry, task=task: self.scores(task, entry), BY_K[best], BY_K[k]
                )
                for task, best, k in asked
                if task in self.tasks
            }
            return self.judge_over(claim, "all", each, len(asked) - len(each))

        by_k = {
            task: dependence_verdict(
                [self.scores(task, entry) for entry in BY_K.values()], profile=self.profile
            )
            for task in self.run_of("")
        }
        weights = [entry for weight, entry in BY_WEIGHT.items() if weight != 1.0]
        return [
            self.judge_over("qcse-17", "all", by_k, self.not_run("")),
            above("qcse-18", "medium"),
            above("qcse-19", "antmaze"),
            self.judge_tasks("qcse-33", "most", "", BY_WEIGHT[1.0], weights),
        ]
