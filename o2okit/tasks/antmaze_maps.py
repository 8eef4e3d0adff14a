"""The three mazes of D4RL's AntMaze as tables over cells: walls, goals, shortest paths.

Row ``i``, column ``j``: cell (i, j) has its centre at (4(j-1), 4(i-1)) metres, so that the start, cell
(1, 1), lies at the origin and +y goes down the text (specs/tasks.md 2).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

SIZE = 4.0  # metres, the side of a cell
RADIUS = 0.5  # metres, how near to the goal is at the goal
MOVES = np.array([(0, -1), (0, 1), (1, 0), (-1, 0)])  # as (row, column)


class Maze:
    """One maze.

    Args:
        name: D4RL's.
        horizon: steps of an evaluation episode.
        layout: ``#`` wall, ``.`` free, ``S`` start, ``G`` the goal of evaluations, ``g`` goals that
            only data generation has.
        generation_goals: whether ``G`` is one of those, too.

    Attributes:
        walls: ``[rows, columns]`` bool.
        free: ``[F, 2]`` the cells that are not walls, row by row.
        start, goal: cells ``[2]``.
        generation_goals: ``[k, 2]`` goal cells of D4RL's data-generation map, row by row.
    """

    def __init__(self, name: str, horizon: int, layout: str, generation_goals: str = "g") -> None:
        self.name, self.horizon = name, horizon
        grid = np.array([list(row) for row in layout.split()])
        self.walls = grid == "#"
        self.free = np.argwhere(~self.walls)
        (self.start,), (self.goal,) = np.argwhere(grid == "S"), np.argwhere(grid == "G")
        self.generation_goals = np.argwhere(np.isin(grid, list(generation_goals)))

    def centre(self, cell: np.ndarray) -> np.ndarray:
        """Centres ``[..., 2]`` (x, y) in metres of cells ``[..., 2]``."""
        return SIZE * (np.asarray(cell)[..., ::-1] - self.start[::-1])

    def cell(self, xy: np.ndarray, legacy: bool = False) -> np.ndarray:
        """Cells ``[..., 2]`` that hold the points ``[..., 2]``; points outside get the nearest cell.

        Args:
            xy: points in metres.
            legacy: as D4RL's planner reads them, without the shift by half a cell: x = 2.1 counts as
                column 1.
        """
        xy = np.asarray(xy, dtype=np.float64)
        shifted = np.maximum(xy, 1e-4) / SIZE if legacy else xy / SIZE + 0.5
        cell = np.floor(shifted).astype(np.int64)[..., ::-1] + self.start
        return np.clip(cell, 0, np.array(self.walls.shape) - 1)

    @cached_property
    def wall_centres(self) -> np.ndarray:
        """Centres of all walls ``[W, 2]`` in metres."""
        return self.centre(np.argwhere(self.walls))

    # --- shortest paths ---------------------------------------------------------------------------
    @cached_property
    def _paths(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps and first cell of the ways to every cell, ``[to, from]`` over all cells by number.

        A wall can be left but not entered: the legacy index takes a point near a wall to lie in it.
        """
        shape, number = self.walls.shape, np.arange(self.walls.size)
        ahead = np.argwhere(np.ones(shape, bool))[:, None] + MOVES  # [cells, 4, 2]
        inside = ((ahead >= 0) & (ahead < shape)).all(-1)
        target = np.ravel_multi_index(
            np.moveaxis(np.clip(ahead, 0, np.array(shape) - 1), -1, 0), shape
        )
        usable = inside & ~self.walls.ravel()[target]
        origin = np.broadcast_to(number[:, None], target.shape)
        size = (self.walls.size,) * 2
        # Backwards, so that the predecessor on the way from the goal is the next cell towards it.
        edges = csr_array((np.ones(usable.sum()), (target[usable], origin[usable])), size)
        steps, following = dijkstra(edges, unweighted=True, return_predecessors=True)
        return steps, np.where(following < 0, number, following)

    def distances(self, goal: np.ndarray) -> np.ndarray:
        """Cells to walk to ``goal`` from every cell, ``[rows, columns]``; ``inf`` in walls."""
        steps = self._paths[0][self._number(goal)].reshape(self.walls.shape)
        return np.where(self.walls, np.inf, steps)

    def next_cell(self, cell: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """The cells ``[..., 2]`` that follow ``cell`` ``[..., 2]`` on a shortest path to ``goal``.

        In the goal it is the goal.
        """
        following = self._paths[1][self._number(goal), self._number(cell)]
        return np.stack(np.unravel_index(following, self.walls.shape), axis=-1)

    def path(self, cell: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """The cells ``[k, 2]`` of a shortest path, both ends included."""
        cells = [np.asarray(cell)]
        while (cells[-1] != goal).any():
            cells.append(self.next_cell(cells[-1], goal))
        return np.array(cells)

    def _number(self, cell: np.ndarray) -> np.ndarray:
        return np.ravel_multi_index(np.moveaxis(np.asarray(cell), -1, 0), self.walls.shape)


MAZES = {
    "antmaze-umaze": Maze(
        "antmaze-umaze",
        700,
        """
        #####
        #S..#
        ###.#
        #G..#
        #####
        """,
        generation_goals="G",
    ),
    "antmaze-medium": Maze(
        "antmaze-medium",
        1000,
        """
        ########
        #S.##..#
        #..#..g#
        ##...###
        #..#...#
        #g#..#.#
        #...#gG#
        ########
        """,
    ),
    "antmaze-large": Maze(
        "antmaze-large",
        1000,
        """
        ############
        #S...#g....#
        #.##.#.#.#.#
        #....g.#..g#
        #.####.###.#
        #.g#.#.....#
        ##.#.#.#.###
        #..#g.g#.G.#
        ############
        """,
        generation_goals="gG",
    ),
}
