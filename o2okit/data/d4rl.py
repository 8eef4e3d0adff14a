"""From the rows of a D4RL file to transitions, as D4RL's ``qlearning_dataset`` makes them.

For ``i = 0 .. N-2``: row ``i`` is left out if it is a time-out, else it gives
``(o_i, a_i, r_i, o_{i+1}, terminals_i)``. Row ``N-1`` is never used, ``next_observations`` of the file is
ignored, and a row with both flags is left out. An episode whose end is not marked therefore gives one
false transition into the next episode; all published results share it.

Departures: none in the transitions. In addition ``Dataset.timeouts`` marks the last transition of each
episode that was cut off, so that returns and n-step sums know where to end.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from o2okit.data.dataset import Dataset
from o2okit.data.hdf5 import read_rows
from o2okit.data.rows import Rows
from o2okit.errors import UserError, unknown
from o2okit.tasks import Task
from o2okit.tasks import task as find_task

MODES = ("faithful", "terminate_on_end")


def kept(rows: Rows, mode: str = "faithful") -> np.ndarray:
    """Which rows ``[N]`` give a transition.

    Args:
        rows: of a file.
        mode: ``faithful``, or D4RL's ``terminate_on_end=True``, which leaves out only the last row; a
            time-out row is then followed by the next episode's first state.
    """
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    keep = ~rows.timeouts if mode == "faithful" else np.ones(len(rows), dtype=bool)
    keep[-1] = False
    return keep


def used(rows: Rows, where: object, mode: str = "faithful") -> np.ndarray:
    """The indices of the rows that ``kept`` keeps. Raises ``UserError`` about ``where`` if there are none."""
    found = np.flatnonzero(kept(rows, mode))
    if not found.size:
        raise UserError(
            f"{where}: none of its {len(rows)} rows gives a transition, because each is a time-out or the "
            "last one. Are the flags those of another file?"
        )
    return found


def transitions(
    rows: Rows,
    task: str,
    *,
    name: str,
    source: str,
    mode: str = "faithful",
    provenance: Mapping[str, Any] | None = None,
) -> Dataset:
    """The transitions of ``rows`` (module docstring).

    Raises:
        UserError: no row gives a transition, or the mode is unknown.
    """
    kept_rows, keep = used(rows, f"dataset {name!r}", mode), kept(rows, mode)
    # What follows a row is left out where its episode is cut off: the row before a time-out.
    cut = np.append(~keep[1:], False) if mode == "faithful" else rows.timeouts
    return Dataset(
        task=task,
        name=name,
        source=source,
        observations=rows.observations[kept_rows],
        actions=rows.actions[kept_rows],
        rewards=rows.rewards[kept_rows],
        next_observations=rows.observations[kept_rows + 1],
        terminals=rows.terminals[kept_rows],
        timeouts=(cut & ~rows.terminals)[kept_rows],
        provenance={
            **(provenance or {}),
            "reader": f"qlearning_dataset, {mode}",
            "rows": len(rows),
            "unfinished": not (rows.terminals[-1] or rows.timeouts[-1]),  # its last episode
        },
    )


def read(
    path: Path | str,
    task: Task | str,
    *,
    name: str | None = None,
    source: str = "d4rl",
    mode: str = "faithful",
    provenance: Mapping[str, Any] | None = None,
) -> Dataset:
    """Reads a D4RL HDF5 file as transitions.

    Args:
        path: the file.
        task: the task or its name; its sizes are demanded.
        name: of the dataset; the file's name without its ending if it is not given.
        source: ``d4rl``, ``kit`` or ``file``.
        mode: as in ``kept``.
        provenance: added to what the file says of itself.

    Raises:
        UserError: as ``read_rows`` and ``transitions``.
    """
    task = find_task(task) if isinstance(task, str) else task
    rows = read_rows(path, task)
    return transitions(
        rows,
        task.name,
        name=name or Path(path).stem,
        source=source,
        mode=mode,
        provenance={**rows.provenance, "file": Path(path).name, **(provenance or {})},
    )
