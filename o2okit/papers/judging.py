"""Claims of grids: numbers per seed, compared between entries, on one task or over several.

Numbered decisions of ours:
    1. Seeds are paired where both sides start from the same offline agent.
    2. A total, or any number over several tasks, is computed for each seed; its interval is over seeds.
    3. A spread is the mean distance of the seeds from their mean, so that it has an interval, too. The
       interval is too narrow: its resamples keep the mean of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from o2okit.papers import values
from o2okit.papers.declarations import Entry
from o2okit.report import verdicts
from o2okit.report.statistics import iqm

Group = str | Sequence[str]
"""The name of one of a study's groups, ``""`` for all of them together, or tasks."""


class Judging:
    """What a grid study adds to ``Study``'s ``judge``: it has groups, tasks, seeds, and ``scores``."""

    groups: ClassVar[Mapping[str, tuple[str, ...]]]
    tasks: list[str]
    profile: str
    scores: Callable[[str, Entry], np.ndarray]
    row: Callable[..., dict[str, Any]]

    # --- numbers over tasks -----------------------------------------------------------------------
    def named(self, group: Group) -> tuple[str, ...]:
        """The tasks of a group."""
        if not isinstance(group, str):
            return tuple(group)
        parts = [self.groups[group]] if group else self.groups.values()
        return tuple(name for part in parts for name in part)

    def not_run(self, group: Group) -> int:
        """How many of a group's tasks are not run."""
        return len(self.named(group)) - len(self.run_of(group))

    def run_of(self, group: Group) -> list[str]:
        """The tasks of a group that are run."""
        named = self.named(group)
        return [name for name in self.tasks if name in named]

    def total(self, entry: Entry, group: Group) -> np.ndarray:
        """Sum of the scores over the group's tasks that are run ``[seeds]``, empty where none is."""
        scores = [self.scores(name, entry) for name in self.run_of(group)]
        return np.sum(scores, axis=0) if scores else np.array([])

    def middle(self, entry: Entry, group: Group) -> np.ndarray:
        """Of each seed, the interquartile mean over the group's tasks that are run ``[seeds]``."""
        scores = [self.scores(name, entry) for name in self.run_of(group)]
        return np.array([iqm(list(seed)) for seed in zip(*scores, strict=True)])

    def spread(self, entry: Entry, group: Group) -> np.ndarray:
        """How far each seed is from the mean over seeds, on average over the group's tasks ``[seeds]``.

        Empty for fewer than three seeds: two are equally far from their mean, whatever they are.
        """
        scores = [self.scores(name, entry) for name in self.run_of(group)]
        away = [np.abs(each - each.mean()) for each in scores if len(each) > 2]
        return np.mean(away, axis=0) if away else np.array([])

    # --- verdicts ---------------------------------------------------------------------------------
    def compare(
        self, claim_id: str, measure: Callable[[Entry], np.ndarray], lhs: Entry, rhs: Entry
    ) -> verdicts.ClaimVerdict:
        """The verdict on one comparison of a published claim.

        Seeds are paired where both sides start from the same offline agent.
        """
        return verdicts.claim_verdict(
            measure(lhs),
            measure(rhs),
            values.claim(claim_id).direction,
            profile=self.profile,
            paired=self.paired(lhs, rhs),
        )

    @staticmethod
    def paired(lhs: Entry, rhs: Entry) -> bool:
        """Whether seeds of two entries start from the same offline agent."""
        return lhs.pretrained and rhs.pretrained and lhs.backbone == rhs.backbone

    def judge_over(
        self,
        claim_id: str,
        rule: str,
        each: Mapping[str, verdicts.ClaimVerdict],
        missing: int = 0,
    ) -> dict[str, Any]:
        """The row of a published claim about several comparisons, by one of ``verdicts.RULES``.

        ``missing``: how many of the claim's comparisons are not among them.
        """
        found = verdicts.over_tasks(each, rule, missing)
        return self.row(claim_id, values.claim(claim_id).statement, found)

    def judge_sides(
        self,
        claim_id: str,
        rule: str,
        sides: Mapping[str, tuple[np.ndarray, np.ndarray]],
        missing: int = 0,
    ) -> dict[str, Any]:
        """As ``judge_over``, from the two sides ``[seeds]`` of each comparison, which are not paired."""
        direction = values.claim(claim_id).direction
        each = {
            name: verdicts.claim_verdict(lhs, rhs, direction, profile=self.profile)
            for name, (lhs, rhs) in sides.items()
        }
        return self.judge_over(claim_id, rule, each, missing)

    def judge_measure(
        self, claim_id: str, measure: Callable[[Entry], np.ndarray], lhs: Entry, *others: Entry
    ) -> dict[str, Any]:
        """The row of a published claim about one number per seed, against one entry or all of several."""
        each = {rhs.label: self.compare(claim_id, measure, lhs, rhs) for rhs in others}
        if len(each) > 1:
            return self.judge_over(claim_id, "all", each)
        return self.row(claim_id, values.claim(claim_id).statement, *each.values())

    def judge_total(
        self, claim_id: str, group: Group, lhs: Entry, *others: Entry
    ) -> dict[str, Any]:
        """The row of a published claim about the sum over a group's tasks, as ``judge_measure``.

        Of the tasks that are run: the reason says how many.
        """
        row = self.judge_measure(claim_id, lambda entry: self.total(entry, group), lhs, *others)
        return self.counted(row, group)

    def counted(
        self, row: dict[str, Any], group: Group = "", what: str = "sum of"
    ) -> dict[str, Any]:
        """The row of a claim about all tasks of a group together; the reason says how many were run.

        It is contradicted by all of them alone, as in ``verdicts.over_tasks``: the others could save it.
        """
        run, named = self.run_of(group), self.named(group)
        row |= {"reason": f"{row['reason']}; {what} {len(run)} of {len(named)} tasks"}
        if len(run) < len(named) and row["verdict"] == verdicts.ClaimOutcome.CONTRADICTED:
            row |= {"verdict": str(verdicts.ClaimOutcome.UNDECIDED)}
            row["reason"] += ", and the others could save it"
        return row

    def judge_tasks(
        self, claim_id: str, rule: str, group: Group, lhs: Entry, others: Sequence[Entry]
    ) -> dict[str, Any]:
        """The row of a published claim about several tasks, by one of ``verdicts.RULES``.

        On a task it holds against all others: a method is best there, or it is not.
        """
        each = {}
        for task in self.run_of(group):
            found = {
                rhs.label: self.compare(
                    claim_id, lambda e, task=task: self.scores(task, e), lhs, rhs
                )
                for rhs in others
            }
            each[task] = verdicts.over_tasks(found, "all") if len(found) > 1 else found.popitem()[1]
        return self.judge_over(claim_id, rule, each, self.not_run(group))

    def judge_pairs(
        self,
        claim_id: str,
        rule: str,
        group: Group,
        pairs: Sequence[tuple[Entry, str, Entry]],
        measure: Callable[[str, Entry], np.ndarray] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """As ``judge_tasks``, of any comparisons; of the ``measure`` of task and entry, or the scores.

        ``options``: as for ``verdicts.claim_verdict``.
        """
        measure = measure or self.scores
        each = {
            f"{task}, {lhs.label} {direction} {rhs.label}": verdicts.claim_verdict(
                measure(task, lhs),
                measure(task, rhs),
                direction,
                profile=self.profile,
                paired=self.paired(lhs, rhs),
                **options,
            )
            for task in self.run_of(group)
            for lhs, direction, rhs in pairs
        }
        return self.judge_over(claim_id, rule, each, self.not_run(group) * len(pairs))
