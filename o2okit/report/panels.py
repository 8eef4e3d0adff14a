"""Figures of grids: final scores beside the published ones, their aggregate, learning curves."""

from __future__ import annotations

import math
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from o2okit.report.artefacts import COLOURS, style
from o2okit.report.verdicts import CellOutcome
from o2okit.tasks import TASKS

WIDE = 3  # panels side by side


def _unit(task: str) -> str:
    """What a score is: a task without reference scores has returns alone."""
    found = TASKS.get(task)
    return "return" if found and not found.reference else "normalised score"


def scores(cells: pd.DataFrame, title: str, unit: str = "") -> Figure:
    """Ours with its interval and every seed, and the published mean ± std, a line per entry.

    Args:
        cells: task, entry, score, low, high, each, published, published_std, verdict; one row per task
            and entry.
        title: of the figure.
        unit: of the numbers, where they are hours and no scores; all seeds share one then.
    """
    tasks = list(dict.fromkeys(cells["task"]))
    entries = list(dict.fromkeys(cells["entry"]))
    figure, axes = _grid(len(tasks), 1.2 + 0.32 * len(entries), sharey=True)
    shift = 0.13 if cells["published"].notna().any() else 0.0  # room for both
    for place, task in zip(axes, tasks, strict=False):
        part = cells[cells["task"] == task].set_index("entry").reindex(entries)
        y = np.arange(len(entries))
        for row, each in zip(y - shift, part["each"].fillna(""), strict=True):
            seeds = np.array([] if unit else each.split(), float)
            place.plot(seeds, np.full(len(seeds), row), color="0.45", marker="|", ms=7, ls="")
        for offset, colour, marker, middle, low, high in (
            (-shift, COLOURS["blue"], "o", "score", part["low"], part["high"]),
            (
                shift,
                COLOURS["orange"],
                "D",
                "published",
                part["published"] - part["published_std"],
                part["published"] + part["published_std"],
            ),
        ):
            finite = np.isfinite(low) & np.isfinite(high)
            place.hlines((y + offset)[finite], low[finite], high[finite], color=colour, lw=1.6)
            place.plot(part[middle], y + offset, color=colour, marker=marker, ms=5, ls="")
        place.set(title=task, xlabel=unit or _unit(task))
        place.set_yticks(y, entries)
        place.set_ylim(len(entries) - 0.5, -0.5)
        if unit:  # an amount: ratios are to be seen
            place.set_xlim(0, 1.05 * place.dataLim.x1)
        place.grid(axis="x", color="0.93", lw=0.7)
        place.set_axisbelow(True)
    shown = [("ours, 95 % interval", COLOURS["blue"], "o", 1.6), ("each seed", "0.45", "|", 0)]
    if unit:
        shown = [("ours, one measurement of all seeds", COLOURS["blue"], "o", 0)]
    if shift:
        unlike = (cells["verdict"] == CellOutcome.NOT_COMPARABLE).any()
        label = "published (other data, amounts), ± std" if unlike else "published, ± std"
        shown.append((label, COLOURS["orange"], "D", 1.6))
    handles = [
        Line2D([], [], color=colour, marker=marker, ms=6, lw=width, label=label)
        for label, colour, marker, width in shown
    ]
    return _finish(figure, title, handles)


AGGREGATES = {"iqm": "interquartile mean", "median": "median of the tasks' means", "mean": "mean"}


def aggregates(frame: pd.DataFrame, title: str, kind: str) -> Figure:
    """An aggregate of each entry with its interval, all in one panel.

    Args:
        frame: entry, tasks, ``kind``, low, high; one row per entry.
        title: of the figure.
        kind: name in ``AGGREGATES``.
    """
    figure, (place,) = _grid(1, 0.9 + 0.28 * len(frame))
    y = np.arange(len(frame))
    finite = np.isfinite(frame["low"]) & np.isfinite(frame["high"])
    place.hlines(y[finite], frame["low"][finite], frame["high"][finite], COLOURS["blue"], lw=1.6)
    place.plot(frame[kind], y, color=COLOURS["blue"], marker="o", ms=5, ls="")
    place.set_yticks(y, frame["entry"])
    place.set_ylim(len(frame) - 0.5, -0.5)
    place.grid(axis="x", color="0.93", lw=0.7)
    place.set_axisbelow(True)
    tasks = " or ".join(map(str, sorted(set(frame["tasks"]))))
    place.set_xlabel(f"{AGGREGATES[kind]}, normalised ({tasks} tasks)")
    label = "ours, 95 % stratified bootstrap interval"
    handle = Line2D([], [], color=COLOURS["blue"], marker="o", ms=5, lw=1.6, label=label)
    return _finish(figure, title, [handle])


