"""The rules by which a result is judged, fixed in code. Those that changed after a result had been seen are
named in the CHANGELOG.

A cell compares our scores with one printed number, a claim compares two of our own results. Both
rest on a 95 % bootstrap interval over seeds (``o2okit.report.statistics``). Fewer than three seeds decide
nothing: of two sides that do not differ, two seeds each would decide half of the time (three a quarter, five
one in seven, where it should be one in twenty). Results of the ``smoke`` profile are never judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import scipy
from numpy.typing import ArrayLike

from o2okit.errors import UserError, unknown
from o2okit.profiles import check_profile
from o2okit.report.statistics import (
    Interval,
    as_seeds,
    bootstrap_interval,
    difference_interval,
    seeds_to_decide,
)

MARGIN_POINTS = 5.0
"""Two normalised scores closer than this count as equal. Our decision, before any run."""

LEAST_SEEDS = 3
"""Of fewer no interval is believed, and nothing is decided."""
TOO_FEW = f"fewer than {LEAST_SEEDS} seeds decide nothing"

DIRECTIONS = (">", "<", ">=", "~", "=")
"""How a claim compares its two sides: ``~``, ``=`` within a margin, ``>=`` no more than it below."""


class CellOutcome(StrEnum):
    """What can be said about one cell."""

    REPLICATED = "replicated"
    CONSISTENT = "consistent"  # Undecided: the interval crosses the margin.
    HIGHER = "higher"
    LOWER = "lower"
    NOT_COMPARABLE = "not comparable"
    NOT_RUN = "not run"


class ClaimOutcome(StrEnum):
    """What can be said about one claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    NOT_OBSERVED = "not observed"  # What the claim is about did not occur in our runs.
    NOT_RUN = "not run"


@dataclass(frozen=True)
class CellVerdict:
    """A verdict on one cell; ``difference`` is ours minus published, None if not run."""

    verdict: CellOutcome
    difference: Interval | None
    margin: float
    reason: str


@dataclass(frozen=True)
class ClaimVerdict:
    """A verdict on one claim; ``difference`` is lhs minus rhs, None if not run.

    ``seeds_needed`` is about how many seeds per side would decide an undecided claim; None for
    any other outcome and where no number of seeds can be given.
    """

    verdict: ClaimOutcome
    difference: Interval | None
    seeds_needed: int | None
    reason: str


def cell_verdict(
    ours: ArrayLike | None,
    published: float,
    published_std: float | None,
    *,
    comparable: bool = True,
    profile: str,
    seed: int = 0,
) -> CellVerdict:
    """Judge our scores of one cell against the printed value, both in normalised points.

    The margin is 5 points or the published spread, whichever is larger. The interval of ours minus
    published lies within it: replicated; wholly above or below: higher or lower; else consistent.

    Args:
        ours: final scores ``[seeds]``; None or empty if there are none yet.
        published: the printed value.
        published_std: the printed spread; None or NaN where none is printed.
        comparable: False if the environment, the data or the amounts differ from the paper's.
        profile: the profile that made ``ours``.
        seed: of the bootstrap.

    Raises:
        UserError: an unknown profile, or a number that is not finite.
    """
    check_profile(profile)
    spread = 0.0 if published_std is None or math.isnan(published_std) else published_std
    if not (math.isfinite(published) and 0 <= spread < math.inf):
        raise UserError(f"no cell prints {published!r} with the spread {published_std!r}.")
    margin = float(max(MARGIN_POINTS, spread))
    missing = _why_not_run(profile, ours=ours)
    if missing:
        return CellVerdict(CellOutcome.NOT_RUN, None, margin, missing)

    difference = bootstrap_interval(as_seeds(ours, "ours"), seed=seed).shifted(-published)
    if not comparable:
        outcome, why = CellOutcome.NOT_COMPARABLE, "data or amounts differ from the paper's"
    elif difference.n_seeds < LEAST_SEEDS:
        outcome, why = CellOutcome.CONSISTENT, TOO_FEW
    elif -margin <= difference.low and difference.high <= margin:
        outcome, why = CellOutcome.REPLICATED, f"within the margin of {_number(margin)}"
    elif difference.low > margin:
        outcome, why = CellOutcome.HIGHER, f"above the margin of {_number(margin)}"
    elif difference.high < -margin:
        outcome, why = CellOutcome.LOWER, f"below the margin of {_number(-margin)}"
    else:
        outcome, why = CellOutcome.CONSISTENT, f"undecided at the margin of {_number(margin)}"
    return CellVerdict(outcome, difference, margin, f"{_shown(difference, len(ours))}; {why}")


