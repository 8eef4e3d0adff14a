"""Statistics of learning curves, by name: ``CURVES["last-10"](scores, steps)``.

Each takes the scores of one run's evaluations ``[n]``, oldest first, and their steps ``[n]``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from o2okit.errors import UserError

LAST = 10  # evaluations


def final(scores: np.ndarray, steps: np.ndarray) -> float:
    """The last evaluation (SAMG; GDE on AntMaze)."""
    return float(scores[-1])


def last_mean(scores: np.ndarray, steps: np.ndarray) -> float:
    """Mean of the last ten evaluations (GDE, locomotion), of all where there are fewer.

    The one before the first step is none of them, unless it is the only one.
    """
    return float(_trained(scores, steps)[-LAST:].mean())


def late_mean(scores: np.ndarray, steps: np.ndarray) -> float:
    """Mean of the last tenth of the evaluations (QCSE), rounded up; as ``last_mean`` of trained agents."""
    trained = _trained(scores, steps)
    return float(trained[-math.ceil(len(trained) / 10) :].mean())


def _trained(scores: np.ndarray, steps: np.ndarray) -> np.ndarray:
    return scores[steps > 0] if steps[-1] > 0 else scores


def best(scores: np.ndarray, steps: np.ndarray) -> float:
    """The highest evaluation. It grows with the number of evaluations: compare equal numbers."""
    return float(scores.max())


def area(scores: np.ndarray, steps: np.ndarray) -> float:
    """Area under the curve per step (trapezia): the score that was there on average."""
    if len(scores) == 1:
        return float(scores[0])
    return float(np.trapezoid(scores, steps) / (steps[-1] - steps[0]))


CURVES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "final": final,
    "last-10": last_mean,
    "late": late_mean,
    "best": best,
    "area": area,
}


def curve_statistic(name: str, scores: ArrayLike, steps: ArrayLike) -> float:
    """A statistic of one curve by its name. Raises ``UserError`` for bad names and empty curves."""
    if name not in CURVES:
        raise UserError(f"unknown statistic {name!r}. Allowed: {', '.join(CURVES)}.")
    scores, steps = np.asarray(scores, dtype=float), np.asarray(steps, dtype=float)
    if scores.ndim != 1 or scores.shape != steps.shape or not len(scores):
        raise UserError(
            f"a curve is one score per step, at least one; got {scores.shape} scores, {steps.shape} steps."
        )
    if (np.diff(steps) <= 0).any():
        raise UserError("the steps of a curve must rise.")
    return CURVES[name](scores, steps)


def cumulative_regret(successes: ArrayLike) -> float:
    """mean(1 - success) over all training episodes of the online phase (SAMG, 2.9)."""
    successes = np.asarray(successes, dtype=float)
    if successes.ndim != 1 or not len(successes):
        raise UserError("the regret needs the success (0 or 1) of at least one training episode.")
    return float(1 - successes.mean())
