"""The kit's AntMaze data: D4RL's recipe (specs/tasks.md 5 and 6) with a controller of our own.

A controller walks, a planner says where to. Nothing ends at the goal: an episode has one row more than
the task's horizon and ends with a time-out. Afterwards all rewards are those of one evaluation goal.

    umaze            from the start to the evaluation goal, then to any other cells
    umaze-diverse    from any free cell to any free cell; of each success one goal row is left
    play             from any cell that is no goal to a goal of D4RL's map or the evaluation goal
    diverse          from any free cell to any free cell

Numbered departures from D4RL:
    1. The planner's (``o2okit.data.planner``), and actions are the policy's mean + N(0, 0.2²) as in
       OGBench's data, not samples + N(0, 0.2²); ``sampled`` undoes the latter.
    2. Rewards look at the next row, but not across resets: the last row of an episode earns nothing.
    3. v0 and v2 are the same rows, with time-outs that are right; those of D4RL's v0 files are out of step.
    4. Who has been at a goal for a while (``LINGER``) gets another one, until the episode is over. D4RL's
       planner goes on to the old one, which its ants pass: 6 rows of an umaze episode lie within 0.5 m
       of the evaluation goal. Ours turn on the spot and would stand there for hundreds of rows. LINGER
       was chosen so that there are about as many goal rows as in D4RL's files. ``stay`` undoes it.
    5. The evaluation goal of all rows is the middle of those that an evaluation draws, not a draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from o2okit.data.controller import NOISE, Controller
from o2okit.data.planner import Planner
from o2okit.data.policies import Ladder, Snapshot, ladder
from o2okit.data.rollout import Fields, roll_out, side_by_side
from o2okit.streams import generator
from o2okit.tasks import Key, Task
from o2okit.tasks.antmaze import AntMaze
from o2okit.tasks.antmaze_maps import MAZES, RADIUS, Maze

MEAN_OFFSET = 0.75  # metres: of a goal from the centre of its cell, in x and in y
LINGER = {"antmaze-umaze": 1, "antmaze-medium": 4, "antmaze-large": 100}  # steps, on average
MARKED_ONCE = {("antmaze-umaze", "diverse")}  # D4RL#199


def policies(where: Task) -> Ladder:
    """The controller's ladder, for every maze the same. Raises ``UserError`` where there is none."""
    return ladder("ant-controller")


def recipe(quality: str, policies: Ladder) -> Snapshot:
    """The controller, whatever the quality: that is a matter of starts and goals (``cells``)."""
    ((snapshot, _),) = policies.role("controller")
    return snapshot


def cells(maze: Maze, quality: str) -> tuple[np.ndarray | None, np.ndarray]:
    """Cells ``[k, 2]`` that episodes start in (``None``: at the origin) and that their goals lie in."""
    if quality == "fixed":
        return None, maze.goal[None]
    if quality == "play":
        # D4RL's generation map of the medium maze lacks the evaluation goal; its data do not.
        goals = np.unique([*maze.generation_goals, maze.goal], axis=0)
        other = (maze.free[:, None] != goals).any(axis=-1).all(axis=1)
        return maze.free[other], goals
    return maze.free, maze.free


