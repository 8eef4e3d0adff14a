"""Figures and their numbers on disk: PDF, PNG, CSV, and a record of where they come from."""

from __future__ import annotations

import datetime
import io
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from o2okit.training.store import write_atomically, write_json

MOST_NAMES, MOST_LETTERS = 4, 40  # that a file's name has room for: of tasks, of other values
# The palette's first colours, as matplotlib names them: they are looked up when a figure is drawn.
COLOURS = {"blue": "C0", "orange": "C1", "green": "C2", "red": "C3", "purple": "C4", "brown": "C5"}


def style() -> None:
    """One look for all figures."""
    import seaborn as sns  # here: it takes a second to load, and most commands draw nothing

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


def variant(given: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """The part of a file's name that says how results differ from those of the ``own`` parameters.

    Profile and device are none of these: smoke results have a folder of their own.
    """
    differs = (
        f"{name}-{_short(value)}"
        for name, value in given.items()
        if name not in ("profile", "device") and value != own[name]
    )
    return "_".join(differs).replace(", ", "+")


def _short(value: Any) -> str:
    """A parameter's value as a part of file names."""
    if isinstance(value, str) and os.sep in value:  # a path: its folders are none of ours
        return f"{Path(value).stem}-{zlib.crc32(value.encode()):08x}".replace(" ", "_")
    if isinstance(value, Mapping):
        names = "+".join(f"{name}={each}" for name, each in value.items())
        few = re.fullmatch(r"[\w.=+-]*", names) and len(names) <= MOST_LETTERS
    elif not isinstance(value, list):
        return str(value)
    elif all(isinstance(each, int) for each in value):
        names = ranges(value)
        few = len(names) <= MOST_LETTERS
    else:
        names = "+".join(value)
        few = len(value) <= MOST_NAMES
    return names if few else f"{len(value)}-{zlib.crc32(names.encode()):08x}"


def ranges(numbers: Sequence[int]) -> str:
    """``[0, 1, 2, 5]`` as ``0-2, 5``."""
    groups: list[list[int]] = []
    for number in sorted(numbers):
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(f"{g[0]}-{g[-1]}" if len(g) > 1 else str(g[0]) for g in groups)
