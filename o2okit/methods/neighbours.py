"""Entropy from nearest neighbours: bonuses for the rows of a minibatch, and the entropy of a set of states.

    D_s(i, j) = ||s_i - s_j||,   D_c(i, j) = |c_i - c_j|,   D = max(D_s, D_c)
    ε_i = the k-th smallest D(i, j),   n_i = #{j : D_c(i, j) < ε_i},   j ≠ i
    b_i = ψ(n_i + 1) / d_s + log(2 ε_i + 1e-5)                                  (specs/qcse.md 2)

``b`` is, up to a constant, the entropy of the states given ``c``, per dimension, as Kraskov et al. (2004)
estimate it; ``c`` is a value of state and action (QCSE) or of the state (VCSE).

On a CPU ``neighbours.c`` does what costs the most, up to rounding (``o2okit.native``); here it is to be read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln
from torch import Tensor

from o2okit import native
from o2okit.errors import UserError
from o2okit.nn.products import never_alone

TINY = 1e-5  # in the logarithm, as in VCSE's code, and in a LayerNorm
SOURCE = Path(__file__).with_suffix(".c")
IN_C = (torch.float32, torch.int64)


class Neighbours(NamedTuple):
    """ε and n of the queries ``[R, Q]``; whether ε is a distance in ``c`` is asked for now and then."""

    radius: Tensor
    count: Tensor
    conditions: Tensor
    present: Tensor
    first: Tensor

    @property
    def by_condition(self) -> Tensor:
        """Whether ε is a distance in ``c`` ``[R, Q]``."""
        gaps = _gaps(self.conditions, _hidden(self.present, self.first))
        return (gaps == self.radius[..., None]).any(-1)


def _in_c(*tensors: Tensor) -> bool:
    """Whether C does it: for numbers of its types on a CPU, through which no gradient flows."""
    fit = all(x.is_cpu and x.dtype in IN_C and not x.requires_grad for x in tensors)
    return fit and native.compiled(SOURCE) is not None


# --- which rows there are -------------------------------------------------------------------------
def distinct(places: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that count once, however often they were drawn.

    Args:
        places: which row each is ``[R, M]``.
        present: which of them there are ``[R, M]``.

    Returns:
        Which count ``[R, M]``: of those that are the same and present the first; and that one's number, -1
        where there is none.
    """
    if _in_c(places):
        counts, first = torch.empty_like(present), torch.empty_like(places)
        _distinct(places.contiguous(), present.contiguous(), counts, first)
        return counts, first
    same = (places[:, :, None] == places[:, None]) & present[:, None]
    first = torch.where(same.any(-1), same.to(torch.uint8).argmax(-1), -1)
    return first == torch.arange(places.shape[1], device=places.device), first


@native.operation("(Tensor places, Tensor present, Tensor(a!) counts, Tensor(b!) first) -> ()")
def _distinct(places: Tensor, *tensors: Tensor) -> Callable[[], None]:
    return native.call(native.compiled(SOURCE).distinct, *places.shape, places, *tensors)


def _hidden(present: Tensor, first: Tensor) -> Tensor:
    """Which pairs do not count ``[R, Q, M]``: rows that do not, and the query itself."""
    itself = first[..., None] == torch.arange(present.shape[1], device=first.device)
    return itself | ~present[:, None]


