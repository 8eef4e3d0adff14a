"""Figures and their numbers on disk: PDF, PNG, CSV, and a record of where they come from."""

from __future__ import annotations

import datetime
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from o2okit.training.store import write_atomically, write_json

COLOURS = dict(
    zip(
        ("blue", "orange", "green", "red", "purple", "brown"),
        sns.color_palette("colorblind"),
        strict=False,
    )
)


def style() -> None:
    """One look for all figures."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind", font_scale=0.9)


def stamp(figure: Figure, label: str) -> None:
    """Writes where the numbers come from below the figure."""
    figure.text(0.5, -0.01, f"o2okit · {label}", ha="center", va="top", fontsize=7, color="0.35")


def save(folder: Path, name: str, figure: Figure, numbers: pd.DataFrame) -> list[Path]:
    """Writes ``name.pdf``, ``name.png`` and ``name.csv``; equal figures give equal bytes.

    Raises ``StoreError`` where the disk is full or the folder can't be written.
    """
    written = []
    for ending, options in (
        ("pdf", {"metadata": {"CreationDate": None}}),
        ("png", {"dpi": 150, "metadata": {"Software": None}}),
    ):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=ending, bbox_inches="tight", **options)
        path = folder / f"{name}.{ending}"
        write_atomically(path, buffer.getvalue())
        written.append(path)
    return [*written, save_table(folder, name, numbers)]


def save_table(folder: Path, name: str, table: pd.DataFrame) -> Path:
    """Writes ``name.csv``. Raises ``StoreError`` as ``save`` does."""
    path = folder / f"{name}.csv"
    write_atomically(path, table.to_csv(index=False, float_format="%.6g").encode())
    return path


def write_record(path: Path, record: dict[str, Any]) -> None:
    """The provenance of a study's artefacts, with the time."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write_json(path, {**record, "written": now})


def ranges(numbers: Sequence[int]) -> str:
    """``[0, 1, 2, 5]`` as ``0-2, 5``."""
    groups: list[list[int]] = []
    for number in sorted(numbers):
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(f"{g[0]}-{g[-1]}" if len(g) > 1 else str(g[0]) for g in groups)