def curves(
    frame: pd.DataFrame,
    title: str,
    *,
    column: str = "score",
    per_seed: bool = False,
    window: int = 1,
) -> Figure:
    """A quantity against steps, a colour per entry: mean and range over seeds, or a line per seed.

    Where several entries each stand beside one with something more (``IQL``, ``IQL + QCSE``), a pair has one
    colour, and its second line is dashed.

    Args:
        frame: task, entry, seed, step and ``column``; one row per evaluation.
        title: of the figure.
        column: what is drawn; ``score`` is the normalised score.
        per_seed: a line per seed, in place of mean and range.
        window: evaluations that a centred running mean takes in, fewer at both ends; 1 smooths nothing.
    """
    tasks = list(dict.fromkeys(frame["task"]))
    entries = list(dict.fromkeys(frame["entry"]))
    looks = _looks(entries)
    figure, axes = _grid(len(tasks), 3.2)
    for place, task in zip(axes, tasks, strict=False):
        for entry in entries:
            part = frame[(frame["task"] == task) & (frame["entry"] == entry)]
            seeds = part.pivot(index="step", columns="seed", values=column)
            seeds = seeds.rolling(window, center=True, min_periods=1).mean()
            if per_seed:
                place.plot(seeds.index, seeds, **looks[entry], lw=1.0, alpha=0.8)
                continue
            place.plot(seeds.index, seeds.mean(axis=1), **looks[entry])
            low, high = seeds.min(axis=1), seeds.max(axis=1)
            colour = looks[entry]["color"]
            place.fill_between(seeds.index, low, high, color=colour, alpha=0.15, lw=0)
        place.set(title=task, xlabel="environment steps")
        place.xaxis.set_major_locator(MaxNLocator(5))
        place.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[0].set_ylabel(_unit(tasks[0]) if column == "score" else column.replace("_", " "))
    notes = ["a line per seed" if per_seed else "mean, shade: range over seeds"]
    notes += [f"running mean of {window} evaluations"] if window > 1 else []
    handles = [Line2D([], [], **looks[entry], label=entry) for entry in entries]
    return _finish(figure, f"{title} ({', '.join(notes)})", handles)


def _looks(entries: list[str]) -> dict[str, dict[str, str]]:
    """Colour and line style of each entry; colours come again after the tenth."""
    alone = [entry.split(" + ")[0] for entry in entries]
    bases = list(dict.fromkeys(alone))
    paired = len(bases) > 1 and all(alone.count(base) == 2 for base in bases)
    return {
        entry: {
            "color": f"C{bases.index(base) if paired else number}",
            "ls": "--" if paired and entry != base else "-",
        }
        for number, (entry, base) in enumerate(zip(entries, alone, strict=True))
    }


def histories(
    frame: pd.DataFrame,
    title: str,
    value: str,
    *,
    before: bool = False,
    limits: Mapping[str, float] | None = None,
) -> Figure:
    """As ``curves``, of any value.

    Args:
        frame: task, entry, seed, step and ``value``.
        title: of the figure.
        value: name of the column; ``score`` is the normalised score.
        before: steps below 0 are updates of the pre-training.
        limits: task -> size beyond which the value counts as diverged. Diverged values differ by orders
            of magnitude: the axis is logarithmic then, on both sides of ±1.
    """
    figure = curves(frame, title, column=value)
    places = [place for place in figure.axes if place.get_visible()]
    if value != "score":
        places[0].set_ylabel(f"mean {value} of a minibatch")
    for place in places:
        if before:
            place.axvline(0, color="0.5", lw=0.8, ls=":")
            place.set_xlabel("updates before fine-tuning | environment steps")
            place.locator_params(axis="x", nbins=5)
        if limit := (limits or {}).get(place.get_title()):
            place.set_yscale("symlog", linthresh=1.0)
            seen = frame.loc[frame["task"] == place.get_title(), value]
            for sign in (-1, 1):
                if (sign * seen).max() > 0:
                    place.axhline(sign * limit, color="0.3", lw=1, ls="--")
            if seen.min() >= 0:  # after the line: what is set by hand no longer adapts
                place.set_ylim(bottom=0)
    return figure


def empty(title: str, why: str) -> Figure:
    """The place of a figure that can't be drawn, with the reason."""
    figure, (place,) = _grid(1, 1.2)
    place.text(0.5, 0.5, why, ha="center", va="center", fontsize=8, wrap=True)
    place.set_axis_off()
    return _finish(figure, title, [])


def _grid(panels: int, height: float, **options: bool) -> tuple[Figure, list[Axes]]:
    style()
    columns, rows = min(panels, WIDE), math.ceil(panels / WIDE)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(max(4.8, 3.6 * columns), rows * height + 0.8),
        squeeze=False,
        layout="constrained",
        **options,
    )
    for unused in axes.flat[panels:]:
        unused.set_visible(False)
    return figure, list(axes.flat[:panels])


def _finish(figure: Figure, title: str, handles: list[Line2D]) -> Figure:
    """Title and legend above the panels, in one block: constrained layout knows no other order."""
    rows = max(1, math.ceil(len(handles) / 5))
    columns = max(1, math.ceil(len(handles) / rows))
    legend = figure.legend(
        handles=handles, title=title, loc="outside upper center", ncols=columns, frameon=False
    )
    legend.get_title().set(fontsize=11, multialignment="center")
    return figure
