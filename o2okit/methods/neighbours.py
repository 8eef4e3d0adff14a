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
import torch.nn.functional as F
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln
from torch import Tensor

from o2okit.errors import UserError
from o2okit.nn.products import never_alone

TINY = 1e-5  # in the logarithm, as in VCSE's code, and in a LayerNorm


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


def up_to_kth(k: Tensor) -> Tensor:
    """Which of the nearest, in order, are up to each run's k-th: ``[R, 1, max k]`` for ``k`` ``[R]``."""
    return torch.arange(int(k.max()), device=k.device) < k[:, None, None]


def kth_smallest(distances: Tensor, up_to: Tensor) -> Tensor:
    """The k-th smallest along the last axis, ``[R, Q]``.

    Args:
        distances: ``[R, Q, M]``, infinite for those that do not count. Where fewer than k count, the
            largest of them is taken; where none does, the result is 0.
        up_to: of ``up_to_kth``.
    """
    smallest = _smallest(distances, up_to.shape[-1])
    there = (smallest < torch.inf) & up_to[..., : smallest.shape[-1]]
    return torch.where(there, smallest, 0.0).amax(-1)


def _smallest(distances: Tensor, most: int) -> Tensor:
    """The ``most`` smallest along the last axis, in order, NaN last."""
    if distances.is_cpu:
        rows = distances.detach().clone()
        torch.ops.o2okit.sort_rows(rows)
        return rows[..., :most]
    return distances.topk(min(most, distances.shape[-1]), dim=-1, largest=False).values


# An operation of PyTorch's, so that it is recorded with the others.
LIBRARY = torch.library.Library("o2okit", "DEF")
LIBRARY.define("sort_rows(Tensor(a!) x) -> ()")


@torch.library.impl(LIBRARY, "sort_rows", "CPU")
def _sort_rows(x: Tensor) -> None:
    """In place; NumPy sorts a whole row, vectorised, in a third of the time of ``topk``."""
    x.numpy().sort(axis=-1)


def neighbours(
    states: Tensor,
    conditions: Tensor,
    hidden: Tensor,
    up_to: Tensor,
    *,
    joint: bool = True,
    self_inclusive: bool = False,
) -> Neighbours:
    """ε and n of each query.

    Args:
        states: distances D_s ``[R, Q, M]`` of queries and reference set.
        conditions: distances D_c, likewise.
        hidden: which pairs do not count ``[R, Q, M]``: a row and itself, for instance.
        up_to: of ``up_to_kth``, k at least 1.
        joint: ε from D; otherwise the larger of two k-th distances, in s and in c by themselves.
        self_inclusive: the row itself is its first neighbour.
    """
    if self_inclusive:  # the others are up to the (k-1)-th; none is where k = 1, and ε is 0
        up_to = F.pad(up_to[..., 1:], (0, 1))
    conditions = torch.where(hidden, torch.inf, conditions)  # masked_fill takes twice as long
    if joint:
        radius = kth_smallest(torch.maximum(states, conditions), up_to)
    else:
        theirs = kth_smallest(torch.where(hidden, torch.inf, states), up_to)
        radius = torch.maximum(kth_smallest(conditions, up_to), theirs)
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
    psi = _digamma(reference + 2, dimensions, found.radius.device)[int(count_self) :]
    return psi[found.count] + torch.log(2 * found.radius + TINY)


@lru_cache
def _digamma(size: int, dimensions: int, device: torch.device) -> Tensor:
    """ψ(n + 1) / d for n = 0, ..., size - 1."""
    psi = torch.tensor(digamma(np.arange(1, size + 1)), dtype=torch.float32, device=device)
    return psi / dimensions


def state_bonus(distances: Tensor, hidden: Tensor, up_to: Tensor) -> Tensor:
    """log(1 + ε^S) ``[R, Q]``, ε^S the k-th state distance; arguments as for ``neighbours``."""
    return torch.log1p(kth_smallest(torch.where(hidden, torch.inf, distances), up_to))


# --- scales ---------------------------------------------------------------------------------------
def moments(values: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased standard deviation ``[R, 1, *]`` of those ``[R, M, *]`` that count ``[R, M]``."""
    (runs, number, *shape), rows, mask = values.shape, values, counts.to(values)
    if shape:  # each sum in a row of its own
        rows = values.movedim(1, -1).reshape(-1, number)
        mask = mask.repeat_interleave(len(rows) // runs, 0)
    several, mask = never_alone(rows), never_alone(mask)
    share = number / mask.sum(1, keepdim=True).clamp(min=1)
    centre = (several * mask).mean(1, keepdim=True) * share
    spread = ((several - centre).square() * mask).mean(1, keepdim=True) * share
    return tuple(each[: len(rows)].view(runs, 1, *shape) for each in (centre, spread.sqrt()))


def standardised(values: Tensor, counts: Tensor) -> Tensor:
    """``[R, M]`` as a LayerNorm over those that count ``[R, M]`` has them."""
    mean, std = moments(values, counts)
    return (values - mean) / (std.square() + TINY).sqrt()


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
