"""Every task in one table: names -> environment, episode rules, sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gymnasium as gym
from gymnasium.vector import VectorEnv

from o2okit.errors import unknown
from o2okit.tasks import maze

__all__ = ["TASKS", "Task", "task"]

gym.register(
    "o2okit/ToyMaze-v0",
    entry_point="o2okit.tasks.maze:ToyMaze",
    vector_entry_point="o2okit.tasks.maze:ToyMazeVector",
    max_episode_steps=maze.HORIZON,
)


@dataclass(frozen=True)
class Task:
    """What is known of a task.

    Attributes:
        name: the name used everywhere.
        vector: makes ``n`` environments that step together, resetting in the same step.
        n_observations: number of discrete observations.
        n_actions: number of discrete actions.
        horizon: steps after which an episode is cut off (a time-out, not a termination).
        outcomes: names of the values of ``info["outcome"]``.
        version: part of a run's id; raise it when a change to the environment alters results.
    """

    name: str
    vector: Callable[[int], VectorEnv]
    n_observations: int
    n_actions: int
    horizon: int
    outcomes: tuple[str, ...]
    version: int = 1


TASKS = {
    "toy-maze": Task(
        name="toy-maze",
        vector=maze.ToyMazeVector,
        n_observations=maze.GEOMETRY.n_cells,
        n_actions=4,
        horizon=maze.HORIZON,
        outcomes=maze.OUTCOMES,
    ),
}


def task(name: str) -> Task:
    """Looks a task up. Raises ``UserError`` with the allowed names."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]
