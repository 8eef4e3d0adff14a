"""Which way to walk through a maze: D4RL's waypoints on a shortest path (specs/tasks.md 5 and 6).

An ant heads for the next cell of a shortest path, and for the goal itself where that cell is the goal's.

Numbered departures from D4RL, each with a switch that undoes it:
    1. The ant's cell is the one it is in; D4RL's index is shifted by half a cell (``legacy_cell``).
    2. A waypoint keeps its noise until there is another one; D4RL draws it anew in every step
       (``legacy_noise``).
"""

from __future__ import annotations

import numpy as np

from o2okit.tasks.antmaze_maps import Maze


class Planner:
    """The waypoints of ``n`` ants.

    Args:
        maze: where they walk.
        n: how many.
        rng: of the waypoints' noise.
        legacy_cell: departure 1 undone.
        legacy_noise: departure 2 undone.
    """

    def __init__(
        self,
        maze: Maze,
        n: int,
        rng: np.random.Generator,
        *,
        legacy_cell: bool = False,
        legacy_noise: bool = False,
    ) -> None:
        self.maze, self.rng = maze, rng
        self.legacy_cell, self.legacy_noise = legacy_cell, legacy_noise
        self._ahead = np.full((n, 2), -1)
        self._noise = np.zeros((n, 2))

    def waypoints(self, xy: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Where to head for, ``[n, 2]`` in metres.

        Args:
            xy: where the ants are, ``[n, 2]`` in metres.
            goals: where they are to go, ``[n, 2]``.
        """
        goal_cells = self.maze.cell(goals)
        ahead = self.maze.next_cell(self.maze.cell(xy, self.legacy_cell), goal_cells)
        renewed = (ahead != self._ahead).any(axis=1) | self.legacy_noise
        # Numbers are drawn for all, so that one ant's path does not shift another's noise.
        noise = self.rng.uniform(0.0, 1.0, self._noise.shape)
        self._noise = np.where(renewed[:, None], noise, self._noise)
        self._ahead = ahead
        last = (ahead == goal_cells).all(axis=1)
        return np.where(last[:, None], goals, self.maze.centre(ahead) + self._noise)

    def directions(self, xy: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Unit vectors ``[n, 2]`` towards the waypoints."""
        return towards(xy, self.waypoints(xy, goals))


def towards(xy: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Unit vectors ``[n, 2]`` from ``xy`` to ``target``, ``[n, 2]``; 0 where they coincide."""
    offset = target - xy
    return offset / np.maximum(np.linalg.norm(offset, axis=1, keepdims=True), 1e-9)
