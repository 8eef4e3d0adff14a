"""Many MuJoCo simulations that step together, each with random numbers of its own.

One ``MjData`` per environment, observations and rewards computed for all of them at once. The simulations
are shared out over threads: ``mj_step`` releases Python's lock.
"""

from __future__ import annotations

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
    """

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.SAME_STEP}
    frame_skip: ClassVar[int]

    def __init__(self, keys: Sequence[Key], horizon: int, threads: int | None = None) -> None:
        self.keys, self.num_envs, self.horizon = tuple(keys), len(keys), horizon
        self.threads = min(threads or len(os.sched_getaffinity(0)), self.num_envs // FEW + 1)
        self.model = self.make_model()
        self.data = [mujoco.MjData(self.model) for _ in keys]
        self._qpos = [data.qpos for data in self.data]  # views: attribute look-ups are not free
        self._qvel = [data.qvel for data in self.data]
        self._ctrl = [data.ctrl for data in self.data]
        self.dt = self.model.opt.timestep * self.frame_skip
        self.init_qpos, self.init_qvel = self.data[0].qpos.copy(), self.data[0].qvel.copy()
        self.qpos = np.tile(self.init_qpos, (self.num_envs, 1))
        self.qvel = np.tile(self.init_qvel, (self.num_envs, 1))
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
        """The compiled model."""
        raise TypeError(f"{type(self).__name__} defines no model")

    def start(self, env: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Position ``[nq]`` and velocity ``[nv]`` that an episode of environment ``env`` begins with."""
        raise TypeError(f"{type(self).__name__} defines no start")

    def observe(self) -> np.ndarray:
        """Observations ``[n, obs]`` (float64) of ``self.qpos`` and ``self.qvel``."""
        raise TypeError(f"{type(self).__name__} defines no observation")

    def position(self) -> np.ndarray:
        """What the reward's displacement is measured on, ``[n, k]``, before and after a step."""
        return self.qpos[:, :1].copy()

    def reward(
        self, before: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(reward, terminated, outcome) ``[n]`` after a step from position ``before``."""
        raise TypeError(f"{type(self).__name__} defines no reward")

    # --- stepping ---------------------------------------------------------------------------------
    def reset(self, *, seed: Any = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """A new episode everywhere. The keys decide the starts; ``seed`` changes nothing."""
        self.episode[:] = 0
        self._begin(np.arange(self.num_envs))
        return self.observe().astype(np.float32), {}

    def _begin(self, envs: np.ndarray) -> None:
        for env in envs:
            seed, stream = self.keys[env]
            rng = generator(seed, stream, int(self.episode[env]))
            self.place(env, *self.start(env, rng))
            self.episode[env] += 1
            self.elapsed[env] = 0

    def place(self, env: int, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Puts one simulation into a state, at rest in every other respect."""
        data = self.data[env]
        mujoco.mj_resetData(self.model, data)
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_forward(self.model, data)
        self.qpos[env], self.qvel[env] = qpos, qvel

    def _simulate(self, envs: Sequence[int], actions: np.ndarray) -> None:
        for env in envs:
            self._ctrl[env][:] = actions[env]
            mujoco.mj_step(self.model, self.data[env], self.frame_skip)
            self.qpos[env], self.qvel[env] = self._qpos[env], self._qvel[env]

    def step(
        self, actions: np.ndarray, active: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """One control step; ``actions`` ``[n, act]``.

        Environments outside ``active`` ``[n]`` (bool) rest: what is returned for them means nothing.
        """
        actions = np.clip(np.asarray(actions, dtype=np.float64), -1.0, 1.0)
        envs = range(self.num_envs) if active is None else np.flatnonzero(active).tolist()
        before = self.position()
        if self.threads == 1 or len(envs) < 2 * FEW:
            self._simulate(envs, actions)
        else:
            parts = [envs[i :: self.threads] for i in range(self.threads)]
            pool = _pool(os.getpid(), self.threads)
            others = [pool.submit(self._simulate, part, actions) for part in parts[1:]]
            self._simulate(parts[0], actions)  # the first part runs here, the others meanwhile
            for other in others:
                other.result()
        reward, terminated, outcome = self.reward(before, actions)
        self.elapsed += 1
        truncated = ~terminated & (self.elapsed >= self.horizon)
        final = obs = self.observe().astype(np.float32)
        ended = terminated | truncated
        if active is not None:
            ended &= active
        if ended.any():
            self._begin(np.flatnonzero(ended))
            obs = self.observe().astype(np.float32)
        return obs, reward, terminated, truncated, {"final_obs": final, "outcome": outcome}

    # --- checkpoints ------------------------------------------------------------------------------
    def state(self) -> dict[str, np.ndarray]:
        """Everything the next step depends on, ``[n, ...]`` each."""
        return {
            "physics": np.stack([self._get(data) for data in self.data]),
            "elapsed": self.elapsed,
            "episode": self.episode,
        }

    def load_state(self, state: dict[str, np.ndarray]) -> np.ndarray:
        """Takes over what ``state`` returned; returns the current observations."""
        for env, (data, physics) in enumerate(zip(self.data, state["physics"], strict=True)):
            mujoco.mj_setState(self.model, data, physics, mujoco.mjtState.mjSTATE_INTEGRATION)
            self.qpos[env], self.qvel[env] = data.qpos, data.qvel
        self.elapsed, self.episode = (np.array(state[key]) for key in ("elapsed", "episode"))
        return self.observe().astype(np.float32)

    def _get(self, data: mujoco.MjData) -> np.ndarray:
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        state = np.empty(mujoco.mj_stateSize(self.model, kind))
        mujoco.mj_getState(self.model, data, state, kind)
        return state
