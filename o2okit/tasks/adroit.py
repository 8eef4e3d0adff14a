"""Adroit: a hand of 24 joints with a pen, a door or a ball (DAPG, D4RL), stepped as a vector.

The models are gymnasium-robotics' own files, read without importing the package. Physics, observations
and starts equal its ``AdroitHand*-v1``; where those differ from D4RL's environments, D4RL's rules hold
(specs/tasks.md 4): the pen's episode has 100 steps and ends when the pen drops, and the distance to the
handle or the ball is a cost (gymnasium-robotics 1.4.2 adds it). ``binary`` makes mj_envs' sparse tasks,
which Cal-QL uses.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import mujoco
import numpy as np

from o2okit.tasks.keys import Key
from o2okit.tasks.mujoco_vector import MujocoVector

OUTCOMES = ("none", "success")
LOWEST_PEN = 0.075  # metres; below, the pen counts as dropped


@cache
def _model(xml: str) -> mujoco.MjModel:
    """The model with DAPG's actuator gains; never changed, as vectors step copies of it."""
    package = find_spec("gymnasium_robotics")  # importing it would print a notice
    if package is None:
        raise ModuleNotFoundError("No module named 'gymnasium_robotics'", name="gymnasium_robotics")
    path = Path(package.origin).parent / "envs" / "assets" / "adroit_hand" / xml
    model = mujoco.MjModel.from_xml_path(str(path))
    for first, last, gain in (("A_WRJ1", "A_WRJ0", 10.0), ("A_FFJ3", "A_THJ0", 1.0)):
        joints = slice(model.actuator(first).id, model.actuator(last).id + 1)
        model.actuator_gainprm[joints, :3] = gain, 0.0, 0.0
        model.actuator_biasprm[joints, :3] = 0.0, -gain, 0.0
    return model


def _norm(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=-1)


