"""HalfCheetah, Hopper, Walker2d and Ant: gymnasium's ``-v4`` environments, stepped as a vector.

The models are gymnasium's own files. Observations, rewards and terminations are those of ``-v4``, which
are gym v2's (specs/tasks.md 1 and 3); tests hold them equal to gymnasium's to the last bit. ``-v5`` differs
in the terminal reward and in Walker2d's friction.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import gymnasium.envs.mujoco
import mujoco
import numpy as np

from o2okit.tasks.keys import Key
from o2okit.tasks.mujoco_vector import MujocoVector

ASSETS = Path(gymnasium.envs.mujoco.__file__).parent / "assets"


@cache
def _model(xml: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(str(ASSETS / xml))


class Locomotion(MujocoVector):
    """Run forward; ``reward = Δx/dt + alive bonus - cost of the actions``."""

    observes_state = True
    xml: str
    reset_noise: float
    normal_velocity: bool  # starting velocities are normal, not uniform
    control_cost: float
    alive_bonus: float = 0.0

    def make_model(self) -> mujoco.MjModel:
        """Gymnasium's file."""
        return _model(self.xml)

    def start(self, env: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The resting pose with a little noise."""
        noise, (nq, nv) = self.reset_noise, (self.model.nq, self.model.nv)
        qpos = self.init_qpos + rng.uniform(-noise, noise, nq)
        if self.normal_velocity:
            return qpos, self.init_qvel + noise * rng.standard_normal(nv)
        return qpos, self.init_qvel + rng.uniform(-noise, noise, nv)

    def reward(
        self, before: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Forward velocity, the alive bonus (at the terminal step, too), the cost."""
        velocity = (self.position()[:, 0] - before[:, 0]) / self.dt
        cost = self.control_cost * np.square(actions).sum(1)
        fallen = ~self.healthy()
        return velocity + self.alive_bonus - cost, fallen, np.zeros(self.num_envs, dtype=np.int64)

    def healthy(self) -> np.ndarray:
        """Whether the robot has not fallen, ``[n]``."""
        return np.ones(self.num_envs, dtype=bool)


class HalfCheetah(Locomotion):
    """Never terminates."""

    xml, frame_skip = "half_cheetah.xml", 5
    reset_noise, normal_velocity, control_cost = 0.1, True, 0.1

    def observe(self) -> np.ndarray:
        """Position without x, velocity: 17."""
        return np.concatenate([self.qpos[:, 1:], self.qvel], axis=1)


class Hopper(Locomotion):
    """Terminates below 0.7 m, beyond 0.2 rad, or in a wild state."""

    xml, frame_skip = "hopper.xml", 4
    reset_noise, normal_velocity, control_cost, alive_bonus = 5e-3, False, 1e-3, 1.0
    fastest = 10.0

    def observe(self) -> np.ndarray:
        """Position without x, velocity clipped to ±10: 11."""
        velocity = np.clip(self.qvel, -self.fastest, self.fastest)
        return np.concatenate([self.qpos[:, 1:], velocity], axis=1)

    def healthy(self) -> np.ndarray:
        """Of the state only height and angle, and that nothing exceeds 100."""
        height, angle = self.qpos[:, 1], self.qpos[:, 2]
        rest = np.concatenate([self.qpos[:, 2:], self.qvel], axis=1)
        return (height > 0.7) & (np.abs(angle) < 0.2) & (np.abs(rest) < 100).all(1)


class Walker2d(Hopper):
    """Terminates outside 0.8 to 2 m, or beyond 1 rad."""

    xml = "walker2d.xml"

    def healthy(self) -> np.ndarray:
        """Height and angle."""
        height, angle = self.qpos[:, 1], self.qpos[:, 2]
        return (height > 0.8) & (height < 2.0) & (np.abs(angle) < 1.0)


class Ant(Locomotion):
    """Terminates outside 0.2 to 1 m.

    D4RL's 111 observations end in 84 contact forces, all zero in its files (D4RL#143); so they are here.

    Args:
        keys, horizon, threads: as for ``MujocoVector``.
        padding: zeros at the end of an observation; 0 leaves them out (specs/tasks.md 3).
    """

    xml, frame_skip = "ant.xml", 5
    reset_noise, normal_velocity, control_cost, alive_bonus = 0.1, True, 0.5, 1.0

    def __init__(
        self, keys: Sequence[Key], horizon: int, threads: int | None = None, padding: int = 84
    ) -> None:
        self.padding = padding
        super().__init__(keys, horizon, threads)

    def observe(self) -> np.ndarray:
        """Position without x and y, velocity, zeros: 27 and the padding."""
        zeros = np.zeros((self.num_envs, self.padding))
        return np.concatenate([self.qpos[:, 2:], self.qvel, zeros], axis=1)

    def seen(self, data: mujoco.MjData) -> tuple[np.ndarray, ...]:
        """Also where the torso was at the last evaluation of the kinematics."""
        return data.qpos, data.qvel, data.xpos[1]

    def position(self) -> np.ndarray:
        """The torso's x, as gymnasium measures it."""
        return self.extra[:, :1]

    def healthy(self) -> np.ndarray:
        """Height, and that every number is finite."""
        height = self.qpos[:, 2]
        finite = np.isfinite(self.qpos).all(1) & np.isfinite(self.qvel).all(1)
        return finite & (height >= 0.2) & (height <= 1.0)
