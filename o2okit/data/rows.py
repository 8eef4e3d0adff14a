"""The rows of a dataset's file as they are stored, checked; what ``Dataset`` is made from.

A row holds ``(s, a, r(s, a), flags after the step)``. The state that follows is the next row's, except
where an episode ends; ``next_observations`` of the file says it there, if the file has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from o2okit.data.dataset import episode_slices
from o2okit.errors import UserError
from o2okit.tasks import Task

REQUIRED = ("observations", "actions", "rewards", "terminals")
VECTORS = ("observations", "actions", "next_observations")
FLAGS = ("terminals", "timeouts")
WANTED = "It must hold observations [N, obs], actions [N, act], rewards, terminals, timeouts [N]."


class Trajectory(NamedTuple):
    """One episode: ``T`` steps, ``T + 1`` observations; ``T`` where the last is not known."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminal: bool
    timeout: bool


@dataclass(frozen=True, eq=False)
class Rows:
    """``N`` rows. ``checked_rows`` makes them.

    Attributes:
        observations, actions: ``[N, size]`` float32.
        rewards: ``[N]`` float32.
        terminals, timeouts: ``[N]`` bool, after the step.
        next_observations: ``[N, obs]`` or ``None`` where they were not read.
        infos: further fields, ``qpos`` and the like, as the file has them.
        provenance: what the file says of itself.
        has_timeouts: whether the file marks time-outs; else they were counted.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    timeouts: np.ndarray
    next_observations: np.ndarray | None = None
    infos: Mapping[str, np.ndarray] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    has_timeouts: bool = True

    def __len__(self) -> int:
        return len(self.rewards)

    def episodes(self) -> list[slice]:
        """The episodes; a last one without an end mark counts too."""
        return episode_slices(self.terminals | self.timeouts)

    def trajectories(self) -> list[Trajectory]:
        """The episodes, with the state after the last step where it was read."""
        found = []
        for rows in self.episodes():
            states, last = self.observations[rows], rows.stop - 1
            if self.next_observations is not None:
                states = np.concatenate([states, self.next_observations[last:][:1]])
            ends = bool(self.terminals[last]), bool(self.timeouts[last])
            found.append(Trajectory(states, self.actions[rows], self.rewards[rows], *ends))
        return found


def checked_rows(
    where: object,
    arrays: Mapping[str, np.ndarray],
    task: Task | None = None,
    *,
    infos: Mapping[str, np.ndarray] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Rows:
    """Casts and squeezes the fields of a file and refuses what would give wrong data.

    Args:
        where: the file, for messages.
        arrays: ``REQUIRED``, and maybe ``timeouts`` and ``next_observations``; float64 and shape
            ``[N, 1]`` are mended.
        task: its sizes must fit, and its horizon marks the ends where there are no time-outs.
        infos: further fields ``[N, ...]``.
        provenance: kept.

    Raises:
        UserError: a field is missing, of another shape, length or type, or not finite; a flag is
            neither 0 nor 1; sizes are not the task's; there are no time-outs and no task.
    """
    missing = [name for name in REQUIRED if name not in arrays]
    if missing:
        raise _bad(where, f"{', '.join(missing)} missing", WANTED)
    ready = {
        name: (_vectors if name in VECTORS else _flags if name in FLAGS else _floats)(
            where, name, arrays[name]
        )
        for name in (*REQUIRED, "timeouts", "next_observations")
        if name in arrays
    }
    _check_sizes(where, {**ready, **(infos or {})}, task)
    has_timeouts = "timeouts" in ready
    if not has_timeouts:
        if task is None:
            raise _bad(
                where,
                "the file does not mark time-outs",
                "Name the task: its horizon tells where episodes end.",
            )
        ready["timeouts"] = counted_timeouts(ready["terminals"], task.horizon)
    return Rows(**ready, infos=infos or {}, provenance=provenance or {}, has_timeouts=has_timeouts)


def counted_timeouts(terminals: np.ndarray, horizon: int) -> np.ndarray:
    """The rows ``[N]`` that D4RL's reader takes for time-outs in a file without them.

    A counter runs from 0 and times out at ``horizon - 1``. As in D4RL (``qlearning_dataset``), it starts
    again at 0 after a time-out but at **1** after a terminal: the reader adds 1 after the reset.
    """
    found = np.zeros(len(terminals), dtype=bool)
    count = 0
    for rows in episode_slices(terminals):
        steps = count + np.arange(rows.stop - rows.start)
        found[rows] = steps % horizon == horizon - 1
        count = 0 if found[rows.stop - 1] else 1
    return found


def _check_sizes(where: object, fields: Mapping[str, np.ndarray], task: Task | None) -> None:
    lengths = {name: len(values) if values.ndim else 0 for name, values in fields.items()}
    if len(set(lengths.values())) != 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise _bad(where, f"the fields differ in length: {shown}", WANTED)
    if lengths["rewards"] < 2:
        what = "holds no rows" if not lengths["rewards"] else "holds a single row"
        raise _bad(where, what, "A transition takes two.")
    obs, act = (fields[name].shape[1] for name in ("observations", "actions"))
    if fields.get("next_observations", fields["observations"]).shape[1] != obs:
        raise _bad(where, "next_observations differ in size from observations", WANTED)
    if task is not None and (obs, act) != (task.obs_size, task.act_size):
        raise _bad(
            where,
            f"observations of size {obs} and actions of size {act} are not those of {task.name}: "
            f"{task.obs_size} and {task.act_size}",
            "Is it another task's file?",
        )


def _vectors(where: object, name: str, values: np.ndarray) -> np.ndarray:
    if values.ndim != 2 or not values.shape[1]:
        raise _bad(where, f"{name} must be [N, size], but their shape is {values.shape}", WANTED)
    return _finite(where, name, values)


def _floats(where: object, name: str, values: np.ndarray) -> np.ndarray:
    return _finite(where, name, _column(where, name, values))


def _flags(where: object, name: str, values: np.ndarray) -> np.ndarray:
    values = _column(where, name, values)
    if values.dtype.kind not in "biuf":
        raise _bad(where, f"{name} must be booleans, not {values.dtype}", WANTED)
    flags = values.astype(bool)
    wrong = np.flatnonzero(values != flags)
    if wrong.size:
        what = f"{name} must be 0 or 1, but row {wrong[0]} holds {values[wrong[0]]}"
        raise _bad(where, what, WANTED)
    return flags


def _column(where: object, name: str, values: np.ndarray) -> np.ndarray:
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim != 1:
        raise _bad(where, f"{name} must be [N], but their shape is {values.shape}", WANTED)
    return values


def _finite(where: object, name: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "f":
        raise _bad(where, f"{name} must be floating point numbers, not {values.dtype}", WANTED)
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is infinite: seen below
        values = np.ascontiguousarray(values, dtype=np.float32)
        total = values.sum(dtype=np.float64)
    if not np.isfinite(total):  # a sum is finite only if all summands are
        bad = ~np.isfinite(values)
        row = int(np.argwhere(bad)[0][0])
        what = f"{name} are not finite in {int(bad.sum())} places, first in row {row}"
        raise _bad(where, what, "Such a row would spoil every network trained on it.")
    return values


def _bad(where: object, what: str, advice: str) -> UserError:
    return UserError(f"{where}: {what}. {advice}")
