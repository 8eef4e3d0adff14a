"""Studies that are grids: tasks x ways to come by an agent x seeds, from one declaration.

A section names its panels (a table or a figure each) and the ``Entry`` of every column or line. Equal
entries are equal runs, so what two artefacts share is trained once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import pandas as pd
from matplotlib.figure import Figure

from o2okit.data import Dataset
from o2okit.errors import UserError
from o2okit.papers import histories
from o2okit.papers import parameters as p
from o2okit.papers.declarations import Amounts, Entry, Panel, published
from o2okit.papers.divergence import has_left
from o2okit.papers.judging import Judging
from o2okit.papers.measuring import Measuring
from o2okit.papers.study import Study
from o2okit.report import panels, tables
from o2okit.report.artefacts import ranges
from o2okit.tasks import task as find_task
from o2okit.training import RunSpec, protocol
from o2okit.training.obtain import dataset, why_not

MOST_NAMES = 3  # of datasets that a figure's last line has room for
__all__ = ["Amounts", "Entry", "GridStudy", "Panel", "published"]


class GridStudy(Measuring, Judging, Study):
    """Base class; a section fills in the class attributes and ``_judge``.

    Class attributes:
        panels: name of the artefact -> what it shows.
        amounts: profile -> how much is run.
        groups: name -> the paper's tasks that are summed up.
        statistics: family of tasks -> statistic of a curve that is the score. An offline agent's is
            always its last one: that agent is what is fine-tuned.
        drawings: name -> caption of the figures that a section draws by itself, by a
            method ``_draw_own`` that is as ``_draw``.
        stand_in: a task that the section is not about. Smoke runs it, and any profile where there are data
            for none of its tasks: it shows the same comparison in their place, and is never judged.
    """

    panels: ClassVar[Mapping[str, Panel]]
    amounts: ClassVar[Mapping[str, Amounts]]
    groups: ClassVar[Mapping[str, tuple[str, ...]]]
    statistics: ClassVar[Mapping[str, str]]
    drawings: ClassVar[Mapping[str, str]] = {}
    stand_in: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if hasattr(cls, "panels"):
            captions = {name: panel.caption for name, panel in cls.panels.items()}
            cls.artefacts = captions | dict(cls.drawings)
            allowed = [name for group in cls.groups.values() for name in group]
            cls.parameters = {
                "profile": p.PROFILE,
                "tasks": p.names(
                    [*allowed, cls.stand_in] if cls.stand_in else allowed,
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
        for name in self.given["tasks"]:
            if reason := self.why_not(name):
                if asked:
                    raise UserError(reason)
                self.left_out[name] = reason
            else:
                self.tasks.append(name)
        if not self.tasks and self.stand_in and not self.why_not(self.stand_in):
            self.tasks.append(self.stand_in)
        if not self.tasks:
            raise UserError(f"study {self.key!r}: there are data for none of its tasks. {reason}")

    def __repr__(self) -> str:
        notes = [f"{self.stand_in} stands in"] if self.standing_in() else []
        if self.left_out:
            notes.append(f"left out for want of data: {', '.join(self.left_out)}")
        shown = self.given | {"tasks": self.tasks}
        given = ", ".join(f"{name} {value}" for name, value in shown.items())
        return f"study {self.key}: {given}" + "".join(f"; {note}" for note in notes)

    def defaults(self, profile: str) -> dict[str, Any]:
        """The profile decides tasks and seeds."""
        amount = self.amounts[profile]
        every = [name for group in self.groups.values() for name in group]
        about = {name for panel in self.panels.values() for name in panel.tasks or every}
        tasks = [name for name in amount.tasks if name in about]
        own = {"seeds": list(range(amount.seeds)), "tasks": tasks or list(amount.tasks)}
        return {**super().defaults(profile), **own}

    # --- runs -------------------------------------------------------------------------------------
    def why_not(self, task: str) -> str:
        """Why there are no data for a task; empty where there are, or can be built."""
        return why_not(task, self.given["source"])

    def dataset(self, task: str) -> Dataset:
        """The dataset of a task; the kit's is built where there is no other."""
        how = {"source": self.given["source"], "rows": self.amount.rows, "build": self.building}
        return dataset(task, **how)

    @cached_property
    def datasets(self) -> dict[str, Dataset]:
        """The dataset of each task that is run."""
        return {name: self.dataset(name) for name in self.tasks}

    def offline(self, task: str, entry: Entry, seed: int) -> RunSpec:
        """The pre-training of an entry."""
        every, episodes = self.amount.offline_evaluations[find_task(task).family]
        return protocol.offline(
            task,
            entry.backbone,
            self.datasets[task],
            self.amount.offline_steps,
            seed,
            hyper=self.amount.hyper.get(entry.backbone),
            eval_every=every,
            eval_episodes=episodes,
        )

    def spec(self, task: str, entry: Entry, seed: int) -> RunSpec:
        """The run that an entry's score is measured on.

        What is trained from scratch without data is the same for all tasks of a robot.
        """
        steps = self.steps_of(task, entry)
        online_hyper = self.amount.resolved(entry.online_hyper)
        every, episodes = self.amount.evaluations[find_task(task).family]
        measured = {"eval_every": every, "eval_episodes": episodes}
        if not entry.pretrained:
            return protocol.scratch(
                task,
                entry.backbone,
                steps,
                seed,
                random_steps=self.amount.random_steps,
                data=self.datasets[task] if entry.preloaded else None,
                hyper={**self.amount.hyper.get(entry.backbone, {}), **online_hyper},
                **measured,
            )
        start = self.offline(task, entry, seed)
        if entry.method is None:
            return start
        scaled = self.amount.method_hyper.get(entry.method, {})
        own = self.amount.resolved(entry.method_hyper)
        return protocol.online(
            start,
            entry.method,
            steps,
            backbone=entry.online_backbone or None,
            replay=entry.replay,
            hyper=online_hyper,
            method_hyper={**scaled, **own},
            keep_replay=entry.keep_replay,
            **measured,
        )

    def steps_of(self, task: str, entry: Entry) -> int:
        """How long an entry's fine-tuning is."""
        return self.amount.online_steps * entry.length * self.amount.longer.get(task, 1)

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
        named = () if artefact in self.drawings else self.panels[artefact].tasks
        about = {self.run_for(name) for name in named}
        return [name for name in self.tasks if not about or name in about]

    def run_for(self, task: str) -> str:
        """The task that panels show for one they are about: itself, or what is run in its place."""
        return self.stand_in if task not in self.tasks and self.standing_in() else task

    def standing_in(self) -> bool:
        """Whether a task is run that the section is not about."""
        return self.stand_in in self.tasks and self.stand_in not in self.named("")

    def in_place(self, artefact: str) -> str:
        """Which tasks of a panel are run in the place of others; empty where none is."""
        pairs = [(self.run_for(name), name) for name in self.panels[artefact].tasks]
        return ", ".join(f"{run} in place of {name}" for run, name in pairs if run != name)

    def limit(self, artefact: str, task: str) -> float | None:
        """The size of a metric beyond which it counts as diverged, where a section has one."""
        return None

    def diverged(self) -> list[str]:
        """As ``Study.diverged``, and the offline agents whose values left every possible return behind."""
        left = [run_id for run_id, run in (self._runs or {}).items() if has_left(run)]
        return list(dict.fromkeys([*super().diverged(), *left]))

    def entries_of(self, artefact: str, task: str) -> list[Entry]:
        """The entries of a panel that are run on a task."""
        family = find_task(task).family
        return [e for e in self.panels[artefact].entries if e.family in ("", family)]

    # --- tables -----------------------------------------------------------------------------------
    def missing(self, artefact: str) -> pd.DataFrame:
        """Why each task of a panel is not run."""
        about = self.panels[artefact].tasks or self.named("")
        other = "not among this study's tasks: give tasks=[...], or another profile"
        why = [self.left_out.get(name, other) for name in about]
        return pd.DataFrame({"task": about, "not_run": why})

    def _table(self, artefact: str | None = None) -> pd.DataFrame:
        artefact = artefact or next(iter(self.panels))
        if artefact in self.drawings:
            return self._draw_own(artefact)[1]
        if not self.tasks_of(artefact):
            return self.missing(artefact)
        if self.panels[artefact].aggregate:
            return self.aggregates(artefact)
        digits = 3 if self.panels[artefact].hours else 1  # as they are printed
        return tables.scores(self.cells(artefact), self.groups, digits)

    # --- what a study provides --------------------------------------------------------------------
    def _draw(self, artefact: str) -> tuple[Figure, pd.DataFrame]:
        if artefact in self.drawings:
            return self._draw_own(artefact)
        panel, place = self.panels[artefact], self.in_place(artefact)
        caption = f"{panel.caption}\n{place}" if place else panel.caption
        if not self.tasks_of(artefact):
            missing = self.missing(artefact)
            why = "\n".join(
                f"{', '.join(part['task'])}: {reason}"
                for reason, part in missing.groupby("not_run")
            )
            return panels.empty(caption, f"Not run.\n{why}"), missing
        if panel.before:
            return histories.draw(self, artefact, caption)
        if panel.aggregate:
            numbers = self.aggregates(artefact)
            return panels.aggregates(numbers, caption, panel.aggregate), numbers
        if panel.curves:
            numbers = self.curves(artefact)
            figure = panels.curves(
                numbers,
                caption,
                column=panel.metric or "score",
                per_seed=panel.per_seed,
                window=panel.window,
            )
            return figure, numbers
        cells = self.cells(artefact)
        return panels.scores(cells, caption, "hours" * panel.hours), cells

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
            "stand_in": self.stand_in if self.standing_in() else "",
            "in_place": {name: place for name in self.panels if (place := self.in_place(name))},
            "steps": {"offline": self.amount.offline_steps, "online": self.online_steps()},
        }

    def online_steps(self, artefact: str | None = None) -> list[int]:
        """The lengths of fine-tuning behind an artefact, or behind all."""
        names = [artefact] if artefact in self.panels else list(self.panels)
        return sorted(
            {
                self.steps_of(task, entry)
                for name in names
                for entry in self.panels[name].entries
                for task in self.tasks_of(name) or self.tasks
            }
        )

    def seeds_of(self, artefact: str | None = None) -> list[int]:
        """As ``Study.seeds_of``; none where no task of the artefact is run."""
        return self.seeds if artefact not in self.panels or self.tasks_of(artefact) else []

    def label(self, artefact: str | None = None) -> str:
        """As ``Study.label``, with the amounts; the datasets are those of the artefact's tasks."""
        if not self.seeds_of(artefact):
            return f"profile {self.profile} · not run"
        tasks = self.tasks_of(artefact) if artefact else self.tasks
        data = [self.datasets[task] for task in tasks]
        few = ", ".join(each.name for each in data)
        sources = ", ".join(sorted({each.source for each in data}))
        online = " or ".join(f"{steps:,}" for steps in self.online_steps(artefact))
        return (
            f"data {few if len(data) <= MOST_NAMES else f'{len(data)} datasets'} (source: {sources}) · "
            f"profile {self.profile}, steps: {self.amount.offline_steps:,} offline, {online} online · "
            f"seeds {ranges(self.seeds_of(artefact))}"
            + "".join(f" · {name} stands in" for name in tasks if name not in self.named(""))
        )
