"""Sums of rewards along episodes: returns, n-step targets, the best episodes. NumPy throughout.

An episode ends at a terminal, at a time-out and at the last row.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from o2okit.data.dataset import Dataset, episode_slices
from o2okit.errors import UserError


def return_to_go(
    rewards: np.ndarray,
    terminals: np.ndarray,
    timeouts: np.ndarray,
    discount: float,
    *,
    failure_reward: float | None = None,
) -> np.ndarray:
    """Monte-Carlo returns of Cal-QL (specs/qcse.md 3): ``G_t = r_t + γ G_{t+1}``, 0 after the end.

    Time-outs end the sum too, hence a loose lower bound late in an episode that was cut off.

    Args:
        rewards: ``[N]``, scaled as they are in training.
        terminals, timeouts: ``[N]`` bool.
        discount: ``γ`` in [0, 1].
        failure_reward: of a sparse task, the (scaled) reward of a step that is no success. An episode
            with no other reward gets ``r / (1 - γ)`` everywhere, as if it failed for ever.

    Returns:
        ``[N]`` float32.

    Raises:
        UserError: ``discount`` is out of range, or 1 with a ``failure_reward``.
    """
    _check_discount(discount)
    if failure_reward is not None and discount == 1:
        raise UserError("failing for ever has no finite return at discount 1; take one below 1.")
    rewards = np.asarray(rewards, dtype=np.float64)
    episodes = episode_slices(terminals | timeouts)
    lengths = np.array([rows.stop - rows.start for rows in episodes])
    longest_first = np.argsort(-lengths, kind="stable")
    last = np.array([rows.stop - 1 for rows in episodes])[longest_first]
    lengths = lengths[longest_first]
    result = rewards.copy()
    for back in range(1, lengths[0]):  # all episodes at once, from their ends
        rows = last[: np.searchsorted(-lengths, -back)] - back
        result[rows] += discount * result[rows + 1]
    if failure_reward is not None:
        failed = np.isclose(rewards, failure_reward)
        starts = [rows.start for rows in episodes]
        all_failed = np.logical_and.reduceat(failed, starts)
        result[np.repeat(all_failed, np.diff([*starts, len(rewards)]))] = failure_reward / (
            1 - discount
        )
    return result.astype(np.float32)


class NStep(NamedTuple):
    """``target = reward + bootstrap · V(next_observations[last])``; all fields ``[N]``.

    ``bootstrap`` is ``γ^steps``, or 0 where the ``steps`` rewards end at a terminal.
    """

    reward: np.ndarray
    last: np.ndarray
    bootstrap: np.ndarray
    steps: np.ndarray


def n_step(
    rewards: np.ndarray, terminals: np.ndarray, timeouts: np.ndarray, n: int, discount: float
) -> NStep:
    """What an n-step target is made of (specs/gde.md 2.4); no sum crosses the end of an episode.

    Args:
        rewards: ``[N]``.
        terminals: ``[N]`` bool: the sum stops there and nothing follows.
        timeouts: ``[N]`` bool: the sum stops there and bootstraps from that row's next observation.
        n: rewards to sum up at most.
        discount: ``γ`` in [0, 1].

    Raises:
        UserError: ``n`` is below 1, or ``discount`` out of range.
    """
    if n < 1:
        raise UserError(f"n-step sums need n of at least 1; got {n}.")
    _check_discount(discount)
    rewards, rows = np.asarray(rewards, dtype=np.float64), np.arange(len(rewards))
    ends = terminals | timeouts
    ends[-1:] = True
    total, last = rewards.copy(), rows.copy()
    for k in range(1, n):
        going = ~ends[last]
        last[going] += 1
        total[going] += discount**k * rewards[last[going]]
    steps = last - rows + 1
    bootstrap = np.where(terminals[last], 0.0, float(discount) ** steps)
    return NStep(total.astype(np.float32), last, bootstrap.astype(np.float32), steps)


# --- the best episodes ----------------------------------------------------------------------------
def episode_returns(dataset: Dataset) -> np.ndarray:
    """The sum of the rewards of each of ``dataset.episodes()``."""
    starts = [rows.start for rows in dataset.episodes()]
    return np.add.reduceat(dataset.rewards.astype(np.float64), starts)


def top_fraction(dataset: Dataset, fraction: float = 0.2) -> np.ndarray:
    """Row numbers of the whole episodes of highest return, until ``fraction`` of all rows is reached.

    The episode that reaches it is included (the paper's "until" leaves it open); the earlier of equal
    ones comes first. Rows are in the order of the dataset. GDE's *Filter* baseline takes 20 %.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"the fraction of the rows must be in (0, 1]; got {fraction}.")
    lengths = np.array([rows.stop - rows.start for rows in dataset.episodes()])
    order = _best_first(dataset)
    wanted = math.ceil(fraction * len(dataset) - 1e-9)  # 0.2 * 15 is a little more than 3
    return _rows_of(dataset, order[: 1 + np.searchsorted(lengths[order].cumsum(), wanted)])


def best_episodes(dataset: Dataset, k: int) -> np.ndarray:
    """Row numbers of the ``k`` episodes of highest return, all if there are fewer."""
    if k < 1:
        raise UserError(f"the number of episodes must be at least 1; got {k}.")
    return _rows_of(dataset, _best_first(dataset)[:k])


def _best_first(dataset: Dataset) -> np.ndarray:
    return np.argsort(-episode_returns(dataset), kind="stable")


def _rows_of(dataset: Dataset, chosen: np.ndarray) -> np.ndarray:
    episodes = dataset.episodes()
    return np.concatenate([np.r_[episodes[i]] for i in sorted(chosen)])


def _check_discount(discount: float) -> None:
    if not 0 <= discount <= 1:
        raise UserError(f"the discount must be in [0, 1]; got {discount}.")