class Adroit(MujocoVector):
    """Base class: a task is a scene drawn per episode, an observation and a dense reward.

    ``info["outcome"]`` is 1 in every step that succeeds.

    Args:
        keys: one per environment.
        horizon: steps of an episode.
        binary: reward ``success - 1``; the first success terminates, and nothing else does.
        threads: that step the simulations, each with a model of its own, as a scene is part of it.

    Attributes:
        scene: ``[n, k]`` what an episode changes in the model.
    """

    xml: ClassVar[str]
    low: ClassVar[tuple[float, ...]]  # range of the numbers that a scene is made of
    high: ClassVar[tuple[float, ...]]
    scene_size: ClassVar[int]
    frame_skip = 5
    own_state: ClassVar[tuple[str, ...]] = ("scene",)

    def __init__(
        self, keys: Sequence[Key], horizon: int, binary: bool = False, threads: int | None = None
    ) -> None:
        self.binary = binary
        self.scene = np.zeros((len(keys), self.scene_size))
        super().__init__(keys, horizon, threads)
        self.models = [copy.copy(self.model) for _ in range(self.threads)]
        low, high = self.model.actuator_ctrlrange.T
        self._middle, self._half = np.mean([low, high], axis=0), 0.5 * (high - low)

    # --- what a task defines ----------------------------------------------------------------------
    def make_scene(self, numbers: np.ndarray) -> np.ndarray:
        """A scene ``[k]`` of random numbers between ``low`` and ``high``."""
        return numbers

    def dense(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(reward, terminated, success) ``[n]`` of the dense task."""
        raise TypeError(f"{type(self).__name__} defines no reward")

    # --- the contract of MujocoVector ----------------------------------------------------------------
    def make_model(self) -> mujoco.MjModel:
        """Gymnasium-robotics' file."""
        return _model(self.xml)

    def start(self, env: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A new scene, the hand at rest."""
        self.scene[env] = self.make_scene(rng.uniform(self.low, self.high))
        return self.init_qpos, self.init_qvel

    def control(self, actions: np.ndarray) -> np.ndarray:
        """[-1, 1] is the actuator's whole range."""
        return self._middle + actions * self._half

    @property
    def points(self) -> np.ndarray:
        """Bodies and sites that ``seen`` names, ``[n, k, 3]``."""
        return self.extra.reshape(self.num_envs, -1, 3)

    def reward(
        self, before: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Dense or binary."""
        reward, terminated, success = self.dense()
        if self.binary:
            reward, terminated = success - 1.0, success
        return reward, terminated, success.astype(np.int64)


class Pen(Adroit):
    """Turn the pen until it lies as the target does."""

    xml, scene_size = "adroit_pen.xml", 4  # the target's quaternion
    low, high = (-1.0, -1.0), (1.0, 1.0)
    own_state: ClassVar[tuple[str, ...]] = ("scene", "lengths")

    def __init__(
        self, keys: Sequence[Key], horizon: int, binary: bool = False, threads: int | None = None
    ) -> None:
        self.lengths = np.ones((len(keys), 2))  # of pen and target, measured at the start
        super().__init__(keys, horizon, binary, threads)

    def make_scene(self, numbers: np.ndarray) -> np.ndarray:
        """The quaternion of a turn about x and y, by these angles."""
        (sx, sy), (cx, cy) = np.sin(numbers / 2), np.cos(numbers / 2)
        return np.array([cx * cy, sx * cy, cx * sy, sx * sy])

    def furnish(self, model: mujoco.MjModel, env: int) -> None:
        """The target's orientation."""
        model.body("target").quat[:] = self.scene[env]

    def seen(self, data: mujoco.MjData) -> tuple[np.ndarray, ...]:
        """Also pen, wanted position, and both ends of pen and target."""
        ends = ("object_top", "object_bottom", "target_top", "target_bottom")
        sites = [data.site(name).xpos for name in ("eps_ball", *ends)]
        return data.qpos, data.qvel, data.body("Object").xpos, *sites

    def place(self, env: int, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Also measures pen and target."""
        super().place(env, qpos, qvel)
        top, bottom = self.points[env, 2::2], self.points[env, 3::2]
        self.lengths[env] = _norm(top - bottom)

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Directions of pen and target, ``[n, 3]``."""
        axes = (self.points[:, 2::2] - self.points[:, 3::2]) / self.lengths[:, :, None]
        return axes[:, 0], axes[:, 1]

    def observe(self) -> np.ndarray:
        """Joints 24, pen 3, its velocity 6, its axis, the target's axis, both differences: 45."""
        (pen, wanted), (axis, target) = self.points[:, :2].swapaxes(0, 1), self.axes()
        parts = (
            self.qpos[:, :-6],
            pen,
            self.qvel[:, -6:],
            axis,
            target,
            pen - wanted,
            axis - target,
        )
        return np.concatenate(parts, axis=1)

    def dense(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Closeness and likeness, with bonuses; a dropped pen costs 5 and terminates."""
        (pen, wanted), (axis, target) = self.points[:, :2].swapaxes(0, 1), self.axes()
        distance, likeness = _norm(pen - wanted), (axis * target).sum(1)
        close, dropped = distance < 0.075, pen[:, 2] < LOWEST_PEN
        success = close & (likeness > 0.95)
        bonus = 10.0 * (close & (likeness > 0.9)) + 50.0 * success - 5.0 * dropped
        return likeness - distance + bonus, dropped, success


class Door(Adroit):
    """Undo the latch and pull the door open."""

    xml, scene_size = "adroit_door.xml", 3  # where the door's frame stands
    low, high = (-0.3, 0.25, 0.252), (-0.2, 0.35, 0.35)

    def furnish(self, model: mujoco.MjModel, env: int) -> None:
        """The place of the frame."""
        model.body("frame").pos[:] = self.scene[env]

    def seen(self, data: mujoco.MjData) -> tuple[np.ndarray, ...]:
        """Also palm and handle."""
        return data.qpos, data.qvel, data.site("S_grasp").xpos, data.site("S_handle").xpos

    def observe(self) -> np.ndarray:
        """Joints 27, latch, hinge, palm, handle, their difference, whether the door is open: 39."""
        (palm, handle), hinge = self.points.swapaxes(0, 1), self.qpos[:, -2:-1]
        is_open = np.where(hinge > 1.0, 1.0, -1.0)
        joints, latch = self.qpos[:, 1:-2], self.qpos[:, -1:]
        return np.concatenate([joints, latch, hinge, palm, handle, palm - handle, is_open], axis=1)

    def dense(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Hand to the handle, hinge to 1.57 rad, with bonuses on the way."""
        (palm, handle), hinge = self.points.swapaxes(0, 1), self.qpos[:, -2]
        cost = 0.1 * _norm(palm - handle) + 0.1 * np.square(hinge - 1.57)
        cost += 1e-5 * np.square(self.qvel).sum(1)
        bonus = 2.0 * (hinge > 0.2) + 8.0 * (hinge > 1.0) + 10.0 * (hinge > 1.35)
        return bonus - cost, np.zeros(self.num_envs, dtype=bool), hinge >= 1.35


class Relocate(Adroit):
    """Carry the ball to the target."""

    xml, scene_size = "adroit_relocate.xml", 5  # x and y of the ball, the target's place
    low, high = (-0.15, -0.15, -0.2, -0.2, 0.15), (0.15, 0.3, 0.2, 0.2, 0.35)

    def furnish(self, model: mujoco.MjModel, env: int) -> None:
        """The places of ball and target."""
        model.body("Object").pos[:2] = self.scene[env, :2]
        model.site("target").pos[:] = self.scene[env, 2:]

    def seen(self, data: mujoco.MjData) -> tuple[np.ndarray, ...]:
        """Also palm, ball and target."""
        sites = (data.site("S_grasp").xpos, data.body("Object").xpos, data.site("target").xpos)
        return data.qpos, data.qvel, *sites

    def observe(self) -> np.ndarray:
        """Joints 30, palm - ball, palm - target, ball - target: 39."""
        palm, ball, target = self.points.swapaxes(0, 1)
        parts = (self.qpos[:, :-6], palm - ball, palm - target, ball - target)
        return np.concatenate(parts, axis=1)

    def dense(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Hand to the ball; once it is off the table, both to the target."""
        palm, ball, target = self.points.swapaxes(0, 1)
        distance = _norm(ball - target)
        lifted = 1.0 - 0.5 * _norm(palm - target) - 0.5 * distance
        bonus = (ball[:, 2] > 0.04) * lifted + 10.0 * (distance < 0.1) + 20.0 * (distance < 0.05)
        success = distance < 0.1
        return bonus - 0.1 * _norm(palm - ball), np.zeros(self.num_envs, dtype=bool), success
