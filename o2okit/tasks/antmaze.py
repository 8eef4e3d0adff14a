"""AntMaze: D4RL's ant in D4RL's mazes, a reward of 1 within 0.5 m of the goal.

The model is gymnasium's installed ``ant.xml`` with D4RL's values written over it: it equals D4RL's own in
every physical number (specs/tasks.md 2), and no file of D4RL's is needed. An episode succeeds at most
once, so its return is 0 or 1.

Departures from D4RL:
    1. Starts and goals come from the environment's key, not from a global generator.
    2. The ``-v0`` goal is drawn once per seed, not once per constructed environment: all environments of
       a run, those that evaluate it included, share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import ClassVar

import mujoco
import numpy as np

from o2okit.streams import generator
from o2okit.tasks.antmaze_maps import MAZES, RADIUS, SIZE, Maze
from o2okit.tasks.keys import Key
from o2okit.tasks.locomotion import ASSETS
from o2okit.tasks.mujoco_vector import MujocoVector

__all__ = ["MAZES", "OUTCOMES", "AntMaze", "D4RLAnt", "Maze", "ant_model"]

OUTCOMES = ("none", "goal")
NOISE = 0.1  # of the start
# D4RL's geoms: its contact parameters, and gymnasium's defaults for what both have in common.
CONTACT = {"solref": (0.02, 1.0), "solimp": (0.8, 0.8, 0.01, 0.5, 2.0)}
WALL = {
    "type": mujoco.mjtGeom.mjGEOM_BOX,
    "size": (SIZE / 2, SIZE / 2, 1.0),
    "contype": 1,
    "conaffinity": 1,
    "condim": 3,
    "friction": (1.0, 0.5, 0.5),
    "margin": 0.01,
    "density": 5.0,
}


@cache
def ant_model(walls: tuple[tuple[float, float], ...] = ()) -> mujoco.MjModel:
    """D4RL's ant on a floor with walls at the given centres; shared, so not to be changed."""
    spec = mujoco.MjSpec.from_file(str(ASSETS / "ant.xml"))
    spec.option.timestep = 0.02
    for x, y in walls:
        spec.worldbody.add_geom(pos=(x, y, 1.0), **WALL)
    for geom in spec.geoms:
        geom.solref, geom.solimp = CONTACT["solref"], CONTACT["solimp"]
    for actuator in spec.actuators:
        actuator.gear[0] = 30.0
    return spec.compile()


