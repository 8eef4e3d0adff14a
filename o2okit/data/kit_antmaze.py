"""The kit's AntMaze data: D4RL's recipe (specs/tasks.md 5 and 6) with a controller of our own.

A controller walks, a planner says where to. Nothing ends at the goal: an episode has one row more than
the task's horizon and ends with a time-out. Afterwards all rewards are those of one evaluation goal.

    umaze            from the start to the evaluation goal
    umaze-diverse    from any free cell to any free cell; of each success one goal row is left
    play             from any cell that is no goal to a goal of D4RL's map or the evaluation goal
    diverse          from any free cell to any free cell

Numbered departures from D4RL:
    1. The planner's (``o2okit.data.planner``), and actions are the policy's mean + N(0, 0.2²) as in
       OGBench's data, not samples + N(0, 0.2²); ``sampled`` undoes the latter.
    2. Rewards look at the next row, but not across resets: the last row of an episode earns nothing.
    3. v0 and v2 are the same rows, with time-outs that are right; those of D4RL's v0 files are out of step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from o2okit.data.controller import NOISE, Controller
from o2okit.data.planner import Planner
from o2okit.data.policies import Ladder, Snapshot, ladder
from o2okit.data.rollout import Fields, roll_out, side_by_side
from o2okit.streams import generator
from o2okit.tasks import Key, Task
from o2okit.tasks.antmaze_maps import MAZES, RADIUS, Maze

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
) -> tuple[Fields, dict[str, Any]]:
    """Collects and relabels.

    Args:
        where: an AntMaze task with a dataset.
        snapshot: the controller's.
        rows: so many come back; the last episode is cut off without a mark, as D4RL's is.
        seed: equal seeds give equal rows, on one machine.
        progress: called with the number of new rows.
        sampled, legacy_cell, legacy_noise: D4RL's way, see above.

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

    def act(obs: np.ndarray) -> np.ndarray:
        return controller.act(obs[:, 2:], planner.directions(env.qpos[:, :2], env.goals))

    def infos() -> Fields:
        seen = {"infos/goal": env.goals, "infos/qpos": env.qpos, "infos/qvel": env.qvel}
        return {name: value.astype(np.float32) for name, value in seen.items()}

    fields = roll_out(env, act, rows, infos=infos, progress=progress)
    fields = {name: value[:rows] for name, value in fields.items()}
    del fields["next_observations"]  # D4RL's files have none

    # An evaluation goal, the same for all data of a maze and seed.
    evaluation = where.vector([Key(seed, "kit")])
    goal = evaluation.draw_goal(generator(seed, f"kit/{where.environment}/goal"))
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
        },
        "noise": NOISE,
        "start_cells": None if start_cells is None else start_cells.tolist(),
        "goal_cells": goal_cells.tolist(),
        "evaluation_goal": goal.round(6).tolist(),
        "goal_rows": int(reached.sum()),
        "goal_rows_per_million": round(1e6 * float(reached.mean())),
    }
