"""The toy maze of the GDE paper (Section 3.1): two goals, one near and hidden, one far and known.

Every step costs 1 until either goal is reached; a bump costs a step too; an episode is cut off after
200 steps. The shortest path to the left goal has 34 steps, to the right goal 70.

Departures from the paper:
    1. The paper shows its maze as an image only. This layout is ours; it keeps what the text says: the
       start at the bottom left, a right goal that is about 70 steps away, a left goal that is nearer.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

LAYOUT = """\
#####################
#L....#.......#.....#
#.....#...#...#.....#
#.#####...#...#....R#
#.....#...#...#.....#
#.....#...#...#.....#
#.....#...#...#.....#
#####.#...#...#.....#
#.....#...#...#.....#
#.....#...#...#.....#
#.....#...#...#.....#
#.#####...#...#.....#
#.....#...#...#.....#
#.....#...#...#.....#
#.....#...#...#.....#
#####.#...#...#.....#
#.....#...#...#.....#
#.....#...#...#.....#
#.....#...#...#.....#
#S........#.........#
#####################"""
MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])  # up, down, left, right as (row, column)
HORIZON = 200
OUTCOMES = ("time-out", "left goal", "right goal")


class Geometry:
    """The maze as tables over its free cells, numbered row by row.

    Attributes:
        walls: ``[rows, columns]`` bool.
        cells: ``[S, 2]`` row and column of every free cell.
        successor: ``[S, 4]`` the cell that each move leads to.
        outcome: ``[S]`` index into ``OUTCOMES``: 0 for an ordinary cell.
    """

    def __init__(self, layout: str = LAYOUT) -> None:
        grid = np.array([list(line) for line in layout.splitlines()])
        self.walls = grid == "#"
        self.cells = np.argwhere(~self.walls)
        number = np.full(grid.shape, -1)
        number[tuple(self.cells.T)] = np.arange(len(self.cells))
        ahead = number[tuple((self.cells[:, None] + MOVES).transpose(2, 0, 1))]
        self.successor = np.where(ahead >= 0, ahead, np.arange(len(self.cells))[:, None])
        marks = grid[tuple(self.cells.T)]
        self.start = int(np.flatnonzero(marks == "S")[0])
        self.outcome = (marks == "L") * 1 + (marks == "R") * 2

    @property
    def n_cells(self) -> int:
        """Number of free cells, which is the number of observations."""
        return len(self.cells)

    def goal(self, outcome: int) -> int:
        """The goal cell of an outcome (1 left, 2 right)."""
        return int(np.flatnonzero(self.outcome == outcome)[0])

    @cached_property
    def distances(self) -> np.ndarray:
        """``[3, S]`` steps from each cell to the goal of each outcome (row 0 is unused)."""
        rows = np.repeat(np.arange(self.n_cells), 4)
        graph = csr_array((np.ones(rows.size), (rows, self.successor.ravel())))
        goals = [self.goal(1), self.goal(2)]
        steps = dijkstra(graph.T, indices=goals, unweighted=True)
        return np.vstack([np.full(self.n_cells, np.inf), steps])

    def optimal_actions(self, outcome: int) -> np.ndarray:
        """``[S, 4]`` probabilities: uniform over the moves that shorten the way to that goal."""
        steps = self.distances[outcome]
        best = steps[self.successor] == steps[:, None] - 1
        return best / np.maximum(best.sum(1, keepdims=True), 1)

    def image(self, cell: int | None = None, pixels: int = 16) -> np.ndarray:
        """RGB picture ``[rows * pixels, columns * pixels, 3]``, uint8, the agent in blue."""
        colours = np.where(self.walls[..., None], (60, 60, 70), (245, 245, 240)).astype(np.uint8)
        marks = {
            self.start: (200, 200, 200),
            self.goal(1): (46, 160, 67),
            self.goal(2): (222, 143, 5),
        }
        if cell is not None:
            marks[cell] = (31, 119, 220)
        for where, colour in marks.items():
            colours[tuple(self.cells[where])] = colour
        return colours.repeat(pixels, 0).repeat(pixels, 1)


GEOMETRY = Geometry()


class ToyMaze(gym.Env[np.int64, np.int64]):
    """One maze, registered as ``o2okit/ToyMaze-v0`` with a limit of 200 steps.

    Observation: the number of the free cell. Actions: up, down, left, right. Reward: -1 per step.
    ``info["outcome"]`` is an index into ``OUTCOMES``.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = spaces.Discrete(GEOMETRY.n_cells)
        self.action_space = spaces.Discrete(4)
        self._cell = GEOMETRY.start

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[np.int64, dict]:
        """Starts at S; ``options={"cell": number}`` starts elsewhere."""
        super().reset(seed=seed)
        self._cell = int((options or {}).get("cell", GEOMETRY.start))
        return np.int64(self._cell), {"outcome": 0}

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict]:
        """One move."""
        self._cell = int(GEOMETRY.successor[self._cell, action])
        outcome = int(GEOMETRY.outcome[self._cell])
        return np.int64(self._cell), -1.0, outcome > 0, False, {"outcome": outcome}

    def render(self) -> np.ndarray | None:
        """RGB picture when ``render_mode="rgb_array"``."""
        return GEOMETRY.image(self._cell) if self.render_mode == "rgb_array" else None


class ToyMazeVector(VectorEnv):
    """A cohort of mazes stepped by one table look-up.

    An episode that ends is reset in the same step: the observation returned is the next episode's
    first, ``info["final_obs"]`` holds the true successors ``[n]`` of all mazes.
    """

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, num_envs: int, max_episode_steps: int = HORIZON) -> None:
        self.num_envs, self.horizon = num_envs, max_episode_steps
        self.single_observation_space = spaces.Discrete(GEOMETRY.n_cells)
        self.single_action_space = spaces.Discrete(4)
        self.observation_space = spaces.MultiDiscrete([GEOMETRY.n_cells] * num_envs)
        self.action_space = spaces.MultiDiscrete([4] * num_envs)
        self.cell = self.elapsed = np.zeros(num_envs, dtype=np.int64)
        self.reset()

    def reset(self, *, seed: Any = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """All mazes to the start; the maze has no randomness, so ``seed`` changes nothing.

        ``options={"reset_mask": [n]}`` does so only with those.
        """
        super().reset(seed=seed)
        again = (options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool))
        self.cell = np.where(again, GEOMETRY.start, self.cell)
        self.elapsed = np.where(again, 0, self.elapsed)
        return self.cell.copy(), {}

    def step(
        self, actions: np.ndarray, active: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """One move in every maze; moving those that are not ``active`` costs nothing."""
        final = GEOMETRY.successor[self.cell, actions]
        outcome = GEOMETRY.outcome[final]
        terminated = outcome > 0
        self.elapsed += 1
        truncated = ~terminated & (self.elapsed >= self.horizon)
        ended = terminated | truncated
        self.cell = np.where(ended, GEOMETRY.start, final)
        self.elapsed[ended] = 0
        info = {"final_obs": final, "outcome": outcome}
        return self.cell.copy(), np.full(self.num_envs, -1.0), terminated, truncated, info

    # --- checkpoints ------------------------------------------------------------------------------
    def state(self) -> dict[str, np.ndarray]:
        """Everything the next step depends on, ``[n]`` each."""
        return {"cell": self.cell.copy(), "elapsed": self.elapsed.copy()}

    def load_state(self, state: dict[str, np.ndarray]) -> np.ndarray:
        """Takes over what ``state`` returned; returns the current observations."""
        self.cell, self.elapsed = (np.array(state[key]) for key in ("cell", "elapsed"))
        return self.cell.copy()
