"""Every task in one table: names -> environment, episode rules, sizes, reference scores."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from o2okit.errors import UserError, known, unknown
from o2okit.tasks import maze
from o2okit.tasks.keys import Key
from o2okit.tasks.table import TASKS, without_padding
from o2okit.tasks.task import Task

__all__ = [
    "FAMILIES",
    "TASKS",
    "Key",
    "Task",
    "normalised_score",
    "task",
    "tasks_of",
]

FAMILIES = tuple(dict.fromkeys(task.family for task in TASKS.values()))

gym.register(
    "o2okit/ToyMaze-v0",
    entry_point="o2okit.tasks.maze:ToyMaze",
    vector_entry_point="o2okit.tasks.maze:ToyMazeVector",
    max_episode_steps=maze.HORIZON,
)


def task(name: str, ant_obs: int = 111) -> Task:
    """Looks a task up.

    Args:
        name: the task's.
        ant_obs: 111 observations of ant, as in D4RL's files, or 27 without the zeros (specs/tasks.md 3).

    Raises:
        UserError: the name is unknown, or the task does not have so many observations.
    """
    found = TASKS[known("task", name, TASKS)]
    if ant_obs == 111:
        return found
    if ant_obs != 27 or not found.padding:
        raise UserError(
            f"ant_obs is 111, or 27 for ant's tasks, whose other observations are always 0; got "
            f"{ant_obs!r} for {name!r}."
        )
    return without_padding(found)


def environment_of(name: str) -> str:
    """The task that stands for all with the same environment: what is learnt without data is theirs.

    ``hopper`` for ``hopper-medium-v2``; of AntMaze, whose v0 and v2 differ in their goals, the first of a
    maze and version. Raises ``UserError`` for an unknown name.
    """
    found = task(name)

    def kind(each: Task) -> tuple[str, str]:
        return each.environment, each.scored

    alike = [each for each in TASKS.values() if kind(each) == kind(found)]
    plain = [each.name for each in alike if each.quality is None]
    version = name.rpartition("-")[2]
    return next(iter(plain or [each.name for each in alike if each.name.endswith(version)]), name)


def tasks_of(family: str) -> list[Task]:
    """The tasks of a family (``FAMILIES``), in the table's order. Raises ``UserError``."""
    if family not in FAMILIES:
        raise unknown("family", family, FAMILIES)
    return [task for task in TASKS.values() if task.family == family]


def normalised_score(name: str, value: float | np.ndarray) -> np.ndarray:
    """D4RL's normalised score, ``100 (value - min) / (max - min)``.

    Args:
        name: of a task.
        value: returns of episodes, or their mean, any shape; for a task whose ``scored`` is
            ``success`` (the binary ones) the fraction of episodes that succeed.

    Raises:
        UserError: the task is unknown or has no reference scores, or a fraction is none.
    """
    found, value = task(name), np.asarray(value, dtype=np.float64)
    if found.reference is None:
        scored = ", ".join(family for family in FAMILIES if tasks_of(family)[0].reference)
        raise UserError(
            f"task {name!r} has no reference scores, so no normalised score. Report its return. "
            f"Scores exist for the tasks of: {scored}."
        )
    if found.scored == "success" and ((value < 0) | (value > 1)).any():
        raise UserError(
            f"the score of {name!r} is 100 times the fraction of episodes that succeed, between 0 "
            f"and 1; got {value!r}. Pass that fraction, not the return."
        )
    low, high = found.reference
    return 100.0 * (value - low) / (high - low)
