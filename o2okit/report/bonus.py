"""Figures of what QCSE's bonus is on recorded transitions: its distribution, and what k does to it."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from o2okit.report.artefacts import style


def distribution(values: Mapping[str, list[np.ndarray]], ax: Axes, title: str = "") -> None:
    """The share of transitions that earn tanh(b) at most: a colour per name, a line per array (seed).

    A constant is a step, what tells transitions apart a slope.
    """
    for number, (name, seeds) in enumerate(values.items()):
        every = np.concatenate(seeds)
        label = f"{name}: {every.mean():.2f} ± {every.std():.2f}"
        for place, each in enumerate(seeds):
            ax.ecdf(each, color=f"C{number}", lw=1.4, label=None if place else label)
    ax.set(
        xlabel="tanh(b), what a transition earns for λ = 1",
        ylabel="share of transitions that earn no more",
        xlim=(-1.02, 1.02),
    )
    ax.set_title(title)
    ax.legend(title="mean ± std", frameon=False, fontsize=8, title_fontsize=8, loc="upper left")


def distributions(frame: pd.DataFrame, title: str) -> Figure:
    """A line per scales and seed; ``frame`` has seed, scales, bonus: one row per transition."""
    style()
    figure, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    values = {
        name: [seed["bonus"].to_numpy() for _, seed in rows.groupby("seed", sort=False)]
        for name, rows in frame.groupby("scales", sort=False)
    }
    distribution(values, ax)
    figure.suptitle(title)
    return figure


def by_neighbour(frame: pd.DataFrame, title: str) -> Figure:
    """Mean and spread of tanh(b), and whose distance ε is, against k; ``frame`` has a row per k."""
    style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.6), layout="constrained")
    for name, part in frame.groupby("scales", sort=False):
        rows = part.groupby("k")[["mean", "std", "by_condition"]].mean()
        (line,) = left.plot(rows.index, rows["mean"], label=name)
        low, high = rows["mean"] - rows["std"], rows["mean"] + rows["std"]
        left.fill_between(rows.index, low, high, color=line.get_color(), alpha=0.15, lw=0)
        right.plot(rows.index, rows["by_condition"], label=name)
    left.set(xlabel="k", ylabel="tanh(b), mean ± std over transitions")
    right.set(xlabel="k", ylabel="share with ε a distance in Q", ylim=(-0.02, 1.02))
    right.legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    return figure