class D4RLAnt(MujocoVector):
    """D4RL's ant, whatever it is for: 10 control steps per second, the noise of its start."""

    frame_skip = 5

    def start(self, env: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The resting pose with noise on every entry, the quaternion included."""
        qpos = self.init_qpos + rng.uniform(-NOISE, NOISE, self.model.nq)
        return qpos, NOISE * rng.standard_normal(self.model.nv)

    def posture(self) -> np.ndarray:
        """Position without x and y, velocity: ``[n, 27]``."""
        return np.concatenate([self.qpos[:, 2:15], self.qvel[:, :14]], axis=1)


class AntMaze(D4RLAnt):
    """Walk to the goal; falling over ends nothing. Observation: position 15, velocity 14.

    The goal is not observed. It lies up to 1.5 m beyond the centre of its cell, never on it.

    Args:
        keys: one per environment.
        maze: where.
        horizon: steps of an episode; default: the maze's.
        goal_per_reset: draw a goal for each episode (``-v2``), else one per seed (``-v0``).
        start_cells: ``[k, 2]`` start somewhere in one of these cells; default: at the origin.
        goal_cells: ``[k, 2]`` cells that goals are drawn from; default: the evaluation goal.
        continuing: a success does not end the episode, as when data are collected.
        threads: that step the simulations.

    Attributes:
        goals: current goals ``[n, 2]`` in metres; may be written to.
    """

    observes_state = True
    own_state: ClassVar[tuple[str, ...]] = ("goals",)

    def __init__(
        self,
        keys: Sequence[Key],
        maze: Maze,
        horizon: int | None = None,
        goal_per_reset: bool = True,
        *,
        start_cells: np.ndarray | None = None,
        goal_cells: np.ndarray | None = None,
        continuing: bool = False,
        threads: int | None = None,
    ) -> None:
        self.maze, self.goal_per_reset, self.continuing = maze, goal_per_reset, continuing
        self.start_cells = start_cells
        self.goal_cells = maze.goal[None] if goal_cells is None else np.asarray(goal_cells)
        super().__init__(keys, horizon or maze.horizon, threads)
        self.goals = np.array([self.draw_goal(generator(seed, "antmaze/goal")) for seed, _ in keys])

    def make_model(self) -> mujoco.MjModel:
        """The ant between the maze's walls."""
        return ant_model(tuple(map(tuple, self.maze.wall_centres.tolist())))

    # --- episodes ---------------------------------------------------------------------------------
    def start(self, env: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The ant's start, somewhere in a start cell where there are some; then the goal."""
        qpos, qvel = super().start(env, rng)
        if self.start_cells is not None:
            centre = self.maze.centre(rng.choice(self.start_cells))
            qpos[:2] = np.maximum(centre + rng.uniform(0.0, 1.0, 2), 0.0)
        if self.goal_per_reset:
            self.goals[env] = self.draw_goal(rng)
        return qpos, qvel

    def draw_goal(self, rng: np.random.Generator, cells: np.ndarray | None = None) -> np.ndarray:
        """A goal ``[2]``: the centre of a cell + U(0, 1) + U(0, 0.5), not below 0.

        Args:
            rng: the random numbers.
            cells: ``[k, 2]``; default: the environment's goal cells.
        """
        centre = self.maze.centre(rng.choice(self.goal_cells if cells is None else cells))
        return np.maximum(centre + rng.uniform(0.0, 1.0, 2) + rng.uniform(0.0, 0.5, 2), 0.0)

    def reset(
        self, *, seed: object = None, options: dict[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, dict]:
        """A new episode everywhere.

        Args:
            seed: changes nothing: the keys decide.
            options: ``start_xy`` and ``goal_xy``, ``[2]`` or ``[n, 2]`` in metres, put all ants and
                goals somewhere, until the next episode (goal: until the next draw). ``reset_mask`` as in
                ``MujocoVector.reset``.
        """
        obs, info = super().reset(seed=seed, options=options)
        moved = {"start_xy": self.move, "goal_xy": self.set_goals}
        for name in moved.keys() & (options or {}):
            moved[name](options[name])
            obs = self.observe().astype(np.float32)
        return obs, info

    def move(self, xy: np.ndarray) -> None:
        """Puts the ants at ``[2]`` or ``[n, 2]``, their poses and velocities as they are."""
        for env, place in enumerate(np.broadcast_to(xy, (self.num_envs, 2))):
            qpos, qvel = self.qpos[env].copy(), self.qvel[env].copy()
            qpos[:2] = place
            self.place(env, qpos, qvel)

    def set_goals(self, xy: np.ndarray) -> None:
        """Puts the goals at ``[2]`` or ``[n, 2]``."""
        self.goals[:] = xy

    # --- steps ------------------------------------------------------------------------------------
    def observe(self) -> np.ndarray:
        """Position and velocity: 29."""
        return np.concatenate([self.qpos[:, :2], self.posture()], axis=1)

    def success(self) -> np.ndarray:
        """Whether the ants are at their goals, ``[n]``."""
        return np.linalg.norm(self.qpos[:, :2] - self.goals, axis=1) <= RADIUS

    def reward(
        self, before: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """1 at the goal, which terminates."""
        success = self.success()
        terminated = success & (not self.continuing)
        return success.astype(np.float64), terminated, success.astype(np.int64)
