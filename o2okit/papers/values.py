"""The numbers, claims and hyper-parameters that the four papers print.

The files lie in ``papers/published``; its README says where each number comes from and which of
them contradict each other. Nothing here is measured by this kit.

Every lookup narrows a table by the values given. A value that does not occur among the rows left
so far raises ``UserError`` with the ones that do, so no lookup returns an empty table.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

import pandas as pd

from o2okit.errors import UserError, unknown

PAPERS = {
    "gde": "Guided Decoupled Exploration for Offline RL Fine-Tuning",
    "qcse": "Improving Offline-to-Online RL with Q Conditioned State Entropy Exploration",
    "samg": "SAMG: Offline-to-Online RL via State-Action-Conditional Offline Model Guidance",
    "ocr_cft": "Optimistic Critic Reconstruction and Constrained Fine-Tuning for General "
    "Offline-to-Online RL",
}
"""Key of each paper -> its title."""

_NUMBERS = {
    "scores": {"value": "float64", "std": "float64", "offline_value": "float64"},
    "totals": {"value": "float64"},
    "claims": {},
    "hyperparameters": {},
    "d4rl_datasets": {"index": "Int64", "value": "float64"},
}
"""File -> its columns that hold numbers. A hyper-parameter may be a schedule, so it stays text."""


@dataclass(frozen=True)
class Cell:
    """One printed number. ``std`` and ``offline_value`` are None where the paper prints none."""

    paper: str
    artefact: str
    section: str
    task: str
    method: str
    base: str
    metric: str
    value: float
    std: float | None
    offline_value: float | None
    unit: str
    source_note: str


@dataclass(frozen=True)
class Claim:
    """One statement a paper makes about its results: ``lhs direction rhs``."""

    paper: str
    claim_id: str
    statement: str
    artefact: str
    lhs: str
    rhs: str
    direction: str
    size: str


def scores(
    paper: str | None = None,
    artefact: str | None = None,
    task: str | None = None,
    method: str | None = None,
    metric: str | None = None,
) -> pd.DataFrame:
    """The printed cells, one row each, columns as in ``Cell``; NaN where nothing is printed."""
    return _select(
        "scores", paper=paper, artefact=artefact, task=task, method=method, metric=metric
    )


def cell(paper: str, artefact: str, task: str, method: str, metric: str | None = None) -> Cell:
    """The one printed cell that fits. ``UserError`` if none does, or more than one."""
    rows = scores(paper, artefact, task, method, metric)
    if len(rows) > 1:
        keys = ("paper", "artefact", "task", "method", "metric")
        differ = {key: rows[key].unique() for key in keys if rows[key].nunique() > 1}
        choices = "; ".join(f"{key}: {', '.join(map(repr, has))}" for key, has in differ.items())
        raise UserError(f"{len(rows)} published cells fit. Say which one by {choices}.")
    fields = rows.iloc[0].to_dict()
    for optional in ("std", "offline_value"):
        fields[optional] = None if pd.isna(fields[optional]) else fields[optional]
    return Cell(**fields)


def totals(
    paper: str | None = None,
    artefact: str | None = None,
    group: str | None = None,
    method: str | None = None,
) -> pd.DataFrame:
    """The printed totals, averages and increases. ``o2okit.papers.totals`` says which are wrong."""
    return _select("totals", paper=paper, artefact=artefact, group=group, method=method)


def claims(paper: str | None = None, artefact: str | None = None) -> pd.DataFrame:
    """The claims, columns as in ``Claim``. One that names two artefacts is found by either."""
    return _select("claims", paper=paper, artefact=artefact)


def claim(claim_id: str) -> Claim:
    """The claim with this identifier, such as ``gde-36``."""
    return Claim(**_select("claims", claim_id=claim_id).iloc[0].to_dict())


def hyperparameters(paper: str | None = None, method: str | None = None) -> pd.DataFrame:
    """The printed hyper-parameters, as text. What holds for all methods is under ``all`` only."""
    return _select("hyperparameters", paper=paper, method=method)


def artefacts(paper: str) -> list[str]:
    """The tables, figures and text passages of a paper that print a number or make a claim."""
    files = ("scores", "totals", "claims")
    tables = (table[table["paper"] == _paper(paper)] for table in map(_numeric, files))
    return _natural(item for table in tables for cell in table["artefact"] for item in _items(cell))


def printed(name: str) -> pd.DataFrame:
    """A whole file as text, digit for digit as the paper prints it; an empty cell is ``""``.

    Args:
        name: ``scores``, ``totals``, ``claims``, ``hyperparameters`` or ``d4rl_datasets``.
    """
    if name not in _NUMBERS:
        raise unknown("file of published values", name, _NUMBERS)
    return _printed(name).copy()


@functools.cache
def _printed(name: str) -> pd.DataFrame:
    path = resources.files("o2okit.papers").joinpath("published", f"{name}.csv")
    with path.open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False)


@functools.cache
def _numeric(name: str) -> pd.DataFrame:
    table = _printed(name).copy()
    for column, dtype in _NUMBERS[name].items():
        table[column] = pd.to_numeric(table[column]).astype(dtype)
    return table


def _select(name: str, **wanted: str | None) -> pd.DataFrame:
    """A copy of the rows of a file that have every wanted value, narrowed in the order given."""
    rows, chosen = _numeric(name), ""
    if wanted.get("paper") is not None:
        _paper(wanted["paper"])
    for column, value in wanted.items():
        if value is None:
            continue
        found = rows[column].map(lambda cell, value=value: value in [cell, *_items(cell)])
        if not found.any():
            kind = f"{column} in {name}.csv" + (f" for {chosen}" if chosen else "")
            allowed = _natural(item for cell in rows[column] for item in _items(cell))
            raise unknown(kind, value, allowed, f"See o2okit/papers/published/{name}.csv.")
        rows, chosen = rows[found], f"{chosen}, {value}".removeprefix(", ")
    return rows.reset_index(drop=True).copy()


def _paper(key: str) -> str:
    if key not in tuple(PAPERS):
        raise unknown("paper", key, PAPERS, "They are the keys of o2okit.papers.values.PAPERS.")
    return key


def _items(cell: str) -> list[str]:
    """The names in one cell of a file: ``"table_1; table_5"`` and ``"cql, iql"`` hold two each."""
    return re.split("[;,] ", cell)


def _natural(names: Iterable[str]) -> list[str]:
    """Distinct names, numbers in them compared as numbers: ``table_2`` before ``table_10``."""
    # Splitting on a group puts text at even and digits at odd places, so like meets like.
    return sorted(
        set(names),
        key=lambda name: [
            int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)
        ],
    )
