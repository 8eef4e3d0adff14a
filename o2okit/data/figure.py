"""One picture of a dataset: returns, lengths of episodes, where its states lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from o2okit.data.rows import Rows
from o2okit.data.statistics import Statistics
from o2okit.errors import UserError
from o2okit.files import replacing
from o2okit.paths import expanded

STATES = 5_000  # drawn
ENDINGS = (".png", ".pdf", ".svg")


def principal_components(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two directions of largest variance of the standardised states ``[N, obs]``.

    Returns:
        the projection ``[N, 2]`` (second column 0 for a single dimension) and the shares of the variance.
    """
    scale = states.std(axis=0)
    centred = (states - states.mean(axis=0)) / np.where(scale > 0, scale, 1)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    found, shares = np.zeros((len(states), 2)), np.zeros(2)
    k = min(2, len(sizes))
    found[:, :k] = left[:, :k] * sizes[:k]
    shares[:k] = sizes[:k] ** 2 / max((sizes**2).sum(), 1e-12)
    return found, shares


def draw(rows: Rows, found: Statistics, caption: str, path: Path | str) -> Path:
    """Writes the picture, as the ending of ``path`` says.

    Args:
        rows: the data.
        found: their statistics.
        caption: where the data are from; stands below.
        path: ends in ``.png``, ``.pdf`` or ``.svg``.

    Raises:
        UserError: another ending, or the file can't be written.
    """
    path = expanded(path)
    if path.suffix not in ENDINGS:
        raise UserError(f"a figure ends in {', '.join(ENDINGS)}; got {path.name!r}.")
    with sns.axes_style("whitegrid"):
        figure = Figure(figsize=(12, 4), layout="constrained")
        FigureCanvasAgg(figure)
        returns, lengths, states = figure.subplots(1, 3)
    for axes, values, label in (
        (returns, found.returns, "return of an episode"),
        (lengths, found.lengths, "length of an episode [steps]"),
    ):
        bins = np.histogram_bin_edges(values, bins=40)
        sns.histplot(x=values, bins=bins, ax=axes)
        axes.set(xlabel=label, ylabel="episodes")
    lengths.xaxis.set_major_locator(MaxNLocator(integer=True))
    chosen = np.linspace(0, len(rows) - 1, min(STATES, len(rows))).astype(int)
    projected, shares = principal_components(rows.observations[chosen].astype(np.float64))
    points = states.scatter(*projected.T, c=chosen, s=3, cmap="viridis", rasterized=True)
    figure.colorbar(points, ax=states, label="row in the file")
    states.set(
        xlabel=f"first component ({shares[0]:.0%} of the variance)",
        ylabel=f"second ({shares[1]:.0%})",
    )
    figure.suptitle(f"{found.task}: {found.transitions:,} rows, {found.episodes:,} episodes")
    figure.supxlabel(caption, fontsize="small")
    try:
        with replacing(path) as beside:
            figure.savefig(beside, format=path.suffix[1:], dpi=150)
    except OSError as error:
        raise UserError(f"could not write {path}: {error.strerror or error}.") from error
    return path
