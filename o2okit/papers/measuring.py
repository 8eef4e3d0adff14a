"""Numbers of grids: curves, scores and hours per seed, the cells of tables, aggregates over tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
import pandas as pd

from o2okit.data import Dataset
from o2okit.errors import UserError
from o2okit.papers import histories
from o2okit.papers.declarations import Amounts, Entry, Panel, published
from o2okit.report import statistics, verdicts
from o2okit.report.curves import curve_statistic
from o2okit.report.statistics import bootstrap_interval
from o2okit.tasks import task as find_task
from o2okit.training import Run, RunSpec
from o2okit.training.store import RunFolder


class Measuring:
    """What a grid study reads off its runs: it has panels, tasks, seeds, and ``spec`` and ``result``."""

    paper: str
    profile: str
    seeds: list[int]
    amount: Amounts
    panels: ClassVar[Mapping[str, Panel]]
    statistics: ClassVar[Mapping[str, str]]
    datasets: dict[str, Dataset]
    tasks_of: Callable[[str], list[str]]
    entries_of: Callable[[str, str], list[Entry]]
    spec: Callable[[str, Entry, int], RunSpec]
    result: Callable[[RunSpec], Run]

    def curve(self, task: str, entry: Entry, seed: int) -> pd.DataFrame:
        """Evaluations of a run (``Run.curve``)."""
        return self.result(self.spec(task, entry, seed)).curve()

    def scores(self, task: str, entry: Entry, statistic: str = "") -> np.ndarray:
        """The score of each seed ``[seeds]``; default: the paper's statistic for the family."""
        tuned = entry.method is not None or not entry.pretrained
        statistic = statistic or self.statistics[find_task(task).family]
        statistic = statistic if tuned else "final"
        curves = [self.curve(task, entry, seed) for seed in self.seeds]
        return np.array([curve_statistic(statistic, c["score"], c["step"]) for c in curves])

    def hours(self, task: str, entry: Entry) -> np.ndarray:
        """What each seed's fine-tuning took, its share of its cohort's ``[seeds]``.

        On a CPU the processor's hours, which other processes hardly change; on a GPU the clock's.
        """
        folders = [self.result(self.spec(task, entry, seed)).folder for seed in self.seeds]
        return np.array([_seconds(f) / f.result()["runs_in_cohort"] / 3600 for f in folders])

    def cells(self, artefact: str) -> pd.DataFrame:
        """One row per task and entry: ours with its interval, the published value, the verdict.

        ``each`` has the seeds' own values, separated by spaces.
        """
        rows, panel = [], self.panels[artefact]
        for task in self.tasks_of(artefact):
            same_data = self.datasets[task].source == "d4rl" and self.profile == "paper"
            comparable = same_data and task not in panel.unlike and not panel.hours
            for entry in self.entries_of(artefact, task):
                if panel.hours:  # all seeds share a measurement, whose noise nothing here tells
                    ours = self.hours(task, entry)[:1]
                else:
                    ours = self.scores(task, entry, panel.statistic)
                interval = bootstrap_interval(ours)
                value, std = published(
                    self.paper, panel.printed or artefact, task, entry, hours=panel.hours
                )
                row = {
                    "task": task,
                    "entry": entry.label,
                    "score": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "std": ours.std(ddof=1) if len(ours) > 1 else math.nan,
                    "seeds": len(self.seeds),
                    "each": " ".join(f"{one:.6g}" for one in ours),
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

    def aggregates(self, artefact: str) -> pd.DataFrame:
        """Per entry the panel's aggregate over tasks and seeds, with its stratified interval."""
        rows, kind = [], self.panels[artefact].aggregate
        for entry in self.panels[artefact].entries:
            tasks = [t for t in self.tasks_of(artefact) if entry in self.entries_of(artefact, t)]
            if not tasks:
                continue
            scores = [self.scores(task, entry) for task in tasks]
            # From scratch, or without data of their own, tasks of one robot are the same runs.
            runs = [[self.spec(task, entry, seed).id for seed in self.seeds] for task in tasks]
            strata = [runs.index(each) for each in runs]
            interval = bootstrap_interval(scores, getattr(statistics, kind), strata=strata)
            rows.append(
                {
                    "entry": entry.label,
                    "tasks": len(tasks),
                    "seeds": len(self.seeds),
                    kind: interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                }
            )
        return pd.DataFrame(rows)

    def curves(self, artefact: str) -> pd.DataFrame:
        """The rows behind a panel of curves: task, entry, seed, step, and what is drawn."""
        panel, frames = self.panels[artefact], []
        for task in self.tasks_of(artefact):
            for entry in self.entries_of(artefact, task):
                for seed in self.seeds:
                    if panel.metric or panel.before:
                        spec, how = self.spec(task, entry, seed), panel.before
                        curve = histories.history(self, spec, metric=panel.metric, before=how)
                    else:
                        shown = ["step", "score", "return", "length"]
                        curve = self.curve(task, entry, seed)[shown]
                    about = {"task": task, "entry": entry.label, "seed": seed}
                    frames.append(pd.DataFrame({**about, **curve}))
        return pd.concat(frames, ignore_index=True)


def _seconds(folder: RunFolder) -> float:
    result, cpu = folder.result(), folder.environment()["device"].startswith("cpu")
    if cpu and "processor_seconds" not in result:
        raise UserError(
            f"the run in {folder.path} is from before processor time was recorded. Delete that folder to "
            "train it anew."
        )
    return result["processor_seconds" if cpu else "seconds"]
