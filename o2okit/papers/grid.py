"""Studies that are grids: tasks x ways to come by an agent x seeds, from one declaration.

A section names its panels (a table or a figure each) and the ``Entry`` of every column or line. Equal
entries are equal runs, so what two artefacts share is trained once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from o2okit.data import Dataset
from o2okit.errors import UserError
from o2okit.papers import parameters as p
from o2okit.papers import values
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
        method_hyper: hyper-parameters of the method that are not its own.
        pretrained: ``False`` for training from scratch.
        preloaded: from scratch with the dataset in the replay.
        family: the only family of tasks that it is run on; empty for all.
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


@dataclass(frozen=True)
class Panel:
    """A table or figure.

    Attributes:
        caption: what it shows.
        entries: its columns or lines.
        curves: learning curves; else final scores beside the published ones.
        tasks: those it is about; empty for all of the study's.
    """

    caption: str
    entries: tuple[Entry, ...]
    curves: bool = False
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Amounts:
    """How much a profile runs.

    Attributes:
        tasks: of the study, as far as there are data for them.
        rows: of a kit dataset.
        offline_steps, online_steps: updates, environment steps.
        offline_evaluation: updates between evaluations of the pre-training, episodes of one.
        evaluations: family of tasks -> steps between evaluations online, episodes of one.
        random_steps: before learning from scratch begins.
        seeds: how many.
        method_hyper: method -> hyper-parameters that are scaled with the budget.
    """

    tasks: tuple[str, ...]
    rows: int
    offline_steps: int
    online_steps: int
    offline_evaluation: tuple[int, int]
    evaluations: Mapping[str, tuple[int, int]]
    random_steps: int
    seeds: int
    method_hyper: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def names(tasks: Sequence[str]) -> p.Parameter:
    """A list of the paper's tasks, or ``None`` for the profile's."""

    def check(name: str, value: Any) -> list[str] | None:
        if value is None:
            return None
        listed = [value] if isinstance(value, str) else value
        if isinstance(listed, list | tuple) and listed and set(listed) <= set(tasks):
            return list(dict.fromkeys(listed))
        raise UserError(
            f"{name} must be None or a list of these: {', '.join(tasks)}; got {value!r}."
        )

    return p.Parameter(None, check, "tasks: a list of the paper's, or None (the profile's)")


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
                "tasks": names([name for group in cls.groups.values() for name in group]),
                "seeds": p.seeds(),
                "source": p.Parameter(
                    "auto", _text, "where data come from: auto, d4rl, minari, kit"
                ),
                "device": p.DEVICE,
            }

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.amount = self.amounts[self.profile]
        self.seeds: list[int] = self.given["seeds"]
        asked = parameters.get("tasks") is not None
        self.left_out: dict[str, str] = {}
        self.tasks: list[str] = []
        for name in self.given["tasks"]:
            if reason := why_not(name, self.given["source"]):
                if asked:
                    raise UserError(reason)
                self.left_out[name] = reason
            else:
                self.tasks.append(name)
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
        how = {"source": self.given["source"], "rows": self.amount.rows, "build": self.building}
        return {name: dataset(name, **how) for name in self.tasks}

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
        return protocol.online(
            start,
            entry.method,
            self.amount.online_steps,
            replay=entry.replay,
            hyper=entry.online_hyper,
            method_hyper={**scaled, **entry.method_hyper},
            **measured,
        )

    def specs(self) -> list[RunSpec]:
        """Every run of every panel, once."""
        found = [
            self.spec(task, entry, seed)
            for name in self.panels
            for task in self.tasks_of(name)
            for entry in self.entries_of(name, task)
            for seed in self.seeds
        ]
        return list({spec.id: spec for spec in found}.values())

    def tasks_of(self, artefact: str) -> list[str]:
        """The tasks of a panel that are run."""
        about = self.panels[artefact].tasks
        return [name for name in self.tasks if not about or name in about]

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
        cells = self.cells(artefact)
        rows = []
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
        panel = self.panels[artefact]
        if not self.tasks_of(artefact):
            missing = ", ".join(panel.tasks)
            return panels.empty(panel.caption, f"not run: {missing}"), pd.DataFrame()
        if not panel.curves:
            cells = self.cells(artefact)
            return panels.scores(cells, panel.caption), cells
        frame = pd.concat(
            self.curve(task, entry, seed).assign(task=task, entry=entry.label, seed=seed)
            for task in self.tasks_of(artefact)
            for entry in self.entries_of(artefact, task)
            for seed in self.seeds
        )
        frame = frame[["task", "entry", "seed", "step", "score", "return", "length"]]
        return panels.curves(frame, panel.caption), frame

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
        claim = values.claim(claim_id)
        each = {
            f"{task}, {rhs.label}": verdicts.claim_verdict(
                self.scores(task, lhs),
                self.scores(task, rhs),
                claim.direction,
                profile=self.profile,
                paired=True,
            )
            for task in self.run_of(group)
            for rhs in others
        }
        return self.row(claim_id, claim.statement, verdicts.over_tasks(each, rule))


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise UserError(f"{name} must be auto, d4rl, minari, kit or a path; got {value!r}.")
    return value


def _shown(cell: Any) -> str:
    spread = "" if math.isnan(cell.std) else f" ± {cell.std:.1f}"
    return f"{cell.score:.1f}{spread}" + _bracket(cell.published)


def _bracket(published: float) -> str:
    return "" if math.isnan(published) else f" ({published:.1f})"