def claim_verdict(
    lhs: ArrayLike | None,
    rhs: ArrayLike | None,
    direction: str,
    *,
    profile: str,
    paired: bool = False,
    equal_margin: float | tuple[float, float] = MARGIN_POINTS,
    seed: int = 0,
) -> ClaimVerdict:
    """Judge the claim ``lhs direction rhs`` by the interval of the difference of the means.

    An order is supported if the interval lies on the claimed side of zero, contradicted if on the
    other. Equality is supported if the interval lies within the margin, contradicted if outside;
    ``>=`` likewise, with a margin below alone.

    Args:
        lhs, rhs: our results ``[seeds]``, larger meaning more of what is claimed; None if not run.
        direction: one of ``DIRECTIONS``.
        profile: the profile that made them.
        paired: entry ``i`` of both sides comes from the same seed.
        equal_margin: for ``~``, ``=`` and ``>=``, the difference that still counts as equal; or two, how
            far below and how far above.
        seed: of the bootstrap.

    Raises:
        UserError: an unknown direction or profile, or scores that are not finite.
    """
    check_profile(profile)
    if direction not in DIRECTIONS:
        raise unknown("direction", direction, DIRECTIONS)
    below, above = equal_margin if isinstance(equal_margin, tuple) else (equal_margin,) * 2
    if not (0 <= below < math.inf and 0 <= above < math.inf):
        raise UserError(f"equal_margin must be a number >= 0, or two; got {equal_margin!r}.")
    missing = _why_not_run(profile, lhs=lhs, rhs=rhs)
    if missing:
        return ClaimVerdict(ClaimOutcome.NOT_RUN, None, None, missing)

    lhs, rhs = as_seeds(lhs, "lhs"), as_seeds(rhs, "rhs")
    difference = difference_interval(lhs, rhs, paired=paired, seed=seed)
    shown = _shown(difference, len(lhs), len(rhs))
    if difference.n_seeds < LEAST_SEEDS:
        return ClaimVerdict(ClaimOutcome.UNDECIDED, difference, None, f"{shown}; {TOO_FEW}")
    if direction in ("~", "=", ">="):
        edges = -below, math.inf if direction == ">=" else above
        outcome, why = _judge_within(difference, *edges)
        to_edge = min(abs(difference.estimate - edge) for edge in edges)
    else:
        outcome, why = _judge_order(difference, direction)
        to_edge = difference.estimate
    if outcome is not ClaimOutcome.UNDECIDED:
        return ClaimVerdict(outcome, difference, None, f"{shown}; {why}, the claim is {direction}")
    needed = _seeds_needed(lhs, rhs, to_edge, paired)
    why = "no number of seeds can be named"
    why = why if needed is None else f"about {needed} seeds each would decide it"
    return ClaimVerdict(outcome, difference, needed, f"{shown}; {why}")


RULES = ("some", "most", "nearly all", "all")


