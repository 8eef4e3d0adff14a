"""Tables of grids: a row per task and per sum of tasks, a column per entry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd


def scores(
    cells: pd.DataFrame, groups: Mapping[str, Sequence[str]], digits: int = 1
) -> pd.DataFrame:
    """Ours as mean ± standard deviation over seeds, the published value in brackets.

    Below the tasks stands the sum over each group's tasks that were run, where there are two or more; the
    published sum is that of the same tasks. Where tasks of two groups were run, the last row is their mean.

    Args:
        cells: task, entry, score, std, published; one row per task and entry.
        groups: name -> all of its tasks.
        digits: of each number, after the point.
    """
    entries = list(dict.fromkeys(cells["entry"]))
    rows = []
    for task, part in cells.groupby("task", sort=False):
        rows.append(
            {"task": task} | {cell.entry: _shown(cell, digits) for cell in part.itertuples()}
        )
    tasks = list(dict.fromkeys(cells["task"]))
    run = {group: [name for name in tasks if name in named] for group, named in groups.items()}
    for group, names in run.items():
        if len(names) > 1:  # one is its own sum
            title = f"{group}, {len(names)} of {len(groups[group])}"
            rows.append({"task": title} | _over(cells, names, "sum", digits))
    if sum(map(bool, run.values())) > 1:
        names = [name for part in run.values() for name in part]
        title = f"mean, {len(names)} of {sum(map(len, groups.values()))}"
        rows.append({"task": title} | _over(cells, names, "mean", digits))
    return pd.DataFrame(rows, columns=["task", *entries]).fillna("")


def _over(cells: pd.DataFrame, tasks: Sequence[str], how: str, digits: int) -> dict[str, str]:
    """Sum or mean of each entry that was run on all of the tasks; a published one needs every value."""
    shown = {}
    for entry, part in cells[cells["task"].isin(tasks)].groupby("entry", sort=False):
        if len(part) == len(tasks):
            score, published = (
                getattr(part[name], how)(skipna=False) for name in ("score", "published")
            )
            shown[entry] = f"{score:.{digits}f}" + _bracket(published, digits)
    return shown


def _shown(cell: Any, digits: int) -> str:
    spread = "" if math.isnan(cell.std) else f" ± {cell.std:.{digits}f}"
    return f"{cell.score:.{digits}f}{spread}" + _bracket(cell.published, digits)


def _bracket(published: float, digits: int) -> str:
    return "" if math.isnan(published) else f" ({published:.{digits}f})"
