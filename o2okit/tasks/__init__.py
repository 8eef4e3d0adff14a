"""Every task in one table: names -> environment, episode rules, sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gymnasium as gym
from gymnasium.vector import VectorEnv

from o2okit.errors import unknown
from o2okit.tasks import locomotion, maze
from o2okit.tasks.keys import Key

__all__ = ["TASKS", "Key", "Task", "task"]

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
        vector: makes one environment per key; they step together and reset in the same step.
        obs_size: dimension of an observation; how many there are where they are discrete.
        act_size: the same for actions.
        discrete: observations and actions are indices.
        horizon: steps after which an episode is cut off (a time-out, not a termination).
        outcomes: names of the values of ``info["outcome"]``.
        version: part of a run's id; raise it when a change to the environment alters results.
    """

    name: str
    vector: Callable[[Sequence[Key]], VectorEnv]
    obs_size: int
    act_size: int
    horizon: int
    discrete: bool = False
    outcomes: tuple[str, ...] = ()
    version: int = 1


TASKS = {
    "toy-maze": Task(
        name="toy-maze",
        vector=lambda keys: maze.ToyMazeVector(len(keys)),
        obs_size=maze.GEOMETRY.n_cells,
        act_size=4,
        discrete=True,
        horizon=maze.HORIZON,
        outcomes=maze.OUTCOMES,
    ),
}
for _name, _robot, _obs, _act in (
    ("halfcheetah", locomotion.HalfCheetah, 17, 6),
    ("hopper", locomotion.Hopper, 11, 3),
    ("walker2d", locomotion.Walker2d, 17, 6),
    ("ant", locomotion.Ant, 111, 8),
):
    TASKS[_name] = Task(_name, lambda keys, robot=_robot: robot(keys, 1000), _obs, _act, 1000)


def task(name: str) -> Task:
    """Looks a task up. Raises ``UserError`` with the allowed names."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]
