"""Theirs and ours: the table and the picture of all datasets beside D4RL's published statistics."""

from __future__ import annotations

import itertools
import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from o2okit import tasks
from o2okit.data.statistics import (
    Statistics,
    compare,
    nearest_published,
    published_values,
    state_distance,
)
from o2okit.report.artefacts import COLOURS, style

RETURNS = ("mean", "std", "min", "max")
COLUMNS = [
    "task",
    "source",
    "status",  # compared, not reached or unusable
    "rows",
    "episodes",
    "length_mean",
    *(f"return_{name}" for name in RETURNS),
    "score",
    "published_rows",
    *(f"published_return_{name}" for name in RETURNS),
    "published_score",
    "difference_percent",  # of the mean return, from the published one
    "error_percent",  # a standard error of our mean return, over episodes
    "state_distance",  # StateDistance.frechet
    "state_shift",  # StateDistance.mean_shift
    "state_spread",  # StateDistance.spread
    "nearest",  # D4RL's other dataset of the robot whose states are most like this one's
    "nearest_distance",
    "note",
]
PUBLISHED = ("D4RL's, published", COLOURS["orange"], "D")
SOURCES = {  # label, colour, marker
    "kit": ("the kit's", COLOURS["blue"], "o"),
    "d4rl": ("D4RL's file here", COLOURS["green"], "s"),
    "minari": ("Minari's file here", COLOURS["purple"], "^"),
}
LEGEND = (
    "Returns: mean ± standard deviation (smallest to largest) of finished episodes. Difference: of the mean "
    "returns, ± one standard error of ours (unknown from one episode). State distance: Fréchet "
    "(2-Wasserstein) distance of diagonal Gaussians in published standard deviations, root mean square over "
    "the dimensions; 0 is equal. The last column is the same distance of D4RL's other dataset of the robot "
    "that comes nearest: ours is like theirs where it is closer than that. Not reached: the kit's policies "
    "are not that good yet, or there are none."
)
UNKNOWN = {"fontsize": 7.5, "color": "0.45", "style": "italic", "va": "center"}


# --- rows -----------------------------------------------------------------------------------------
def compared(source: str, found: Statistics) -> dict[str, Any]:
    """The row of a dataset whose statistics are ``found``."""
    ours, states = compare(found)["measured"], state_distance(found)
    known = _published(found.task)
    percent = 100 / abs(known["published_return_mean"])
    error = found.returns.std(ddof=1) / math.sqrt(found.episodes) if found.episodes > 1 else np.nan
    measured = {
        "source": source,
        "status": "compared",
        "rows": found.transitions,
        "episodes": found.episodes,
        "length_mean": found.lengths.mean(),
        **{f"return_{name}": ours[f"return_{name}"] for name in RETURNS},
        "score": found.score(),
        "difference_percent": percent * (ours["return_mean"] - known["published_return_mean"]),
        "error_percent": percent * error,
    }
    if states is not None:
        measured["state_distance"] = states.frechet
        measured["state_shift"], measured["state_spread"] = states.mean_shift, states.spread
    return known | measured


def missing(task: str, source: str, status: str, note: str) -> dict[str, Any]:
    """The row of a dataset that can't be compared: what is known of D4RL's, and why."""
    return {**_published(task), "source": source, "status": status, "note": note}


def _published(task: str) -> dict[str, Any]:
    known = published_values(task)
    mean = known.get("return_mean", np.nan)
    nearest, distance = nearest_published(task) or (None, np.nan)
    return {
        "task": task,
        "published_rows": known.get("transitions", np.nan),
        **{f"published_return_{name}": known.get(f"return_{name}", np.nan) for name in RETURNS},
        "published_score": float(tasks.normalised_score(task, mean)),
        "nearest": nearest,
        "nearest_distance": distance,
    }


# --- the table ------------------------------------------------------------------------------------
def markdown(frame: pd.DataFrame) -> str:
    """A table for a reader; returns as mean ± standard deviation (smallest to largest)."""
    rows = [
        {
            "dataset": row["task"],
            "source": row["source"],
            "rows": _number(row["rows"]) if row["status"] == "compared" else row["status"],
            "episodes": _number(row["episodes"]),
            "mean length": _number(row["length_mean"]),
            "return, ours": _returns(row, "return"),
            "return, D4RL's": _returns(row, "published_return"),
            "difference": _difference(row),
            "score, ours": _number(row["score"], ".1f"),
            "score, D4RL's": _number(row["published_score"], ".1f"),
            "state distance": _number(row["state_distance"], ".2f"),
            "nearest other of D4RL's": _nearest(row),
        }
        for row in frame.to_dict("records")
    ]
    table = pd.DataFrame(rows)
    left = ("dataset", "source", "return, ours", "return, D4RL's", "nearest other of D4RL's")
    align = ["left" if name in left else "right" for name in table]
    return table.to_markdown(index=False, colalign=align, disable_numparse=True)


def _number(value: float, form: str = ",.0f") -> str:
    return "-" if pd.isna(value) else format(value, form)


def _returns(row: dict[str, Any], prefix: str) -> str:
    mean, std, low, high = (row[f"{prefix}_{name}"] for name in RETURNS)
    if pd.isna(mean):
        return "-"
    form = ",.0f" if abs(mean) >= 100 else ",.1f"
    return f"{mean:{form}} ± {std:{form}} ({low:{form}} to {high:{form}})"


