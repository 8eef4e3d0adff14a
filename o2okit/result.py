"""Finished runs of one or more cells of a comparison: as a table, a summary, a plot, files."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from o2okit.data import Dataset
from o2okit.data.returns import episode_returns
from o2okit.errors import UserError, known, unknown
from o2okit.report import artefacts
from o2okit.report.artefacts import ranges, style
from o2okit.report.curves import CURVES, cumulative_regret, curve_statistic
from o2okit.report.statistics import bootstrap_interval, difference_interval
from o2okit.report.verdicts import claim_verdict
from o2okit.tasks import normalised_score
from o2okit.tasks import task as find_task
from o2okit.training import Run, RunSpec
from o2okit.training.run import trained_with

REGRET = "regret"
GOAL = "goal"  # the outcome that is a success
DASHES = ("-", "--", ":", "-.")  # of methods
CELL = ["backbone", "method", "phase"]  # what the seeds of a mean have in common, and
SETTING = "setting"  # where hyper-parameters were swept


@dataclass(frozen=True, repr=False)
class Result:
    """Finished runs on one task.

    Attributes:
        runs: offline and online runs of every backbone, method and seed.
        dataset: what was learnt from; ``None`` from scratch.
        profile: the amounts.
    """

    runs: Sequence[Run]
    dataset: Dataset | None
    profile: str

    def __repr__(self) -> str:
        kinds = {f"{run.spec.backbone} {run.spec.phase}": 0 for run in self.runs}
        for run in self.runs:
            kinds[f"{run.spec.backbone} {run.spec.phase}"] += 1
        counted = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        return f"result on {self.task}: {counted} runs; {self.label()}"

    @property
    def task(self) -> str:
        """Its name."""
        return self.runs[0].spec.task

    @property
    def frame(self) -> pd.DataFrame:
        """One row per evaluation: task, backbone, method, phase, seed, diverged, step, return, score, ...

        A diverged run's losses were not finite at some evaluation; its policy still has scores. After a sweep
        there is a column ``setting``: the hyper-parameters that differ.
        """
        frames, settings = [], _settings(self.runs)
        for run in self.runs:
            spec = run.spec
            about = {
                "task": spec.task,
                "backbone": spec.backbone,
                "method": spec.method if spec.phase == "online" else "",
                "phase": spec.phase,
                **({SETTING: settings[spec.id]} if any(settings.values()) else {}),
                "seed": spec.seed,
                "run": spec.id,
                "diverged": run.folder.result()["diverged"],
            }
            frames.append(pd.DataFrame({**about, **run.curve()}))
        return pd.concat(frames, ignore_index=True)

    @property
    def checkpoints(self) -> list[Path]:
        """The last state of every run, in safetensors."""
        return [run.folder.path / "checkpoint.safetensors" for run in self.runs]

    @property
    def data_score(self) -> float | None:
        """Normalised mean return of the dataset's episodes; ``None`` without one or with sparse rewards.

        Episodes of sparse data go on after a success and start anywhere: no score of an agent.
        """
        if self.dataset is None or find_task(self.task).sparse:
            return None
        returns, data = episode_returns(self.dataset), self.dataset
        # Its last transition is marked as an end, of the episode or of the file.
        if len(returns) > 1 and data.provenance.get("unfinished"):
            returns = returns[:-1]
        return float(normalised_score(self.task, returns.mean()))

    def summary(self, *statistics: str) -> pd.DataFrame:
        """Per backbone, method, phase and setting: mean of a statistic over seeds, 95 % bootstrap interval.

        Args:
            statistics: names in ``report.curves.CURVES``, or ``regret`` (``cumulative_regret`` of the
                training's episodes, where there is a goal to reach); default: ``final``.

        Raises:
            UserError: a statistic is unknown, or no training episode has what the regret needs.
        """
        for statistic in statistics:
            self._check_statistic(statistic)
        rows, data, frame = [], self.data_score, self.frame
        names = _cell(frame)
        cells = frame.groupby(names, sort=False)
        for statistic, (cell, part) in itertools.product(statistics or ("final",), cells):
            about = dict(zip(names, cell, strict=True))
            if statistic == REGRET and about["phase"] == "offline":
                continue  # of the online phase
            scores = [self._score(statistic, curve) for _, curve in part.groupby("seed")]
            interval = bootstrap_interval(scores)
            rows.append(
                {
                    **about,
                    "statistic": statistic,
                    "score": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "seeds": len(scores),
                    "diverged": part.loc[part["diverged"], "seed"].nunique(),
                    "steps": int(part["step"].max()),
                    "data": np.nan if data is None else data,
                }
            )
        return pd.DataFrame(rows)

    def compare(self, baseline: str, statistic: str = "last-10") -> pd.DataFrame:
        """Whether each method, setting or backbone is better than one of them.

        Differences are paired by seed and judged as the papers' claims are (``report.verdicts``). Where there
        is an online phase, it is the one that counts.

        Args:
            baseline: a name of the plot's legend (``td3+bc``, ``td3+bc + qcse, k 5``), or a method's alone:
                ``naive`` is that of each one's own backbone.
            statistic: as for ``summary``; a single evaluation says little.

        Returns:
            One row for each of the others: difference with its 95 % interval, verdict on "better" and reason.

        Raises:
            UserError: ``baseline`` names none or several, there are no others, or as ``summary``.
        """
        self._check_statistic(statistic)
        frame = self.frame
        frame = frame[frame["phase"] == frame["phase"].iloc[-1]]
        cells = {}
        for (backbone, method, _, *setting), part in frame.groupby(_cell(frame), sort=False):
            scores = {s: self._score(statistic, curve) for s, curve in part.groupby("seed")}
            cells[_name(backbone, method, *setting)] = (backbone, method, scores)
        rows = []
        for name, (backbone, method, scores) in cells.items():
            other = baseline
            if not isinstance(baseline, str) or baseline not in cells:
                alike = [n for n, (b, m, _) in cells.items() if (b, m) == (backbone, baseline)]
                if not alike:
                    raise unknown("result to compare with", baseline, [*cells, *_methods(cells)])
                if len(alike) > 1:
                    raise UserError(f"{baseline!r} may be {' or '.join(alike)}: name one of them.")
                (other,) = alike
            if name == other or method == baseline:
                continue
            theirs = cells[other][2]
            paired = list(scores) == list(theirs)
            verdict = claim_verdict(
                list(scores.values()),
                list(theirs.values()),
                "<" if statistic == REGRET else ">",
                profile=self.profile,
                paired=paired,
            )
            found = verdict.difference
            if found is None:  # what is not judged can be looked at all the same
                found = difference_interval(
                    *map(list, (scores.values(), theirs.values())), paired=paired
                )
            rows.append(
                {
                    "name": name,
                    "baseline": other,
                    "statistic": statistic,
                    "difference": found.estimate,
                    "low": found.low,
                    "high": found.high,
                    "better": str(verdict.verdict),
                    "reason": verdict.reason,
                }
            )
        if not rows:
            raise UserError(f"there is nothing here but {baseline!r}: no comparison.")
        return pd.DataFrame(rows)

    def _check_statistic(self, name: str) -> None:
        known("statistic", name, [*CURVES, REGRET])
        if name == REGRET and all(run.spec.phase == "offline" for run in self.runs):
            raise UserError(
                f"the regret is one of fine-tuning, and these runs are offline. Allowed: {', '.join(CURVES)}."
            )

    def _score(self, statistic: str, curve: pd.DataFrame) -> float:
        if statistic != REGRET:
            return curve_statistic(statistic, curve["score"], curve["step"])
        (run,) = (run for run in self.runs if run.spec.id == curve["run"].iloc[0])
        if GOAL not in find_task(self.task).outcomes:
            raise UserError(
                f"the regret counts episodes that reach a goal; {self.task} has none. Allowed: "
                f"{', '.join(CURVES)}."
            )
        episodes = run.episodes()
        if not len(episodes):
            raise UserError(
                f"no episode of the run {run.spec.id} was over: too few steps for a regret."
            )
        return cumulative_regret(episodes["outcome"] == GOAL)

    @property
    def diverged(self) -> list[str]:
        """The runs whose losses were not finite at some evaluation."""
        return [run.spec.id for run in self.runs if run.folder.result()["diverged"]]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Normalised score against steps: mean and range over seeds, online after offline.

        A colour per backbone and setting, a line style per method; pre-training has that of plain
        fine-tuning.
        """
        style()
        ax = ax or plt.subplots(figsize=(6, 3.5), layout="constrained")[1]
        frame = self.frame
        offline = frame[frame["phase"] == "offline"]
        offset = int(offline["step"].max()) if len(offline) else 0
        colours: dict[tuple[str, str], str] = {}
        dashes = {"naive": "-"}
        named: set[str] = set()
        for (backbone, method, phase, *setting), part in frame.groupby(_cell(frame), sort=False):
            curve = part.groupby("step")["score"].agg(["mean", "min", "max"])
            steps = curve.index + (offset if phase == "online" else 0)
            name = _name(backbone, method, *setting)
            colour = colours.setdefault((backbone, *setting), f"C{len(colours)}")
            dash = dashes.setdefault(method or "naive", DASHES[len(dashes) % len(DASHES)])
            label = None if name in named else name
            named.add(name)
            ax.plot(steps, curve["mean"], color=colour, linestyle=dash, label=label)
            ax.fill_between(steps, curve["min"], curve["max"], color=colour, alpha=0.2, linewidth=0)
        if (frame["phase"] == "online").any():
            ax.axvline(offset, color="0.6", linewidth=0.8)
        if self.data_score is not None:
            ax.axhline(self.data_score, color="0.3", linewidth=0.8, linestyle="--", label="data")
        units = {"offline": "gradient updates", "online": "environment steps"}
        phases = [units[phase] for phase in frame["phase"].unique()]
        ax.set(xlabel=", then ".join(phases), ylabel="normalised score")
        ax.set_title(self.task)
        ax.legend(
            title="mean; shade: range over seeds",
            title_fontsize=8,
            frameon=False,
            fontsize=8,
            ncols=1 + len(named) // 7,
        )
        return ax

    def save(self, folder: str | Path, name: str) -> list[Path]:
        """Writes plot (PDF, PNG), frame and summary (CSV), provenance (JSON); returns the files."""
        folder, ax = Path(folder), self.plot()
        artefacts.stamp(ax.figure, self.label())
        files = artefacts.save(folder, name, ax.figure, self.frame)
        plt.close(ax.figure)
        summary, data = self.summary("final", "last-10"), self.dataset
        files.append(artefacts.save_table(folder, f"{name}.summary", summary))
        record = {
            "profile": self.profile,
            "dataset": data
            and {
                "name": data.name,
                "source": data.source,
                "sha256": data.hash,
                **data.provenance,
            },
            # JSON has neither NaN (no data) nor infinity (the interval of one seed).
            "summary": [
                {
                    key: None if isinstance(value, float) and not np.isfinite(value) else value
                    for key, value in row.items()
                }
                for row in summary.to_dict("records")
            ],
            "runs": {run.spec.id: run.spec.describe() for run in self.runs},
            "diverged": self.diverged,
            "trained": trained_with(self.runs),
        }
        artefacts.write_record(folder / f"{name}.json", record)
        return [*files, folder / f"{name}.json"]

    def label(self) -> str:
        """One line for every figure: dataset and source, profile, amounts, seeds."""
        seeds = ranges(sorted({run.spec.seed for run in self.runs}))
        data = self.dataset
        steps = {
            phase: [run.spec.steps for run in self.runs if run.spec.phase == phase]
            for phase in ("offline", "online")
        }
        amounts = ", ".join(
            f"{' or '.join(f'{n:,}' for n in sorted(set(each)))} {phase}"
            for phase, each in steps.items()
            if each
        )
        if many := {run.spec.updates_per_step for run in self.runs} - {1}:
            amounts += f", {' or '.join(map(str, sorted(many)))} updates per step"
        source = f"data {data.name} (source: {data.source})" if data else "no data, from scratch"
        text = f"{source} · profile {self.profile}, steps: {amounts} · seeds {seeds}"
        return text + (f" · {len(self.diverged)} RUNS DIVERGED" if self.diverged else "")


def _cell(frame: pd.DataFrame) -> list[str]:
    return [*CELL, SETTING] if SETTING in frame else CELL


def _name(backbone: str, method: str, setting: str = "") -> str:
    """What a cell is called in a legend."""
    name = backbone if method in ("", "naive") else f"{backbone} + {method}"
    return f"{name}, {setting}" if setting else name


def _methods(cells: Mapping[str, tuple[str, str, Any]]) -> list[str]:
    """The methods among some cells, in their order."""
    return list(dict.fromkeys(method for _, method, _ in cells.values() if method))


def _settings(runs: Sequence[Run]) -> dict[str, str]:
    """Per run the hyper-parameters in which those of its cell differ, in words; empty where they do not.

    Those of the runs that it continues count, too: fine-tuning may have replaced what was swept.
    """
    cells: dict[tuple[str, ...], dict[str, dict[str, tuple[Any, ...]]]] = {}
    for spec in (run.spec for run in runs):
        cell = cells.setdefault((spec.backbone, spec.method, spec.phase), {})
        cell[spec.id] = _history(spec)
    found: dict[str, list[str]] = {run.spec.id: [] for run in runs}
    for cell in cells.values():
        for name in dict.fromkeys(itertools.chain(*cell.values())):
            values = {run: each.get(name, ()) for run, each in cell.items()}
            if len(set(values.values())) > 1:
                for run, words in _told_apart(values).items():
                    found[run].append(f"{name} {words}")
    return {run: ", ".join(words) for run, words in found.items()}


def _history(spec: RunSpec) -> dict[str, tuple[Any, ...]]:
    """The values of each hyper-parameter from the run's first ancestor to itself."""
    history: dict[str, tuple[Any, ...]] = {}
    for each in spec.lineage():
        of_method = {  # "weight" is CQL's, too
            f"{each.method} {name}" if name in each.hyper else name: value
            for name, value in each.method_hyper.items()
        }
        for name, value in {**each.hyper, **of_method}.items():
            history[name] = (*history.get(name, ()), value)
    return history


def _told_apart(histories: Mapping[str, tuple[Any, ...]]) -> dict[str, str]:
    """Each history in words: its last value or its first where that tells it from the others, else all."""
    different = len(set(histories.values()))
    for part, write in itertools.product((slice(-1, None), slice(1), slice(None)), (_short, str)):
        words = {run: " then ".join(map(write, each[part])) for run, each in histories.items()}
        if len(set(words.values())) == different:
            break
    return words


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