def over_tasks(each: Mapping[str, ClaimVerdict], rule: str, missing: int = 0) -> ClaimVerdict:
    """One verdict on a claim about several tasks, from the verdict on each.

    ``all`` is contradicted by one task and ``some`` supported by one; for ``most`` more than half of the
    tasks must agree, for ``nearly all`` nine in ten. A claim is *supported* by the tasks that were run; it
    is *contradicted* only where no outcome of those that were not could save it, since what holds on some
    of nine tasks need not hold on the one that was run. The intervals are not widened for their number:
    where one of many decides, chance alone decides more often than once in twenty, and the reason says so.

    Args:
        each: task -> its verdict.
        rule: one of ``RULES``.
        missing: tasks of the claim that are not in ``each``, beside those there that were not run.

    Raises:
        UserError: an unknown rule.
    """
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    outcomes = {name: verdict.verdict for name, verdict in each.items()}
    yes, no = (
        [name for name, found in outcomes.items() if found is wanted]
        for wanted in (ClaimOutcome.SUPPORTED, ClaimOutcome.CONTRADICTED)
    )
    run = [name for name, found in outcomes.items() if found is not ClaimOutcome.NOT_RUN]
    if not run:
        why = next((verdict.reason for verdict in each.values()), "none of its tasks was run")
        return ClaimVerdict(ClaimOutcome.NOT_RUN, None, None, why)
    every = len(each) + missing

    def needed(tasks: int) -> int:
        enough = {"some": 1, "most": tasks // 2 + 1, "nearly all": math.ceil(0.9 * tasks)}
        return enough.get(rule, tasks)

    if len(yes) >= needed(len(run)):
        outcome = ClaimOutcome.SUPPORTED
    elif every - len(no) < needed(every):
        outcome = ClaimOutcome.CONTRADICTED
    else:
        outcome = ClaimOutcome.UNDECIDED
    shown = "; ".join(f"{name}: {each[name].reason}" for name in run)
    several = "comparisons" if len(run) > 1 else "comparison"
    counted = f"{rule} of {len(run)} {several}: {len(yes)} supported, {len(no)} contradicted"
    if len(run) < every:
        counted += f", {every - len(run)} not run"
    one = {"some": yes, "all": no}.get(rule, [])
    if len(run) > 1 and len(one) == 1:
        counted += f" (one of {len(run)} intervals of 95 % decides, none widened for their number)"
    return ClaimVerdict(outcome, None, None, f"{counted}. {shown}")


def dependence_verdict(
    scores: ArrayLike,
    *,
    profile: str,
    margin: float = MARGIN_POINTS,
    level: float = 0.95,
    permutations: int = 10_000,
    seed: int = 0,
) -> ClaimVerdict:
    """Judge the claim that scores depend notably on a setting, by the spread of the settings' means.

    The spread is the best mean minus the worst. Of settings that are all alike it is above zero, too: the
    claim is supported if it is above the margin, and settings shuffled within each seed reach it in less than
    ``1 - level`` of all cases. It is never contradicted: not to find a difference does not show that there is
    none.

    Args:
        scores: ``[settings, seeds]``, larger meaning better; the seeds' scores are paired.
        profile: the profile that made them.
        margin: what a notable spread is above.
        level: of the permutation test.
        permutations: how many are drawn.
        seed: of the drawing.

    Raises:
        UserError: an unknown profile, fewer than two settings, or scores that are not finite.
    """
    check_profile(profile)
    if missing := _why_not_run(profile, scores=scores):
        return ClaimVerdict(ClaimOutcome.NOT_RUN, None, None, missing)
    table = np.array([as_seeds(row, "scores of a setting") for row in scores])
    if len(table) < 2:
        raise UserError("a dependence needs at least two settings; got one.")

    def spread(*settings: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.ptp(np.mean(settings, axis=axis if axis < 0 else axis + 1), axis=0)

    found, share = spread(*table), 1.0  # of one seed every shuffle has the same spread
    if table.shape[1] > 1:
        share = scipy.stats.permutation_test(
            table,
            spread,
            permutation_type="samples",
            alternative="greater",
            n_resamples=permutations,
            rng=np.random.default_rng(seed),
        ).pvalue
    supported = found > margin and share < 1 - level
    why = (
        f"best and worst mean of {len(table)} settings over {table.shape[1]} seeds are {_number(found)} "
        f"apart (margin {_number(margin)}); {share:.0%} of all shuffles within seeds reach that"
    )
    outcome = ClaimOutcome.SUPPORTED if supported else ClaimOutcome.UNDECIDED
    return ClaimVerdict(outcome, None, None, why)


def _judge_order(difference: Interval, direction: str) -> tuple[ClaimOutcome, str]:
    above, below = ClaimOutcome.SUPPORTED, ClaimOutcome.CONTRADICTED
    if direction == "<":
        above, below = below, above
    if difference.low > 0:
        return above, "above zero"
    if difference.high < 0:
        return below, "below zero"
    return ClaimOutcome.UNDECIDED, ""


def _judge_within(difference: Interval, low: float, high: float) -> tuple[ClaimOutcome, str]:
    margin = _number(high) if -low == high else f"{_number(low)} to {_number(high)}"
    margin = _number(low) if high == math.inf else margin
    if low <= difference.low and difference.high <= high:
        return ClaimOutcome.SUPPORTED, f"within the margin of {margin}"
    if difference.low > high or difference.high < low:
        return ClaimOutcome.CONTRADICTED, f"outside the margin of {margin}"
    return ClaimOutcome.UNDECIDED, ""


def _seeds_needed(lhs: np.ndarray, rhs: np.ndarray, distance: float, paired: bool) -> int | None:
    """Seeds per side for an interval of the difference that does not reach ``distance``."""
    n = min(len(lhs), len(rhs))
    sds = (np.std(lhs - rhs, ddof=1), 0.0) if paired else (lhs.std(ddof=1), rhs.std(ddof=1))
    needed = seeds_to_decide(distance, *map(float, sds))
    # The normal approximation may promise a decision with the seeds that have not decided it.
    return None if needed is None else max(needed, n + 1)


def _why_not_run(profile: str, **sides: ArrayLike | None) -> str:
    """Why there is nothing to judge; empty if there is."""
    if profile == "smoke":
        return "smoke results never enter a verdict"
    missing = [name for name, scores in sides.items() if scores is None or len(scores) == 0]
    return f"no results for {' and '.join(missing)}" if missing else ""


def _shown(difference: Interval, *n_seeds: int) -> str:
    """``difference -36.0 [-36.4, -35.2] over 5 and 5 seeds``."""
    text = f"difference {_number(difference.estimate)}"
    if difference.n_seeds == 1:
        text += ", without an interval since one seed shows no spread,"
    else:
        text += f" [{_number(difference.low)}, {_number(difference.high)}]"
    seeds = "seed" if max(n_seeds) == 1 else "seeds"
    return f"{text} over {' and '.join(map(str, n_seeds))} {seeds}"


def _number(value: float) -> str:
    """One decimal, or two digits for what would otherwise look like zero."""
    return f"{value:.1f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"