def _difference(row: dict[str, Any]) -> str:
    if pd.isna(row["difference_percent"]):
        return "-"
    error = "?" if pd.isna(row["error_percent"]) else f"{row['error_percent']:.1f}"
    return f"{row['difference_percent']:+.1f} ± {error} %"


def _nearest(row: dict[str, Any]) -> str:
    if pd.isna(row["nearest"]):
        return "-"
    return f"{row['nearest_distance']:.2f} ({row['nearest']})"


# --- the picture ----------------------------------------------------------------------------------
def draw(frame: pd.DataFrame) -> Figure:
    """Left, normalised returns of theirs and ours; right, how far our states lie from theirs.

    Args:
        frame: ``COLUMNS``; one line per task, all its sources on it.
    """
    style()
    groups = list(frame.groupby("task", sort=False))
    robots = [tasks.task(name).environment for name, _ in groups]
    gaps = np.cumsum([0, *(a != b for a, b in itertools.pairwise(robots))])
    places = np.arange(len(groups)) + 0.5 * gaps
    figure, (returns, states) = plt.subplots(
        1,
        2,
        figsize=(10, 1.5 + 0.31 * (places[-1] + 1)),
        sharey=True,
        width_ratios=[2.2, 1],
        layout="constrained",
    )
    for y, (name, rows) in zip(places, groups, strict=True):
        _draw_returns(returns, y, name, rows)
        _draw_states(states, y, rows)
    returns.set_yticks(places, [name for name, _ in groups], fontsize=8.5)
    returns.set_ylim(places[-1] + 0.7, -0.7)
    for edge in places[1:][np.diff(places) > 1]:
        for axes in (returns, states):
            axes.axhline(edge - 0.75, color="0.85", lw=0.8)
    low, high = returns.get_xlim()
    returns.set_xticks(np.arange(0, high, 20))
    returns.set_xlim(low, high + 0.28 * (high - low))  # room for what is not known
    returns.set_xlabel("normalised return: mean, ± std within the range, range")
    returns.axvline(0, color="0.8", lw=0.8, zorder=0)
    returns.axvline(100, color="0.8", lw=0.8, zorder=0)
    states.set_xlim(0, None)
    states.set_xlabel("distance of the states (Fréchet,\nin published standard deviations)")
    for axes in (returns, states):
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="x", color="0.93", lw=0.7)
        axes.set_axisbelow(True)
    figure.legend(handles=_legend(frame), loc="outside upper center", ncols=3, frameon=False)
    return figure


def _draw_returns(axes: Axes, y: float, name: str, rows: pd.DataFrame) -> None:
    measured, others = (rows[(rows["status"] == "compared") == which] for which in (True, False))
    series = [(SOURCES[row["source"]], "return", row) for _, row in measured.iterrows()]
    unknown = [f"{SOURCES[row['source']][0]}: {row['status']}" for _, row in others.iterrows()]
    if np.isnan(rows["published_return_mean"].iloc[0]):
        unknown.insert(0, "D4RL's: not published")
    else:
        series.insert(0, (PUBLISHED, "published_return", rows.iloc[0]))
    offsets = np.linspace(-0.18, 0.18, len(series)) if len(series) != 1 else [0.0]
    for ((_, colour, marker), prefix, row), offset in zip(series, offsets, strict=True):
        mean, std, low, high = (row[f"{prefix}_{part}"] for part in RETURNS)
        ends = tasks.normalised_score(name, np.array([low, high, mean - std, mean + std, mean]))
        ends[2:4] = np.clip(ends[2:4], ends[0], ends[1])  # no success is above all
        axes.plot(ends[:2], [y + offset] * 2, color=colour, lw=0.9, alpha=0.7)
        axes.plot(ends[2:4], [y + offset] * 2, color=colour, lw=3, alpha=0.45)
        axes.plot(ends[4], y + offset, color=colour, marker=marker, ms=5, ls="")
    where = axes.get_yaxis_transform()
    axes.text(0.995, y, "\n".join(unknown), ha="right", transform=where, **UNKNOWN)


def _draw_states(axes: Axes, y: float, rows: pd.DataFrame) -> None:
    nearest, measured = rows["nearest_distance"].iloc[0], rows[rows["status"] == "compared"]
    if np.isnan(nearest):
        if len(measured):
            axes.text(0.02, y, "not published", transform=axes.get_yaxis_transform(), **UNKNOWN)
        return
    axes.plot(nearest, y, color=PUBLISHED[1], marker=PUBLISHED[2], ms=6, mfc="none", ls="")
    for _, row in measured.iterrows():
        _, colour, marker = SOURCES[row["source"]]
        axes.plot([0, row["state_distance"]], [y, y], color=colour, lw=1.2, alpha=0.6)
        axes.plot(row["state_distance"], y, color=colour, marker=marker, ms=6, ls="")


def _legend(frame: pd.DataFrame) -> list[Line2D]:
    used = [SOURCES[key] for key in SOURCES if (frame["source"] == key).any()]
    entries = [
        Line2D([], [], color=colour, marker=marker, ms=5, lw=1.5, label=label)
        for label, colour, marker in (PUBLISHED, *used)
    ]
    label = "D4RL's nearest other dataset of the robot (states)"
    other = {"color": PUBLISHED[1], "marker": PUBLISHED[2], "ms": 6, "mfc": "none", "ls": ""}
    return [*entries, Line2D([], [], label=label, **other)]
