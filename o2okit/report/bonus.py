"""Figures of what QCSE's bonus is on recorded transitions: its distribution, and what k does to it."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from o2okit.report.artefacts import style

BINS = np.linspace(-1, 1, 41)


def distribution(values: Mapping[str, np.ndarray], ax: Axes, title: str = "") -> None:
    """Histograms of tanh(b), a line per name."""
    for name, each in values.items():
        label = f"{name}: {each.mean():.2f} ± {each.std():.2f}"
        ax.hist(each, BINS, histtype="step", lw=1.6, label=label)
    ax.set(
        xlabel="tanh(b), what a transition earns for λ = 1",
        ylabel="transitions",
        xlim=(-1.02, 1.02),
    )
    ax.set_title(title)
    ax.set_ylim(top=(1.15 + 0.13 * len(values)) * ax.get_ylim()[1])  # room for the legend
    ax.legend(title="mean ± std", frameon=False, fontsize=8, title_fontsize=8, loc="upper left")


def distributions(frame: pd.DataFrame, title: str) -> Figure:
    """A panel per seed; ``frame`` has seed, scales, bonus: one row per transition."""
    style()
    seeds = list(dict.fromkeys(frame["seed"]))
    figure, axes = plt.subplots(
        *(1, len(seeds)),
        figsize=(max(4.8, 4.2 * len(seeds)), 3.6),
        squeeze=False,
        layout="constrained",
    )
    for ax, seed in zip(axes.flat, seeds, strict=True):
        part = frame[frame["seed"] == seed]
        values = {
            name: rows["bonus"].to_numpy() for name, rows in part.groupby("scales", sort=False)
        }
        distribution(values, ax, f"seed {seed}")
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
