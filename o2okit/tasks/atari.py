"""Atari games on ale-py's emulator, as DQN sees them (Mnih et al., 2015; Machado et al., 2018).

An action lasts four frames; an observation is the last four images, each the larger of the action's last
two frames in grey, shrunk to 84 x 84. Every frame repeats the previous action with probability 0.25
(sticky actions). An episode ends when the game is over, or is cut off after 27,000 steps, half an hour.

Numbered departures from Machado et al.:
    1. The dice of the sticky actions are ours, not the emulator's: a game is a function of its key, its
       number and the actions, so that a run can be resumed by playing its game again.
    2. The smallest set of actions that a game knows, not all 18 (Mnih et al.; Dopamine).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar

import ale_py
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from o2okit.streams import generator
from o2okit.tasks.keys import Key

SKIP, STACK, SIDE = 4, 4, 84
STICKY = 0.25


@cache
def _shrinking(size: int) -> np.ndarray:
    """``[84, size]``: the mean over the part of an axis that each of the 84 pixels covers."""
    edges = np.linspace(0, size, SIDE + 1)[:, None]
    pixels = np.arange(size)
    covered = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return (np.maximum(covered, 0) * SIDE / size).astype(np.float32)


def shrink(image: np.ndarray) -> np.ndarray:
    """A grey image ``[height, width]`` as ``[84, 84]``, uint8: means over areas."""
    rows, columns = (_shrinking(size) for size in image.shape)
    return np.rint(rows @ image.astype(np.float32) @ columns.T).astype(np.uint8)


class Atari(VectorEnv):
    """One game on several emulators that step one after the other; autoreset as the other tasks have it.

    Args:
        keys: one per emulator: the seed and stream of its dice.
        game: ale-py's name.
        horizon: steps after which an episode is cut off.

    Attributes:
        images: the stacks ``[n, 4, 84, 84]``, uint8.
        elapsed, episode: steps in the current episode and episodes begun, ``[n]``.
    """

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, keys: Sequence[Key], game: str, horizon: int) -> None:
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.keys, self.num_envs, self.horizon = tuple(keys), len(keys), horizon
        self.emulators = [self._emulator(game) for _ in keys]
        self.moves = self.emulators[0].getMinimalActionSet()
        shape = (STACK, SIDE, SIDE)
        self.single_observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.single_action_space = spaces.Discrete(len(self.moves))
        self.observation_space = spaces.Box(0, 255, (self.num_envs, *shape), np.uint8)
        self.action_space = spaces.MultiDiscrete([len(self.moves)] * self.num_envs)
        self.images = np.zeros((self.num_envs, *shape), dtype=np.uint8)
        self.elapsed = np.zeros(self.num_envs, dtype=np.int64)
        self.episode = np.zeros(self.num_envs, dtype=np.int64)
        self._played = np.zeros((self.num_envs, horizon), dtype=np.uint8)  # actions of this episode
        self._held = [self.moves[0]] * self.num_envs  # what a sticky frame repeats
        self._dice: list[np.random.Generator] = [None] * self.num_envs

    @staticmethod
    def _emulator(game: str) -> ale_py.ALEInterface:
        emulator = ale_py.ALEInterface()
        emulator.setFloat("repeat_action_probability", 0.0)  # departure 1
        emulator.loadROM(ale_py.roms.get_rom_path(game))
        return emulator

    # --- stepping ---------------------------------------------------------------------------------
    def reset(self, *, seed: Any = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """New games everywhere, the first ones again. The keys decide the dice, ``seed`` nothing.

        ``options={"reset_mask": [n]}`` cuts those episodes off and begins their next ones.
        """
        if options and "reset_mask" in options:
            again = np.flatnonzero(options["reset_mask"])
        else:
            self.episode[:] = 0
            again = np.arange(self.num_envs)
        for env in again:
            self._begin(env)
        return self.images.copy(), {}

    def _begin(self, env: int) -> None:
        seed, stream = self.keys[env]
        self._dice[env] = generator(seed, stream, int(self.episode[env]))
        self.episode[env] += 1
        self.elapsed[env] = 0
        self._held[env] = self.moves[0]
        self._played[env] = 0
        emulator = self.emulators[env]
        emulator.reset_game()
        self.images[env] = shrink(emulator.getScreenGrayscale())

    def _play(self, env: int, action: int) -> float:
        """One step of one emulator; returns the points scored."""
        emulator, points, frames = self.emulators[env], 0.0, []
        self._played[env, self.elapsed[env]] = action
        for frame, dice in enumerate(self._dice[env].random(SKIP)):
            if dice >= STICKY:
                self._held[env] = self.moves[action]
            points += emulator.act(self._held[env])
            if frame >= SKIP - 2:
                frames.append(emulator.getScreenGrayscale())
        self.images[env, :-1] = self.images[env, 1:]
        self.images[env, -1] = shrink(np.maximum(*frames))
        self.elapsed[env] += 1
        return points

    def step(
        self, actions: np.ndarray, active: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """One step; ``actions`` ``[n]``. Emulators outside ``active`` ``[n]`` (bool) rest."""
        active = np.ones(self.num_envs, bool) if active is None else np.asarray(active, bool)
        reward, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        for env in np.flatnonzero(active):
            reward[env] = self._play(env, int(actions[env]))
            terminated[env] = self.emulators[env].game_over()
        truncated = active & ~terminated & (self.elapsed >= self.horizon)
        final = self.images.copy()
        for env in np.flatnonzero(terminated | truncated):
            self._begin(env)
        outcome = np.zeros(self.num_envs, dtype=np.int64)
        info = {"final_obs": final, "outcome": outcome}
        return self.images.copy(), reward, terminated, truncated, info

    # --- checkpoints ------------------------------------------------------------------------------
    def state(self) -> dict[str, np.ndarray]:
        """Everything the next step depends on, ``[n, ...]``: the episode's number and its actions."""
        return {
            "played": self._played.copy(),
            "elapsed": self.elapsed.copy(),
            "episode": self.episode.copy(),
        }

    def load_state(self, state: dict[str, np.ndarray]) -> np.ndarray:
        """Takes over what ``state`` returned by playing it again; returns the current observations."""
        self.episode[:] = state["episode"] - 1
        for env, (played, steps) in enumerate(zip(state["played"], state["elapsed"], strict=True)):
            self._begin(env)
            for action in played[:steps]:
                self._play(env, int(action))
        return self.images.copy()
