"""Many MuJoCo simulations that step together, each with random numbers of its own.

One ``MjData`` per environment, observations and rewards computed for all of them at once. The simulations
are shared out over threads: ``mj_step`` releases Python's lock.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, ClassVar

import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from o2okit.streams import generator
from o2okit.tasks.keys import Key

FEW = 4  # environments below which threads cost more than they bring
STATE = mujoco.mjtState.mjSTATE_INTEGRATION  # all that the next step of a simulation depends on


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """One pool per process: a forked child must not use its parent's threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix="mujoco")


class MujocoVector(VectorEnv):
    """Base class: a robot is a model, an observation, a reward and a termination.

    An episode that ends is reset in the same step: the observation returned is the next episode's
    first, ``info["final_obs"]`` ``[n, obs]`` holds the true successors of all environments. Actions are
    clipped to [-1, 1], as D4RL's wrapper does. Observations are float32, the simulation is float64.

    Args:
        keys: one per environment: the seed and stream of its starts. The n-th episode of an
            environment starts from numbers that depend on its key and on n alone.
        horizon: steps after which an episode is cut off.
        threads: that step the simulations; default: all cores.

    Attributes:
        qpos, qvel: positions ``[n, nq]`` and velocities ``[n, nv]``.
        extra: what else ``seen`` names, ``[n, k]``.
        elapsed, episode: steps in the current episode and episodes begun, ``[n]``.
    """

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.SAME_STEP}
    frame_skip: ClassVar[int]
    observes_state: ClassVar[bool] = (
        False  # an observation tells it, but for where the robot stands
    )
    fastest: ClassVar[float] = math.inf  # velocities beyond are observed as this
    own_state: ClassVar[
        tuple[str, ...]
    ] = ()  # a subclass's arrays [n, ...] that ``state`` includes

    def __init__(self, keys: Sequence[Key], horizon: int, threads: int | None = None) -> None:
        self.keys, self.num_envs, self.horizon = tuple(keys), len(keys), horizon
        self.threads = min(threads or len(os.sched_getaffinity(0)), self.num_envs // FEW + 1)
        self.model = self.make_model()
        self.models = [self.model] * self.threads
        self.data = [mujoco.MjData(self.model) for _ in keys]
        self.dt = self.model.opt.timestep * self.frame_skip
        self.init_qpos, self.init_qvel = self.data[0].qpos.copy(), self.data[0].qvel.copy()
        # Views are taken once, and one call copies a simulation out: look-ups are not free.
        self._ctrl = [data.ctrl for data in self.data]
        self._seen = [self.seen(data) for data in self.data]
        self._table = np.stack([np.concatenate(seen) for seen in self._seen])
        self._rows = list(self._table)
        ends = (self.model.nq, self.model.nq + self.model.nv)
        self.qpos, self.qvel, self.extra = np.split(self._table, ends, axis=1)
        self.elapsed = np.zeros(self.num_envs, dtype=np.int64)
        self.episode = np.zeros(self.num_envs, dtype=np.int64)
        obs = spaces.Box(-np.inf, np.inf, (self.observe().shape[1],), np.float32)
        action = spaces.Box(-1.0, 1.0, (self.model.nu,), np.float32)
        self.single_observation_space, self.single_action_space = obs, action
        batch = (self.num_envs, 1)
        self.observation_space = spaces.Box(np.tile(obs.low, batch), np.tile(obs.high, batch))
        self.action_space = spaces.Box(np.tile(action.low, batch), np.tile(action.high, batch))

    # --- what a robot defines ---------------------------------------------------------------------
    def make_model(self) -> mujoco.MjModel:
        """The compiled model; it may be shared with other vectors."""
        raise TypeError(f"{type(self).__name__} defines no model")

    def start(self, env: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Position ``[nq]`` and velocity ``[nv]`` that an episode of environment ``env`` begins with."""
        raise TypeError(f"{type(self).__name__} defines no start")

    def observe(self) -> np.ndarray:
        """Observations ``[n, obs]`` (float64) of ``self.qpos``, ``self.qvel`` and ``self.extra``."""
        raise TypeError(f"{type(self).__name__} defines no observation")

    def reward(
        self, before: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(reward, terminated, outcome) ``[n]`` after a step from position ``before``."""
        raise TypeError(f"{type(self).__name__} defines no reward")

    def position(self) -> np.ndarray:
        """What the reward's displacement is measured on, ``[n, k]``, before and after a step."""
        return self.qpos[:, :1]

    def control(self, actions: np.ndarray) -> np.ndarray:
        """The actuators' inputs ``[n, nu]`` for clipped actions."""
        return actions

    def seen(self, data: mujoco.MjData) -> tuple[np.ndarray, ...]:
        """Views that are copied out after every step: position, velocity, and what else is needed."""
        return data.qpos, data.qvel

    def furnish(self, model: mujoco.MjModel, env: int) -> None:
        """Writes into a model what an episode of ``env`` changes in it; by default nothing."""

    # --- stepping ---------------------------------------------------------------------------------
    def reset(self, *, seed: Any = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """New episodes everywhere, the first ones again. The keys decide the starts, ``seed`` nothing.

        ``options={"reset_mask": [n]}`` cuts those episodes off and begins their next ones.
        """
        if options and "reset_mask" in options:
            self._begin(np.flatnonzero(options["reset_mask"]).tolist())
        else:
            self.episode[:] = 0
            self._begin(range(self.num_envs))
        return self.observe().astype(np.float32), {}

    def _begin(self, envs: Sequence[int]) -> None:
        for env in envs:
            seed, stream = self.keys[env]
            rng = generator(seed, stream, int(self.episode[env]))
            self.place(env, *self.start(env, rng))
            self.episode[env] += 1
            self.elapsed[env] = 0

    def place(self, env: int, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Puts one simulation into a state, at rest in every other respect."""
        model, data = self.models[0], self.data[env]
        self.furnish(model, env)
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_forward(model, data)
        np.concatenate(self._seen[env], out=self._rows[env])

    def _simulate(self, model: mujoco.MjModel, envs: Sequence[int], control: np.ndarray) -> None:
        for env in envs:
            self.furnish(model, env)
            self._ctrl[env][:] = control[env]
            mujoco.mj_step(model, self.data[env], self.frame_skip)
            np.concatenate(self._seen[env], out=self._rows[env])

    def step(
        self, actions: np.ndarray, active: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """One control step; ``actions`` ``[n, act]``.

        Environments outside ``active`` ``[n]`` (bool) rest: they do not move, earn nothing and do
        not end.
        """
        actions = np.clip(np.asarray(actions, dtype=np.float64), -1.0, 1.0)
        active = np.ones(self.num_envs, bool) if active is None else np.asarray(active, bool)
        before = self.position().copy()
        self._advance(np.flatnonzero(active).tolist(), self.control(actions))
        reward, terminated, outcome = self.reward(before, actions)
        reward, terminated = np.where(active, reward, 0.0), terminated & active
        self.elapsed += active
        truncated = ~terminated & (self.elapsed >= self.horizon)
        final = obs = self.observe().astype(np.float32)
        ended = terminated | truncated
        if ended.any():
            self._begin(np.flatnonzero(ended).tolist())
            obs = self.observe().astype(np.float32)
        return obs, reward, terminated, truncated, {"final_obs": final, "outcome": outcome}

    def _advance(self, envs: list[int], control: np.ndarray) -> None:
        if self.threads == 1 or len(envs) < 2 * FEW:
            self._simulate(self.models[0], envs, control)
            return
        pool = _pool(os.getpid(), self.threads)
        parts = [envs[i :: self.threads] for i in range(self.threads)]
        others = [
            pool.submit(self._simulate, model, part, control)
            for model, part in zip(self.models[1:], parts[1:], strict=True)
        ]
        self._simulate(self.models[0], parts[0], control)  # here, the others meanwhile
        for other in others:
            other.result()

    # --- checkpoints ------------------------------------------------------------------------------
    def state(self) -> dict[str, np.ndarray]:
        """Everything the next step depends on, ``[n, ...]`` each.

        ``seen`` is kept beside the physics: positions of bodies lag behind ``qpos`` by a substep, and
        computing them anew would change the next observation or reward.
        """
        own = {name: getattr(self, name).copy() for name in ("elapsed", "episode", *self.own_state)}
        physics = np.stack([self._get(data) for data in self.data])
        return {"physics": physics, "seen": self._table.copy(), **own}

    def load_state(self, state: dict[str, np.ndarray]) -> np.ndarray:
        """Takes over what ``state`` returned; returns the current observations."""
        for data, physics in zip(self.data, state["physics"], strict=True):
            mujoco.mj_setState(self.model, data, physics, STATE)
        self._table[:] = state["seen"]
        for name in ("elapsed", "episode", *self.own_state):
            getattr(self, name)[...] = state[name]
        return self.observe().astype(np.float32)

    def _get(self, data: mujoco.MjData) -> np.ndarray:
        state = np.empty(mujoco.mj_stateSize(self.model, STATE))
        mujoco.mj_getState(self.model, data, state, STATE)
        return state
