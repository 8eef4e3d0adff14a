"""Where the kit's AntMaze controller learns to walk: D4RL's ant on an empty floor (specs/tasks.md 6).

The recipe is OGBench's: the ant is told a direction and earns the distance that it covers along it. The
controller that comes out of it is steered by a planner when AntMaze data are collected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import mujoco
import numpy as np

from o2okit.tasks.antmaze import D4RLAnt, ant_model
from o2okit.tasks.keys import Key

INTERVAL = 100  # steps after which there is another direction
HEALTHY = (0.2, 1.0)  # metres, height of the torso


class AntController(D4RLAnt):
    """Walk in the direction that is asked for; ``reward = Δxy · direction`` in metres per control step.

    Observation: posture and velocity as AntMaze's without x and y 27, unit direction 2. The direction
    changes every ``INTERVAL`` steps. An episode terminates when the torso leaves 0.2 to 1 m.

    Attributes:
        headings: ``[n, k]`` the directions of the current episode in radians, one per interval.
    """

    own_state: ClassVar[tuple[str, ...]] = ("headings",)

    def __init__(self, keys: Sequence[Key], horizon: int, threads: int | None = None) -> None:
        # The state after the last step belongs to the next interval.
        self.headings = np.zeros((len(keys), horizon // INTERVAL + 1))
        super().__init__(keys, horizon, threads)

    def make_model(self) -> mujoco.MjModel:
        """No walls."""
        return ant_model()

    def start(self, env: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """AntMaze's start; then all directions of the episode, so that they depend on it alone."""
        qpos, qvel = super().start(env, rng)
        self.headings[env] = rng.uniform(0.0, 2 * np.pi, self.headings.shape[1])
        return qpos, qvel

    def directions(self) -> np.ndarray:
        """Unit vectors ``[n, 2]`` to walk along."""
        heading = self.headings[np.arange(self.num_envs), self.elapsed // INTERVAL]
        return np.stack([np.cos(heading), np.sin(heading)], axis=1)

    def observe(self) -> np.ndarray:
        """Posture and velocity, then the direction: 29."""
        return np.concatenate([self.posture(), self.directions()], axis=1)

    def position(self) -> np.ndarray:
        """The torso's x and y, ``[n, 2]``."""
        return self.qpos[:, :2]

    def reward(
        self, before: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Metres along the direction; a fall terminates."""
        along = ((self.position() - before) * self.directions()).sum(axis=1)
        height = self.qpos[:, 2]
        fallen = (height < HEALTHY[0]) | (height > HEALTHY[1])
        return along, fallen, np.zeros(self.num_envs, dtype=np.int64)
