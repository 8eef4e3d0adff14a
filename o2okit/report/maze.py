"""Drawing the toy maze: counts on the grid, paths, curves."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from o2okit.data import Batch
from o2okit.tasks.maze import GEOMETRY


def heat(
    figure: Figure, axes: Axes, counts: np.ndarray, label: str, limit: float | None = None
) -> None:
    """Counts per cell on the maze, logarithmic; walls dark, start and goals lettered."""
    grid = np.full(GEOMETRY.walls.shape, np.nan)
    grid[tuple(GEOMETRY.cells.T)] = np.where(counts > 0, counts, np.nan)
    axes.imshow(np.where(GEOMETRY.walls, 0.25, 1.0), cmap="gray", vmin=0, vmax=1)
    norm = LogNorm(1, max(limit or counts.max(), 2))
    image = axes.imshow(grid, cmap="YlOrRd", norm=norm)
    figure.colorbar(image, ax=axes, label=label, shrink=0.85)
    for letter, cell in (("S", GEOMETRY.start), ("L", GEOMETRY.goal(1)), ("R", GEOMETRY.goal(2))):
        row, column = GEOMETRY.cells[cell]
        box = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "black"}
        axes.text(
            column, row, letter, ha="center", va="center", weight="bold", fontsize=8, bbox=box
        )
    axes.set(xticks=[], yticks=[])


def paths(axes: Axes, transitions: Batch, episodes: pd.DataFrame, shown: int = 12) -> None:
    """Some episodes as lines, evenly spaced over training; a small shift keeps them apart."""
    if episodes.empty:
        return
    chosen = episodes.iloc[np.unique(np.linspace(0, len(episodes) - 1, shown).astype(int))]
    shades = plt.get_cmap("winter")(np.linspace(0, 1, len(chosen)))
    shifts = np.linspace(-0.28, 0.28, len(chosen))
    for (_, episode), shade, shift in zip(chosen.iterrows(), shades, shifts, strict=True):
        end = int(episode["step"])
        before = transitions.obs[end - int(episode["length"]) : end]
        cells = GEOMETRY.cells[torch.cat([before, transitions.next_obs[end - 1 : end]])]
        axes.plot(cells[:, 1] + shift, cells[:, 0] + shift, color=shade, lw=0.9, alpha=0.8)


def curves(axes: Axes, curves: list[pd.DataFrame], colour: Any, name: str) -> None:
    """Every seed thin, their mean thick."""
    for curve in curves:
        axes.plot(curve["step"], curve["return"], color=colour, lw=0.7, alpha=0.45)
    mean = np.mean([curve["return"] for curve in curves], axis=0)
    axes.plot(curves[0]["step"], mean, color=colour, lw=2.4, label=name)


def goals(axes: Axes, *, named: bool = True) -> None:
    """The best possible return to each goal; which it is says the first of several panels."""
    for goal, name in ((1, "left goal"), (2, "right goal")):
        best = -GEOMETRY.distances[goal][GEOMETRY.start]
        axes.axhline(best, color="0.6", lw=0.8, ls="--", zorder=0)
        if not named:
            continue
        axes.annotate(
            f"shortest path to the {name}: {best:.0f}",
            (0.99, best),
            xycoords=axes.get_yaxis_transform(),
            xytext=(0, -5),  # below the marks on the line
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=7,
            color="0.35",
        )


def cells(**columns: np.ndarray) -> pd.DataFrame:
    """Counts per free cell ``[S]`` with their place in the maze."""
    rows, places = GEOMETRY.cells.T
    return pd.DataFrame({"row": rows, "column": places, **columns})
