"""Studies that are grids: tasks x ways to come by an agent x seeds, from one declaration.

A section names its panels (a table or a figure each) and the ``Entry`` of every column or line. Equal
entries are equal runs, so what two artefacts share is trained once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from o2okit.data import Dataset
from o2okit.errors import UserError
from o2okit.papers import histories, values
from o2okit.papers import parameters as p
from o2okit.papers.amounts import Amounts
from o2okit.papers.study import Study
from o2okit.report import panels, verdicts
from o2okit.report.curves import curve_statistic
from o2okit.report.statistics import bootstrap_interval
from o2okit.tasks import normalised_score
from o2okit.tasks import task as find_task
from o2okit.training import RunSpec, protocol
from o2okit.training.obtain import dataset, why_not


@dataclass(frozen=True)
class Entry:
    """One way to come by an agent: a column of a table, a line of a figure.

    Attributes:
        label: its name in tables and figures.
        published: its name among the published cells (column ``method``); empty where it has none.
        backbone: the offline algorithm.
        method: the fine-tuning method; ``None`` for the offline agent as it is.
        replay: what fine-tuning draws from, where that is not the method's own.
        online_hyper: hyper-parameters of the backbone that change when fine-tuning begins.
        method_hyper: hyper-parameters of the method that are not its own; a function is called with the
            profile's ``Amounts``.
        pretrained: ``False`` for training from scratch.
        preloaded: from scratch with the dataset in the replay.
        family: the only family of tasks that it is run on; empty for all.
        online_backbone: whose losses fine-tune; empty for those of ``backbone``.
    """

    label: str
    published: str = ""
    backbone: str = "iql"
    method: str | None = "naive"
    replay: str | None = None
    online_hyper: Mapping[str, Any] = field(default_factory=dict)
    method_hyper: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = True
    preloaded: bool = False
    family: str = ""
    online_backbone: str = ""


@dataclass(frozen=True)
class Panel:
    """A table or figure.

    Attributes:
        caption: what it shows.
        entries: its columns or lines.
        curves: learning curves; else final scores beside the published ones.
        tasks: those it is about; empty for all of the study's.
        before: with the pre-training's curve, at steps below 0.
        metric: curves of a mean over minibatches instead (``q``), as ``Run.metrics`` has it.
    """

    caption: str
    entries: tuple[Entry, ...]
    curves: bool = False
    tasks: tuple[str, ...] = ()
    before: bool = False
    metric: str = ""


class GridStudy(Study):
    """Base class; a section fills in the class attributes and ``_judge``.

    Class attributes:
        panels: name of the artefact -> what it shows.
        amounts: profile -> how much is run.
        groups: name -> the paper's tasks that are summed up.
        statistics: family of tasks -> statistic of a curve that is the score.
    """

    panels: ClassVar[Mapping[str, Panel]]
    amounts: ClassVar[Mapping[str, Amounts]]
    groups: ClassVar[Mapping[str, tuple[str, ...]]]
    statistics: ClassVar[Mapping[str, str]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if hasattr(cls, "panels"):
            cls.artefacts = {name: panel.caption for name, panel in cls.panels.items()}
            cls.parameters = {
                "profile": p.PROFILE,
                "tasks": p.names(
                    [name for group in cls.groups.values() for name in group],
                    doc="tasks: a list of the paper's, or None (the profile's)",
                ),
                "seeds": p.seeds(),
                "source": p.SOURCE,
                "device": p.DEVICE,
            }

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.amount = self.amounts[self.profile]
        self.seeds: list[int] = self.given["seeds"]
        asked = parameters.get("tasks") is not None
        self.left_out: dict[str, str] = {}
        self.tasks: list[str] = []
        source = self.given["source"]
        for name in self.given["tasks"]:
            if reason := why_not(name, source):
                if asked:
                    raise UserError(reason)
                self.left_out[name] = reason
            else:
                self.tasks.append(name)
        others = dict.fromkeys(map(self.amount.instead.get, self.left_out))
        self.tasks += [n for n in others if n and n not in self.tasks and not why_not(n, source)]
        if not self.tasks:
            raise UserError(f"study {self.key!r}: there are data for none of its tasks. {reason}")

    def defaults(self, profile: str) -> dict[str, Any]:
        """The profile decides tasks and seeds."""
        amount = self.amounts[profile]
        about = {name for panel in self.panels.values() for name in panel.tasks or amount.tasks}
        tasks = [name for name in amount.tasks if name in about]
        own = {"seeds": list(range(amount.seeds)), "tasks": tasks or list(amount.tasks)}
        return {**super().defaults(profile), **own}

    # --- runs -------------------------------------------------------------------------------------
    @cached_property
    def datasets(self) -> dict[str, Dataset]:
        """The dataset of each task; the kit's are built where there are no others."""
        source, rows = self.given["source"], self.amount.rows
        return {name: dataset(name, source=source, rows=rows) for name in self.tasks}

    def offline(self, task: str, entry: Entry, seed: int) -> RunSpec:
        """The pre-training of an entry."""
        return protocol.offline(
            task,
            entry.backbone,
            self.datasets[task],
            self.amount.offline_steps,
            seed,
            eval_every=self.amount.offline_evaluation[0],
            eval_episodes=self.amount.offline_evaluation[1],
        )

    def spec(self, task: str, entry: Entry, seed: int) -> RunSpec:
        """The run that an entry's score is measured on."""
        every, episodes = self.amount.evaluations[find_task(task).family]
        measured = {"eval_every": every, "eval_episodes": episodes}
        if not entry.pretrained:
            return protocol.scratch(
                task,
                entry.backbone,
                self.amount.online_steps,
                seed,
                random_steps=self.amount.random_steps,
                data=self.datasets[task] if entry.preloaded else None,
                **measured,
            )
        start = self.offline(task, entry, seed)
        if entry.method is None:
            return start
        scaled = self.amount.method_hyper.get(entry.method, {})
        own = {k: v(self.amount) if callable(v) else v for k, v in entry.method_hyper.items()}
        return protocol.online(
            start,
            entry.method,
            self.amount.online_steps,
            backbone=entry.online_backbone or None,
            replay=entry.replay,
            hyper=entry.online_hyper,
            method_hyper={**scaled, **own},
            **measured,
        )

    def specs(self) -> list[RunSpec]:
        """Every run of every panel, once."""
        found = [
            spec
            for name, panel in self.panels.items()
            for task in self.tasks_of(name)
            for entry in self.entries_of(name, task)
            for seed in self.seeds
            for spec in histories.specs(self.spec(task, entry, seed), panel.before)
        ]
        return list({spec.id: spec for spec in found}.values())

    def tasks_of(self, artefact: str) -> list[str]:
        """The tasks of a panel that are run."""
        about = {self.run_for(name) for name in self.panels[artefact].tasks}
        return [name for name in self.tasks if not about or name in about]

    def run_for(self, task: str) -> str:
        """The task that panels show for one they are about: itself, or what is run in its place."""
        other = self.amount.instead.get(task)
        return other if task not in self.tasks and other in self.tasks else task

    def in_place(self, artefact: str) -> str:
        """Which tasks of a panel are run in the place of others; empty where none is."""
        pairs = [(self.run_for(name), name) for name in self.panels[artefact].tasks]
        return ", ".join(f"{run} in place of {name}" for run, name in pairs if run != name)

    def limit(self, artefact: str, task: str) -> float | None:
        """The size of a metric beyond which it counts as diverged, where a section has one."""
        return None

    def entries_of(self, artefact: str, task: str) -> list[Entry]:
        """The entries of a panel that are run on a task."""
        family = find_task(task).family
        return [e for e in self.panels[artefact].entries if e.family in ("", family)]

    # --- numbers ----------------------------------------------------------------------------------
    def curve(self, task: str, entry: Entry, seed: int) -> pd.DataFrame:
        """Evaluations of a run: step, score (normalised), return, length, ..."""
        table = self.result(self.spec(task, entry, seed)).evaluations()
        value = table[find_task(task).scored].to_numpy()
        return table.assign(score=normalised_score(task, value))

    def scores(self, task: str, entry: Entry) -> np.ndarray:
        """The score of each seed ``[seeds]``, by the paper's statistic for the family."""
        statistic = self.statistics[find_task(task).family]
        curves = [self.curve(task, entry, seed) for seed in self.seeds]
        return np.array([curve_statistic(statistic, c["score"], c["step"]) for c in curves])

    def run_of(self, group: str) -> list[str]:
        """The tasks of a group that are run."""
        return [name for name in self.tasks if name in self.groups[group]]

    def total(self, entry: Entry, group: str) -> np.ndarray:
        """Sum of the scores over the group's tasks that are run ``[seeds]``, empty where none is."""
        scores = [self.scores(name, entry) for name in self.run_of(group)]
        return np.sum(scores, axis=0) if scores else np.array([])

    def cells(self, artefact: str) -> pd.DataFrame:
        """One row per task and entry: ours with its interval, the published value, the verdict."""
        rows = []
        for task in self.tasks_of(artefact):
            comparable = self.datasets[task].source == "d4rl"
            for entry in self.entries_of(artefact, task):
                ours = self.scores(task, entry)
                interval = bootstrap_interval(ours)
                value, std = self._published(artefact, task, entry)
                row = {
                    "task": task,
                    "entry": entry.label,
                    "score": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "std": ours.std(ddof=1) if len(ours) > 1 else math.nan,
                    "seeds": len(ours),
                    "published": value,
                    "published_std": std,
                    "difference": interval.estimate - value,
                    "verdict": "",
                    "reason": "",
                }
                if not math.isnan(value):
                    verdict = verdicts.cell_verdict(
                        ours, value, std, comparable=comparable, profile=self.profile
                    )
                    row |= {"verdict": str(verdict.verdict), "reason": verdict.reason}
                rows.append(row)
        return pd.DataFrame(rows)

    def _published(self, artefact: str, task: str, entry: Entry) -> tuple[float, float]:
        cells = values.scores(self.paper)
        fits = (cells["artefact"] == artefact) & (cells["task"] == task)
        fits &= cells["method"] == entry.published
        if not entry.published or not fits.any():
            return math.nan, math.nan
        cell = cells[fits].iloc[0]
        return float(cell["value"]), float(cell["std"])

    def _table(self, artefact: str | None = None) -> pd.DataFrame:
        """Tasks and their groups' sums, a column per entry: ours, and the published value in brackets."""
        artefact = artefact or next(iter(self.panels))
        cells, rows = self.cells(artefact), []
        if cells.empty:
            return cells
        for task, part in cells.groupby("task", sort=False):
            rows.append({"task": task} | {cell.entry: _shown(cell) for cell in part.itertuples()})
        for group, tasks in self.groups.items():
            run = [name for name in self.tasks_of(artefact) if name in tasks]
            if len(run) < 2:  # one is its own sum
                continue
            part = cells[cells["task"].isin(run)]
            sums = part.groupby("entry", sort=False)[["score", "published"]].sum(min_count=len(run))
            row = {"task": f"{group}, {len(run)} of {len(tasks)}"}
            for label, (score, published) in sums.iterrows():
                row[label] = f"{score:.1f}" + _bracket(published)
            rows.append(row)
        return pd.DataFrame(rows).fillna("")

    # --- what a study provides --------------------------------------------------------------------
    def _draw(self, artefact: str) -> tuple[Figure, pd.DataFrame]:
        panel, place = self.panels[artefact], self.in_place(artefact)
        caption = f"{panel.caption}\n{place}" if place else panel.caption
        if not self.tasks_of(artefact):
            reasons = dict.fromkeys(panel.tasks, "it is not among the tasks") | self.left_out
            why = (f"{name} was not run: {reasons[name]}" for name in panel.tasks)
            return panels.empty(caption, "\n".join(why)), pd.DataFrame()
        if panel.before or panel.metric:
            return histories.draw(self, artefact, caption)
        if not panel.curves:
            cells = self.cells(artefact)
            return panels.scores(cells, caption), cells
        frame = pd.concat(
            self.curve(task, entry, seed).assign(task=task, entry=entry.label, seed=seed)
            for task in self.tasks_of(artefact)
            for entry in self.entries_of(artefact, task)
            for seed in self.seeds
        )
        frame = frame[["task", "entry", "seed", "step", "score", "return", "length"]]
        return panels.curves(frame, caption), frame

    def provenance(self) -> dict[str, Any]:
        """Datasets, seeds, amounts, and what was left out and why."""
        data = self.datasets.values()
        return {
            "dataset": {
                "name": ", ".join(each.name for each in data),
                "source": ", ".join(sorted({each.source for each in data})),
                "sha256": {each.name: each.hash for each in data},
                "provenance": {each.name: dict(each.provenance) for each in data},
            },
            "seeds": self.seeds,
            "tasks": self.tasks,
            "left_out": self.left_out,
            "in_place": {name: place for name in self.panels if (place := self.in_place(name))},
            "steps": {"offline": self.amount.offline_steps, "online": self.amount.online_steps},
        }

    def label(self, artefact: str | None = None) -> str:
        """As ``Study.label``, with the amounts."""
        steps = f"{self.amount.offline_steps:,} offline, {self.amount.online_steps:,} online"
        return super().label(artefact).replace(" · seeds", f", steps: {steps} · seeds")

    # --- claims; seeds are paired: both sides start from the same offline agent -------------------
    def judge_total(self, claim_id: str, group: str, lhs: Entry, rhs: Entry) -> dict[str, Any]:
        """The row of a published claim about the sum over a group's tasks."""
        run, named = self.run_of(group), self.groups[group]
        row = self.judge(claim_id, self.total(lhs, group), self.total(rhs, group), paired=True)
        return row | {"reason": f"{row['reason']}; sum of {len(run)} of {len(named)} tasks"}

    def judge_tasks(
        self, claim_id: str, rule: str, group: str, lhs: Entry, others: Sequence[Entry]
    ) -> dict[str, Any]:
        """The row of a published claim about ``some``, ``most`` or ``all`` tasks and others."""
        direction = values.claim(claim_id).direction
        pairs = [(lhs, direction, rhs) for rhs in others]
        return self.judge_pairs(claim_id, rule, self.run_of(group), pairs)

    def judge_pairs(
        self,
        claim_id: str,
        rule: str,
        tasks: Sequence[str],
        pairs: Sequence[tuple[Entry, str, Entry]],
        measure: Callable[[str, Entry], np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """As ``judge_tasks``, of any comparisons; of the ``measure`` of task and entry, or the scores."""
        measure = measure or self.scores
        each = {
            f"{task}, {lhs.label} {direction} {rhs.label}": verdicts.claim_verdict(
                measure(task, lhs), measure(task, rhs), direction, profile=self.profile, paired=True
            )
            for task in tasks
            for lhs, direction, rhs in pairs
        }
        statement = values.claim(claim_id).statement
        return self.row(claim_id, statement, verdicts.over_tasks(each, rule))


def _shown(cell: Any) -> str:
    spread = "" if math.isnan(cell.std) else f" ± {cell.std:.1f}"
    return f"{cell.score:.1f}{spread}" + _bracket(cell.published)


def _bracket(published: float) -> str:
    return "" if math.isnan(published) else f" ({published:.1f})"
