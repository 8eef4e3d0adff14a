"""Entropy from nearest neighbours: bonuses for the rows of a minibatch, and the entropy of a set of states.

    D_s(i, j) = ||s_i - s_j||,   D_c(i, j) = |c_i - c_j|,   D = max(D_s, D_c)
    ε_i = the k-th smallest D(i, j),   n_i = #{j : D_c(i, j) < ε_i},   j ≠ i
    b_i = ψ(n_i + 1) / d_s + log(2 ε_i + 1e-5)                                  (specs/qcse.md 2)

``b`` is, up to a constant, the entropy of the states given ``c``, per dimension, as Kraskov et al. (2004)
estimate it; ``c`` is a value of state and action (QCSE) or of the state (VCSE).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln
from torch import Tensor

from o2okit.errors import UserError
from o2okit.nn import mean_per_run

TINY = 1e-5  # in the logarithm: VCSE's code


class Neighbours(NamedTuple):
    """ε and n of the queries ``[R, Q]``; D_c ``[R, Q, M]``, infinite where a pair does not count."""

    radius: Tensor
    count: Tensor
    conditions: Tensor

    @property
    def by_condition(self) -> Tensor:
        """Whether ε is a distance in ``c`` ``[R, Q]``."""
        return (self.conditions == self.radius[..., None]).any(-1)


def state_distances(queries: Tensor, reference: Tensor) -> Tensor:
    """Euclidean distances ``[R, Q, M]`` of ``[R, Q, d]`` and ``[R, M, d]``; of copies exactly 0."""
    return torch.cdist(queries, reference, compute_mode="donot_use_mm_for_euclid_dist")


def kth_smallest(distances: Tensor, k: Tensor, most: int) -> Tensor:
    """The ``k``-th smallest along the last axis, ``[R, Q]``.

    Args:
        distances: ``[R, Q, M]``, infinite for those that do not count. Where fewer than ``k`` count, the
            largest of them is taken; where none does, the result is 0.
        k: ``[R]``, from 1 to ``most``.
        most: the largest ``k`` of the cohort.
    """
    smallest = _smallest(distances, most)
    there = (smallest < torch.inf).sum(-1)
    index = (torch.minimum(k[:, None].long(), there) - 1).clamp_(min=0)[..., None]
    return smallest.gather(-1, index)[..., 0].masked_fill_(there == 0, 0.0)


def _smallest(distances: Tensor, most: int) -> Tensor:
    """The ``most`` smallest along the last axis, in order, NaN last."""
    if distances.is_cpu:  # NumPy sorts a whole row, vectorised, in a third of the time of topk
        return torch.from_numpy(np.sort(distances.detach().numpy(), axis=-1))[..., :most]
    return distances.topk(min(most, distances.shape[-1]), dim=-1, largest=False).values


def neighbours(
    states: Tensor,
    conditions: Tensor,
    counts: Tensor,
    k: Tensor,
    most: int,
    *,
    joint: bool = True,
    self_inclusive: bool = False,
) -> Neighbours:
    """ε and n of each query.

    Args:
        states: distances D_s ``[R, Q, M]`` of queries and reference set.
        conditions: distances D_c, likewise.
        counts: which pairs count ``[R, Q, M]``: not a row and itself.
        k: ``[R]``, at least 1.
        most: the largest ``k`` of the cohort.
        joint: ε from D; otherwise the larger of two k-th distances, in s and in c by themselves.
        self_inclusive: the row itself is its first neighbour.
    """
    if self_inclusive:
        first, k, most = k == 1, (k - 1).clamp(min=1), max(most - 1, 1)
    hidden = ~counts
    conditions = conditions.masked_fill(hidden, torch.inf)
    if joint:
        radius = kth_smallest(torch.maximum(states, conditions), k, most)
    else:
        theirs = kth_smallest(states.masked_fill(hidden, torch.inf), k, most)
        radius = torch.maximum(kth_smallest(conditions, k, most), theirs)
    if self_inclusive:
        radius = torch.where(first[:, None], 0.0, radius)
    return Neighbours(radius, (conditions < radius[..., None]).sum(-1), conditions)


def conditional_bonus(
    found: Neighbours, dimensions: int, reference: int, *, count_self: bool = False
) -> Tensor:
    """The estimate b ``[R, Q]`` of each query.

    Args:
        found: of ``neighbours``.
        dimensions: d_s, numbers in a state.
        reference: M, rows of the reference set.
        count_self: each row is among its own n.
    """
    psi = _digamma(reference + 2, found.radius.device)
    return psi[found.count + count_self] / dimensions + torch.log(2 * found.radius + TINY)


@lru_cache
def _digamma(size: int, device: torch.device) -> Tensor:
    """ψ(n + 1) for n = 0, ..., size - 1."""
    return torch.tensor(digamma(np.arange(1, size + 1)), dtype=torch.float32, device=device)


def state_bonus(distances: Tensor, counts: Tensor, k: Tensor, most: int) -> Tensor:
    """log(1 + ε^S) ``[R, Q]``, ε^S the k-th state distance; arguments as for ``neighbours``."""
    return torch.log1p(kth_smallest(distances.masked_fill(~counts, torch.inf), k, most))


# --- scales ---------------------------------------------------------------------------------------
def moments(values: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased standard deviation ``[R, *]`` of those ``[R, M, *]`` that count ``[R, M]``."""
    mask = counts.to(values).view(*counts.shape, *[1] * (values.dim() - 2))
    share = counts.shape[1] / mask.sum(1).clamp(min=1)

    def mean(x: Tensor) -> Tensor:
        rows = (x * mask).movedim(1, -1).reshape(-1, x.shape[1])
        # The same bits whatever the company.
        return mean_per_run(rows).view(len(x), *x.shape[2:]) * share

    centre = mean(values)
    return centre, mean((values - centre[:, None]).square()).sqrt()


# --- a set of states ------------------------------------------------------------------------------
class StateEntropy(NamedTuple):
    """Eq. 19 of QCSE's paper, and the mean of log ρ, which is free of its constants."""

    entropy: float
    mean_log_radius: float


def state_entropy(states: np.ndarray, k: int = 5) -> StateEntropy:
    """Entropy of a set of states by the distance ρ to their k-th neighbour (specs/qcse.md 2, Eq. 19).

        mean_i log( N ρ_i^d π^(d/2) / (k Γ(d/2 + 1)) )

    It lies log k - ψ(k) below the estimate without bias: 0.577, 0.176, 0.103 for k = 1, 3, 5. Copies of a
    state have ρ = 0, which counts as 1e-12 here.

    Args:
        states: ``[N, d]``.
        k: which neighbour.

    Raises:
        UserError: there are not more than ``k`` states.
    """
    number, size = states.shape
    if number <= k:
        raise UserError(
            f"the {k}-th neighbour needs more than {k} states; there are {number}. Take a smaller k."
        )
    distances, _ = cKDTree(states).query(states, k=[k + 1])  # the first is the state itself
    radius = np.log(np.maximum(distances[:, 0], 1e-12)).mean()
    ball = 0.5 * size * math.log(math.pi) - gammaln(size / 2 + 1)
    return StateEntropy(float(size * radius + ball + math.log(number / k)), float(radius))
