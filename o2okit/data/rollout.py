"""Who collects a dataset, rolled out in several environments side by side, as fields of D4RL's format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from o2okit.errors import UserError

SHARE = 2_000  # rows per environment at least: episodes should end before their share does
MOST = 50  # environments side by side at most

Fields = dict[str, np.ndarray]


def side_by_side(rows: int) -> int:
    """How many environments collect ``rows``."""
    return max(1, min(MOST, rows // SHARE))


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch with one thread, for policies that act step by step.

    One of this size gains nothing from a second thread; beside another busy process, waiting for one at
    every step makes it many times as slow.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def roll_out(
    env: VectorEnv,
    act: Callable[[np.ndarray], np.ndarray],
    rows: int,
    *,
    infos: Callable[[], Fields] = dict,
    progress: Callable[[int], Any] = lambda rows: None,
) -> Fields:
    """Steps the environments until each has its share of the rows, in whole episodes.

    Args:
        env: ``n`` environments.
        act: actions ``[n, A]`` for observations ``[n, D]``.
        rows: at least so many come back.
        infos: further fields ``[n, ...]`` of the state before the step; called after ``act``, which may
            set new goals.
        progress: called with the number of new rows.

    Returns:
        ``observations, actions, rewards, terminals, timeouts, next_observations`` and ``infos``,
        ``[N, ...]``, ``N >= rows``: one environment's episodes after the other's.

    Raises:
        UserError: an action is not finite.
    """
    with one_thread():
        return _steps(env, act, -(-rows // env.num_envs), infos, progress)


def _steps(
    env: VectorEnv,
    act: Callable[[np.ndarray], np.ndarray],
    quota: int,
    infos: Callable[[], Fields],
    progress: Callable[[int], Any],
) -> Fields:
    obs, _ = env.reset()
    active, done = np.ones(env.num_envs, dtype=bool), np.zeros(env.num_envs, dtype=np.int64)
    steps: list[Fields] = []
    while active.any():
        actions = act(obs)
        if not np.isfinite(actions).all():
            raise UserError(
                "the policy's actions are not all finite: it has diverged, or its file is damaged. Collect "
                "with another policy, for instance an earlier snapshot of its training."
            )
        further = {name: np.array(value) for name, value in infos().items()}
        following, reward, terminated, truncated, info = env.step(actions, active)
        steps.append(
            {
                "observations": obs,
                "actions": actions,
                "rewards": reward,
                "terminals": terminated,
                "timeouts": truncated,
                "next_observations": info["final_obs"],
                **further,
                "active": active.copy(),
            }
        )
        done += active
        progress(int(active.sum()))
        active &= ~((terminated | truncated) & (done >= quota))
        obs = following
    kept = np.stack([step.pop("active") for step in steps], axis=1)  # [n, steps]
    # Column by column, each taken out of the steps: a million rows lie here once, not three times.
    return {
        name: np.stack([step.pop(name) for step in steps], axis=1)[kept] for name in list(steps[0])
    }