# --- the nearest of them --------------------------------------------------------------------------
def neighbours(
    states: Tensor,
    conditions: Tensor,
    present: Tensor,
    first: Tensor,
    up_to: Tensor,
    *,
    unit: float = 1.0,
    joint: bool = True,
    self_inclusive: bool = False,
) -> Neighbours:
    """ε and n of each query.

    Args:
        states: of the reference set ``[R, M, d]``, the queries first.
        conditions: c, likewise ``[R, M]``.
        present: which of them count ``[R, M]``.
        first: of each query the number of the row that is itself ``[R, Q]``, as of ``distinct``.
        up_to: of ``up_to_kth``, k at least 1.
        unit: what states are divided by.
        joint: ε from D; otherwise the larger of two k-th distances, in s and in c by themselves.
        self_inclusive: the row itself is its first neighbour.
    """
    if self_inclusive:  # the others are up to the (k-1)-th; none is where k = 1, and ε is 0
        up_to = F.pad(up_to[..., 1:], (0, 1))
    given = (conditions, present, first)
    if _in_c(states, conditions):
        radius, count = torch.empty_like(first, dtype=torch.float32), torch.empty_like(first)
        tensors = [each.contiguous() for each in (states, *given, up_to)]
        _nearest(*tensors, unit, joint, radius, count)
        return Neighbours(radius, count, *given)
    hidden, states = _hidden(present, first), states / unit
    gaps = _gaps(conditions, hidden)
    distances = state_distances(states[:, : first.shape[1]], states)
    if joint:
        radius = kth_smallest(torch.maximum(distances, gaps), up_to)
    else:
        theirs = kth_smallest(torch.where(hidden, torch.inf, distances), up_to)
        radius = torch.maximum(kth_smallest(gaps, up_to), theirs)
    return Neighbours(radius, (gaps < radius[..., None]).sum(-1), *given)


@native.operation(
    "(Tensor states, Tensor conditions, Tensor present, Tensor first, Tensor up_to, float unit, bool joint, "
    "Tensor(a!) radius, Tensor(b!) count) -> ()"
)
def _nearest(
    states: Tensor,
    conditions: Tensor,
    present: Tensor,
    first: Tensor,
    up_to: Tensor,
    unit: float,
    joint: bool,
    radius: Tensor,
    count: Tensor,
) -> Callable[[], None]:
    sizes = (*states.shape, first.shape[1], up_to.shape[-1])
    tensors = (states, conditions, present, first, up_to, radius, count)
    search = native.call(native.compiled(SOURCE).nearest, *sizes, int(joint), unit, *tensors)

    def again() -> None:
        if search():
            raise MemoryError("no memory for the distances of a bonus")

    return again


def _gaps(conditions: Tensor, hidden: Tensor) -> Tensor:
    """D_c ``[R, Q, M]``, infinite where a pair does not count."""
    gaps = (conditions[:, : hidden.shape[1], None] - conditions[:, None]).abs()
    return torch.where(hidden, torch.inf, gaps)


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
    most = min(up_to.shape[-1], distances.shape[-1])
    smallest = distances.topk(most, dim=-1, largest=False).values
    there = (smallest < torch.inf) & up_to[..., :most]
    return torch.where(there, smallest, 0.0).amax(-1)


# --- bonuses --------------------------------------------------------------------------------------
def conditional_bonus(found: Neighbours, dimensions: int, *, count_self: bool = False) -> Tensor:
    """The estimate b ``[R, Q]`` of each query.

    Args:
        found: of ``neighbours``.
        dimensions: d_s, numbers in a state.
        count_self: each row is among its own n.
    """
    size = found.conditions.shape[1]
    psi = _digamma(size + 2, dimensions, found.radius.device)[int(count_self) :]
    return psi[found.count] + torch.log(2 * found.radius + TINY)


@lru_cache
def _digamma(size: int, dimensions: int, device: torch.device) -> Tensor:
    """ψ(n + 1) / d for n = 0, ..., size - 1."""
    psi = torch.tensor(digamma(np.arange(1, size + 1)), dtype=torch.float32, device=device)
    return psi / dimensions


def state_bonus(
    states: Tensor, present: Tensor, first: Tensor, up_to: Tensor, *, unit: float = 1.0
) -> Tensor:
    """log(1 + ε^S) ``[R, Q]``, ε^S the k-th state distance; arguments as for ``neighbours``."""
    nothing = torch.zeros_like(states[..., 0])
    return torch.log1p(neighbours(states, nothing, present, first, up_to, unit=unit).radius)


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
    if _in_c(values):
        result = torch.empty_like(values)
        _standardised(values.contiguous(), counts.contiguous(), result)
        return result
    mean, std = moments(values, counts)
    return (values - mean) / (std.square() + TINY).sqrt()


@native.operation("(Tensor values, Tensor counts, Tensor(a!) result) -> ()")
def _standardised(values: Tensor, *tensors: Tensor) -> Callable[[], None]:
    return native.call(native.compiled(SOURCE).standardised, *values.shape, TINY, values, *tensors)


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
