"""Is a D4RL HDF5 file fit for use? Either one error (the reader refuses it) or notes worth reading."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from o2okit.data.d4rl import used
from o2okit.data.dataset import episode_slices
from o2okit.data.hdf5 import read_rows
from o2okit.data.rows import Rows
from o2okit.data.sources import FILES, expected_hash, refuse_another, sha256, size_differs
from o2okit.errors import UserError
from o2okit.paths import expanded
from o2okit.tasks import TASKS, Task
from o2okit.tasks import task as find_task

TOLERANCE = 1e-5  # of float32 at 1


@dataclass(frozen=True)
class Verdict:
    """Attributes: ``error`` why the file can't be used, or ``None``; ``notes`` what is odd about it."""

    path: Path
    task: str | None
    rows: int
    error: str | None
    notes: tuple[str, ...]


def check(path: Path | str, task: str | None = None) -> Verdict:
    """Reads a file completely and judges it. A broken file is a verdict, not an exception.

    Args:
        path: of the file.
        task: its name; taken from the file's name if that is D4RL's or the kit's.

    Raises:
        UserError: there is no such task.
    """
    path = expanded(path)
    known = find_task(task) if task is not None else _task_of(path)
    name = known.name if known else None
    try:
        rows, ignored = _read(path, known)
        if known is not None:
            refuse_another(path, rows.provenance, known)
        used(rows, path)
        published = tuple(_published(path))
    except UserError as error:
        return Verdict(path, name, 0, str(error), ())
    against = _against_task(rows, known) if known else ()
    return Verdict(path, name, len(rows), None, (*ignored, *_content(rows), *against, *published))


def _read(path: Path, task: Task | None) -> tuple[Rows, tuple[str, ...]]:
    """The rows, and a note where only ``next_observations``, which the reader ignores, can't be used."""
    try:
        return read_rows(path, task, next_observations=True), ()
    except UserError as error:
        rows = read_rows(path, task)
        return rows, (f"next_observations can't be used, which D4RL's reader ignores: {error}",)


def _task_of(path: Path) -> Task | None:
    named = {file.name: task for task, file in FILES.items()}
    kit = re.fullmatch(r"kit-(.+)-\d+(-[a-z_-]+)?\.hdf5", path.name)
    return TASKS.get(kit[1] if kit else named.get(path.name, ""))


def _content(rows: Rows) -> Iterator[str]:
    outside = (np.abs(rows.actions) > 1 + TOLERANCE).any(axis=1)
    if outside.any():
        largest = np.abs(rows.actions).max()
        yield (
            f"actions leave [-1, 1] in {outside.sum():,} rows (up to {largest:.3g}): tasks clip them, so "
            "such a row does not show what was done"
        )
    if not rows.has_timeouts:
        yield "time-outs are not marked: they are counted from the task's horizon, as D4RL's reader does"
    both = (rows.terminals & rows.timeouts).sum()
    if both:
        yield f"{both:,} rows are terminal and time-out: D4RL's reader leaves them out, terminal included"
    ends = rows.terminals | rows.timeouts
    if not ends.any():
        yield "no end of an episode is marked: all rows count as one episode"
    if rows.next_observations is not None:
        jumps = (rows.next_observations[:-1] != rows.observations[1:]).any(axis=1) & ~ends[:-1]
        if jumps.any():
            yield (
                f"{jumps.sum():,} rows are not followed by their next_observations although no end is marked "
                f"(first: row {jumps.argmax():,}): each gives a false transition"
            )
    if (rows.observations == rows.observations[0]).all():
        yield "the observations never change"


def _against_task(rows: Rows, task: Task) -> Iterator[str]:
    # In AntMaze nothing terminates while data are collected, terminal rows are goal rows; and the row
    # after the last step is stored, too (specs/tasks.md 5).
    maze = task.family == "antmaze"
    limit = task.horizon + maze
    episodes = episode_slices(rows.timeouts) if maze else rows.episodes()
    lengths = np.array([episode.stop - episode.start for episode in episodes])
    if (lengths > limit).any():
        yield (
            f"{(lengths > limit).sum():,} episodes are longer than the {limit:,} rows of {task.name} (up to "
            f"{lengths.max():,}): ends are missing, or it is another task's file"
        )
    stops = np.array([episode.stop - 1 for episode in episodes])
    early = rows.timeouts[stops] & ~rows.terminals[stops] & (lengths < task.horizon)
    early[-1] = False  # the last episode may be cut off by the end of the file
    if early.any():
        yield f"{early.sum():,} time-outs come before step {task.horizon:,}"
    if maze:
        if not np.isin(rows.rewards, (0, 1)).all():
            yield f"the rewards are not 0 and 1, those of {task.name}"
        elif (rows.terminals != (rows.rewards == 1)).any():
            yield "terminals and rewards of 1 do not coincide, as they do in D4RL's files"


def _published(path: Path) -> Iterator[str]:
    file = next((file for file in FILES.values() if file.name == path.name), None)
    if file is None:
        return
    expected = expected_hash(path, file)
    if wrong := size_differs(path, file):
        yield f"not the file that D4RL publishes under this name: {wrong}"
    elif expected is not None and sha256(path) != expected:
        yield "not the file that D4RL publishes under this name: the SHA-256 differs"