def goal_rows(xy: np.ndarray, timeouts: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Which rows ``[N]`` lead to within 0.5 m of ``goal`` ``[2]``.

    Args:
        xy: where the ant is, ``[N, 2]`` in metres.
        timeouts: the last rows of the episodes ``[N]``; they lead nowhere, and so does row N-1.
    """
    near = np.linalg.norm(xy.astype(np.float64) - goal, axis=1) <= RADIUS
    return np.append(near[1:], False) & ~timeouts


def first_of_each(rows: np.ndarray) -> np.ndarray:
    """The first row ``[N]`` of each run of marked ``rows`` ``[N]``."""
    return rows & ~np.append(False, rows[:-1])


class Errands:
    """Sends those on who have reached their goals (departure 4).

    Args:
        env: whose goals are changed.
        quality: of the data; in ``fixed`` ones the ants then go to any cells but the goal's.
        linger: steps that they stay at a goal, on average.
        rngs: one per ant.
    """

    def __init__(
        self, env: AntMaze, quality: str, rngs: Sequence[np.random.Generator], linger: float
    ) -> None:
        self.env, self.rngs, self.linger = env, rngs, linger
        maze = env.maze
        elsewhere = maze.free[(maze.free != maze.goal).any(axis=1)]
        self.others = elsewhere if quality == "fixed" else None  # None: the quality's own

    def send_on(self) -> None:
        """To be called before each step."""
        for ant in np.flatnonzero(self.env.success()):
            if self.rngs[ant].random() * self.linger < 1:
                self.env.goals[ant] = self.env.draw_goal(self.rngs[ant], self.others)


def collect(
    where: Task,
    snapshot: Snapshot,
    rows: int,
    *,
    seed: int,
    progress: Callable[[int], Any] = lambda rows: None,
    sampled: bool = False,
    legacy_cell: bool = False,
    legacy_noise: bool = False,
    stay: bool = False,
) -> tuple[Fields, dict[str, Any]]:
    """Collects and relabels.

    Args:
        where: an AntMaze task with a dataset.
        snapshot: the controller's.
        rows: so many come back; the last episode is cut off without a mark, as D4RL's is.
        seed: equal seeds give equal rows, on one machine.
        progress: called with the number of new rows.
        sampled, legacy_cell, legacy_noise, stay: D4RL's way, see above.

    Returns:
        Fields ``[rows, ...]`` of D4RL's format, and how they came about.
    """
    maze = MAZES[where.environment]
    # Without the version: v0 and v2 share their rows.
    stream = f"kit/{where.environment}/{where.quality}"
    n = side_by_side(rows)
    start_cells, goal_cells = cells(maze, where.quality)
    env = where.vector(
        [Key(seed, f"{stream}/start/{i}") for i in range(n)],
        horizon=maze.horizon + 1,
        goal_per_reset=True,
        start_cells=start_cells,
        goal_cells=goal_cells,
        continuing=True,
    )
    controller = Controller(snapshot, generator(seed, f"{stream}/actions"), sampled=sampled)
    planner = Planner(
        maze,
        n,
        generator(seed, f"{stream}/waypoints"),
        legacy_cell=legacy_cell,
        legacy_noise=legacy_noise,
    )

    rngs = [generator(seed, f"{stream}/errands/{i}") for i in range(n)]
    errands = Errands(env, where.quality, rngs, LINGER[where.environment])

    def act(obs: np.ndarray) -> np.ndarray:
        if not stay:
            errands.send_on()
        return controller.act(obs[:, 2:], planner.directions(env.qpos[:, :2], env.goals))

    def infos() -> Fields:
        seen = {"infos/goal": env.goals, "infos/qpos": env.qpos, "infos/qvel": env.qvel}
        return {name: value.astype(np.float32) for name, value in seen.items()}

    fields = roll_out(env, act, rows, infos=infos, progress=progress)
    fields = {name: value[:rows] for name, value in fields.items()}
    del fields["next_observations"]  # D4RL's files have none

    goal = maze.centre(maze.goal) + MEAN_OFFSET
    reached = goal_rows(fields["observations"][:, :2], fields["timeouts"], goal)
    if (where.environment, where.quality) in MARKED_ONCE:
        reached = first_of_each(reached)
    fields |= {"rewards": reached.astype(np.float32), "terminals": reached}
    return fields, {
        "recipe": f"D4RL's, {where.quality}, with the kit's controller",
        "controller": f"SAC at {snapshot.step:,} steps",
        "switches": {
            "sampled": sampled,
            "legacy_cell": legacy_cell,
            "legacy_noise": legacy_noise,
            "stay": stay,
        },
        "noise": NOISE,
        "start_cells": None if start_cells is None else start_cells.tolist(),
        "goal_cells": goal_cells.tolist(),
        "evaluation_goal": goal.round(6).tolist(),
        "goal_rows": int(reached.sum()),
        "goal_rows_per_million": round(1e6 * float(reached.mean())),
    }
