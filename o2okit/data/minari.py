"""Minari's local store, read without Minari: ``<root>/<id>/data/main_data.hdf5``.

One group per episode, ``episode_0, episode_1, ...``: observations ``[T + 1, obs]``, actions, rewards,
terminations, truncations ``[T]`` (Minari's *Dataset standards*). The last observation is stored, so each
step gives a true transition and none is left out.

Not read: the mazes. Their observations are dictionaries in another frame, and they do not reproduce
D4RL's results (Minari#296).
"""

from __future__ import annotations

import csv
import functools
import json
import re
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from o2okit.data.dataset import Dataset
from o2okit.data.hdf5 import AGAIN, array, intact, open_file
from o2okit.data.rows import Rows, checked_rows
from o2okit.errors import UserError
from o2okit.paths import expanded
from o2okit.tasks import Task
from o2okit.tasks import task as find_task

MAIN = Path("data") / "main_data.hdf5"
FIELDS = {
    "observations": "observations",
    "actions": "actions",
    "rewards": "rewards",
    "terminals": "terminations",
    "timeouts": "truncations",
}


class Counterpart(NamedTuple):
    """Minari's dataset that comes nearest to D4RL's of a task, and how they differ."""

    id: str
    note: str


@functools.cache
def counterparts() -> dict[str, Counterpart]:
    """Task -> its counterpart, from ``published/minari_ids.csv``."""
    path = resources.files("o2okit").joinpath("data", "published", "minari_ids.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return {row["task"]: Counterpart(row["id"], row["note"]) for row in csv.DictReader(file)}


def read_rows(folder: Path | str, task: Task | None = None, *, rows: int | None = None) -> Rows:
    """Reads a dataset's folder; an episode whose end is not marked was cut off there.

    Args:
        folder: the one that holds ``data/``.
        task: its sizes are demanded.
        rows: whole episodes until as many are reached.

    Raises:
        UserError: it is not Minari's format in HDF5, observations are not vectors, or what
            ``checked_rows`` refuses.
    """
    folder = expanded(folder)
    metadata, path = _metadata(folder), folder / MAIN
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (*FIELDS, "next_observations")}
    total = 0
    with intact(path), open_file(path) as file:
        for name in _episodes(path, file):
            episode = _episode(path, file, name)
            for field, values in episode.items():
                parts[field].append(values)
            total += len(episode["rewards"])
            if rows is not None and total >= rows:
                break
    provenance = {"minari": metadata.get("dataset_id", folder.name)}
    for key in ("minari_version", "algorithm_name", "code_permalink"):
        if key in metadata:
            provenance[key] = metadata[key]
    for name, values in parts.items():
        if len(widths := {each.shape[1:] for each in values}) > 1:
            shown = " and ".join(str(*width) for width in sorted(widths))
            raise UserError(f"{path}: {name} of {shown} numbers in one dataset. {AGAIN}")
    fields = {name: np.concatenate(values) for name, values in parts.items()}
    return checked_rows(path, fields, task, provenance=provenance)


def transitions(rows: Rows, task: str, *, name: str, provenance: dict | None = None) -> Dataset:
    """Every row of ``read_rows`` as a transition."""
    return Dataset(
        task=task,
        name=name,
        source="minari",
        observations=rows.observations,
        actions=rows.actions,
        rewards=rows.rewards,
        next_observations=rows.next_observations,
        terminals=rows.terminals,
        timeouts=rows.timeouts & ~rows.terminals,
        provenance={**rows.provenance, **(provenance or {}), "rows": len(rows)},
    )


def read(folder: Path | str, task: Task | str, *, name: str | None = None) -> Dataset:
    """Reads a dataset's folder as transitions. Raises ``UserError`` as ``read_rows``."""
    task = find_task(task) if isinstance(task, str) else task
    known, rows = counterparts().get(task.name), read_rows(folder, task)
    label = f"minari-{rows.provenance['minari']}".replace("/", "-")
    provenance = {"note": known.note} if known else None  # its name among Minari's says which it is
    return transitions(rows, task.name, name=name or label, provenance=provenance)


def _metadata(folder: Path) -> dict:
    path = folder / "data" / "metadata.json"
    with intact(path):
        try:
            metadata = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"{folder}: no Minari dataset, because {path} is missing. Name the folder that holds data/."
            ) from None
    if not isinstance(metadata, dict):
        raise UserError(f"{path} is damaged (not a JSON object). {AGAIN}")
    if metadata.get("data_format", "hdf5") != "hdf5":
        raise UserError(
            f"{folder}: its format is {metadata['data_format']!r}; o2okit reads Minari's 'hdf5'. "
            "Convert it, or take D4RL's file: `o2okit data fetch TASK`."
        )
    return metadata


def _episodes(path: Path, file: h5py.File) -> list[str]:
    """The groups' names in the order of their numbers, which must have no gap."""
    numbers = sorted(int(m[1]) for name in file if (m := re.fullmatch(r"episode_(\d+)", name)))
    if not numbers or numbers != list(range(len(numbers))):
        has = f"{len(numbers)} of {numbers[-1] + 1} episodes" if numbers else "no episode"
        raise UserError(f"{path}: holds {has}. {AGAIN}")
    return [f"episode_{number}" for number in numbers]


def _episode(path: Path, file: h5py.File, name: str) -> dict[str, np.ndarray]:
    if isinstance(file.get(f"{name}/observations"), h5py.Group):
        raise UserError(
            f"{path}: observations are dictionaries, as in Minari's mazes. Those lie in another frame than "
            "D4RL's and do not reproduce its results (Minari#296). Use the D4RL file or the kit dataset."
        )
    missing = [key for key in FIELDS.values() if f"{name}/{key}" not in file]
    if missing:
        raise UserError(f"{path}: {', '.join(missing)} missing in {name}. {AGAIN}")
    fields = {key: array(path, file, f"{name}/{theirs}") for key, theirs in FIELDS.items()}
    shapes = {key: values.shape for key, values in fields.items()}
    flat = ("rewards", "terminals", "timeouts")
    if any(len(shape) != (1 if key in flat else 2) for key, shape in shapes.items()):
        shown = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
        raise UserError(
            f"{path}: {name} needs two axes of states and actions, one of the rest; got {shown}."
        )
    states, steps = fields["observations"], len(fields["rewards"])
    lengths = {key: len(values) for key, values in fields.items() if key != "observations"}
    if len(states) != steps + 1 or set(lengths.values()) != {steps} or not steps:
        shown = ", ".join(
            f"{key} {n}" for key, n in {"observations": len(states), **lengths}.items()
        )
        raise UserError(f"{path}: {name} needs T + 1 observations and T of the rest; got {shown}.")
    fields["observations"], fields["next_observations"] = states[:-1], states[1:]
    if not fields["terminals"][-1]:
        fields["timeouts"] = np.append(fields["timeouts"][:-1], True)
    return fields
