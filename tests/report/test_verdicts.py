import math

import numpy as np
import pytest

from o2okit.errors import UserError
from o2okit.profiles import PROFILES
from o2okit.report.statistics import difference_interval, seeds_to_decide
from o2okit.report.verdicts import (
    DIRECTIONS,
    MARGIN_POINTS,
    CellOutcome,
    ClaimOutcome,
    cell_verdict,
    claim_verdict,
    dependence_verdict,
)

# Scores without spread give an interval of no width, so that the rule alone decides.
FLAT = np.zeros(5)


def cell(ours, published=50.0, std=None, **options):
    return cell_verdict(ours, published, std, **{"profile": "laptop", **options})


def claim(lhs, rhs, direction, **options):
    return claim_verdict(lhs, rhs, direction, **{"profile": "laptop", **options})


def test_outcomes_are_the_agreed_words():
    assert [str(outcome) for outcome in CellOutcome] == [
        "replicated",
        "consistent",
        "higher",
        "lower",
        "not comparable",
        "not run",
    ]
    assert list(ClaimOutcome) == [
        "supported",
        "contradicted",
        "undecided",
        "not observed",
        "not run",
    ]
    assert MARGIN_POINTS == 5.0


# --- cells ---
@pytest.mark.parametrize(
    ("difference", "std", "verdict"),
    [
        (0.0, None, "replicated"),
        (5.0, None, "replicated"),
        (-5.0, None, "replicated"),
        (5.1, None, "higher"),
        (-5.1, None, "lower"),
        (5.1, 2.0, "higher"),  # A small spread does not narrow the margin,
        (8.0, 8.0, "replicated"),  # a large one widens it.
        (8.1, 8.0, "higher"),
        (-8.1, 8.0, "lower"),
        (5.1, math.nan, "higher"),  # As in a data frame where no spread is printed.
    ],
)
def test_cell_without_spread(difference, std, verdict):
    result = cell(FLAT + 50 + difference, 50.0, std)
    assert result.verdict == verdict
    assert result.difference.estimate == pytest.approx(difference)


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ([47, 49, 51, 53], "replicated"),
        ([40, 50, 60, 70], "consistent"),
        ([53, 55, 57, 58], "consistent"),  # Above the published value, not above the margin.
        ([60, 62, 63, 65], "higher"),
        ([35, 37, 38, 40], "lower"),
        ([41, 46, 53, 58], "consistent"),
    ],
)
def test_cell_with_spread(ours, verdict):
    result = cell(ours)
    assert result.verdict == verdict
    assert result.difference.estimate == pytest.approx(np.mean(ours) - 50)
    # Mirrored about the published value, higher and lower change places.
    mirror = {"higher": "lower", "lower": "higher"}
    assert cell(100 - np.array(ours)).verdict == mirror.get(verdict, verdict)


def test_margin_is_reported():
    assert cell(FLAT).margin == 5.0
    assert cell(FLAT, std=3.0).margin == 5.0
    assert cell(FLAT, std=7.5).margin == 7.5
    assert cell(None, std=7.5).margin == 7.5


@pytest.mark.parametrize("ours", [[50.0], [500.0], [-500.0]])
def test_one_or_two_seeds_decide_no_cell(ours):
    result = cell(ours)
    assert result.verdict is CellOutcome.CONSISTENT
    assert (result.difference.low, result.difference.high) == (-math.inf, math.inf)
    assert "one seed shows no spread" in result.reason
    two = cell(ours * 2)
    assert (two.verdict, two.difference.low) == ("consistent", two.difference.high)
    assert "fewer than 3 seeds decide nothing" in two.reason


@pytest.mark.parametrize(("seeds", "wrong"), [(2, 0.5), (3, 0.25), (5, 1 / 7)])
def test_intervals_of_sides_that_do_not_differ_leave_zero_out_as_often_as_the_module_says(
    seeds, wrong
):
    sides = np.random.default_rng(0).normal(size=(400, 2, seeds))
    found = [difference_interval(*pair, paired=True) for pair in sides]
    assert np.mean([x.low > 0 or x.high < 0 for x in found]) == pytest.approx(wrong, abs=0.06)
    verdicts = [claim(*pair, ">", paired=True).verdict for pair in sides]
    decided = np.mean([verdict != "undecided" for verdict in verdicts])
    assert decided == (0 if seeds < 3 else pytest.approx(wrong, abs=0.06))


@pytest.mark.parametrize("ours", [None, [], np.array([])])
def test_cell_not_run(ours):
    for comparable in (True, False):
        result = cell(ours, comparable=comparable)
        assert (result.verdict, result.difference) == ("not run", None)


def test_smoke_never_enters_a_verdict():
    results = [cell(FLAT + 50, profile="smoke"), claim(FLAT + 1, FLAT, ">", profile="smoke")]
    for result in results:
        assert (result.verdict, result.difference) == ("not run", None)
        assert result.reason == "smoke results never enter a verdict"
    for profile in set(PROFILES) - {"smoke"}:
        assert cell(FLAT + 50, profile=profile).verdict == "replicated"


def test_not_comparable_still_carries_the_difference():
    result = cell(FLAT + 80, comparable=False)
    assert result.verdict == "not comparable"
    assert result.difference.estimate == 30
    assert "data or amounts differ" in result.reason


def test_cell_reason_holds_the_numbers():
    assert cell(FLAT + 14).reason == (
        "difference -36.0 [-36.0, -36.0] over 5 seeds; below the margin of -5.0"
    )


# --- claims ---
@pytest.mark.parametrize(
    ("direction", "above", "equal", "below"),
    [
        (">", "supported", "undecided", "contradicted"),
        (">=", "supported", "supported", "contradicted"),  # 9 are more than the margin
        ("<", "contradicted", "undecided", "supported"),
        ("~", "contradicted", "supported", "contradicted"),
        ("=", "contradicted", "supported", "contradicted"),
    ],
)
def test_claim_without_spread(direction, above, equal, below):
    assert claim(FLAT + 9, FLAT, direction).verdict == above
    assert claim(FLAT, FLAT, direction).verdict == equal
    assert claim(FLAT - 9, FLAT, direction).verdict == below


@pytest.mark.parametrize("direction", ["~", "="])
def test_equality_has_a_margin(direction):
    assert claim(FLAT + 5, FLAT, direction).verdict == "supported"
    assert claim(FLAT - 5, FLAT, direction).verdict == "supported"
    assert claim(FLAT - 5.1, FLAT, direction).verdict == "contradicted"
    assert claim(FLAT + 2, FLAT, direction, equal_margin=1.0).verdict == "contradicted"
    assert claim(np.array([0, 4, 8, 12]), FLAT, direction).verdict == "undecided"
    uneven = {"equal_margin": (5.0, 10.0)}
    assert claim(FLAT + 9, FLAT, direction, **uneven).verdict == "supported"
    assert claim(FLAT - 9, FLAT, direction, **uneven).verdict == "contradicted"


def test_as_high_as_another_allows_for_the_margin_below():
    noise = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    assert claim(FLAT + noise, FLAT, ">=").verdict == "supported"
    assert claim(FLAT + noise + 50, FLAT, ">=").verdict == "supported"
    assert claim(FLAT + noise - 5, FLAT, ">=").verdict == "undecided"
    assert claim(FLAT + noise - 9, FLAT, ">=").verdict == "contradicted"


# --- a dependence ---
def test_a_dependence_is_more_than_the_spread_of_shuffled_settings():
    noise = np.random.default_rng(0).normal(scale=3.0, size=(9, 5))
    trend = noise + np.linspace(0, 20, 9)[:, None]
    seeds = np.array([0.0, 30.0, 60.0, 10.0, 90.0])  # which settings share
    for scores, verdict in [
        (trend, "supported"),
        (trend + seeds, "supported"),
        (noise, "undecided"),
        (noise + seeds, "undecided"),
        (trend / 10, "undecided"),  # decided, but not notable
        (trend[:, :1], "undecided"),  # of one seed every shuffle has the same spread
    ]:
        found = dependence_verdict(scores, profile="laptop")
        assert found.verdict == verdict, found.reason
    assert "9 settings over 1 seeds" in found.reason
    assert "100% of all shuffles" in found.reason
    assert dependence_verdict(trend, profile="smoke").verdict == "not run"
    with pytest.raises(UserError, match="at least two settings"):
        dependence_verdict(trend[:1], profile="laptop")


def test_settings_that_are_alike_are_seldom_called_different():
    rng = np.random.default_rng(1)
    found = [
        dependence_verdict(rng.normal(50, 20, (9, 3)), profile="laptop", permutations=400).verdict
        for _ in range(200)
    ]
    assert found.count("supported") <= 20  # a twentieth is expected: 10 ± 3


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_wide_or_few_seeds_decide_no_claim(direction):
    wide = claim([-100, 0, 30, 90], [-80, 10, 20, 40], direction)
    assert wide.verdict is ClaimOutcome.UNDECIDED
    assert wide.seeds_needed > 4
    two = [9.0, 9.1]
    for lhs, rhs in [([9.0], FLAT), (FLAT, [9.0]), ([9.0], [0.0]), (two, FLAT), (FLAT, two)]:
        few = claim(lhs, rhs, direction)
        assert (few.verdict, few.seeds_needed) == ("undecided", None)
        assert few.reason.endswith("; fewer than 3 seeds decide nothing")


def test_undecided_claim_says_how_many_seeds_would_decide_it():
    lhs, rhs = np.array([0.0, 6.0, 3.0, 12.0]), np.array([2.0, 1.0, 6.0, 7.0])
    result = claim(lhs, rhs, ">")
    # Difference 1.25, variances 26.25 and 26/3: 1.96^2 * 34.9167 / 1.25^2 = 85.8.
    assert (result.verdict, result.seeds_needed) == ("undecided", 86)
    assert result.reason.startswith("difference 1.2 [")
    assert result.reason.endswith("] over 4 and 4 seeds; about 86 seeds each would decide it")
    # Equality is decided at the edge of its margin: 5 - 1.25 away.
    assert claim(lhs, rhs, "~").seeds_needed == math.ceil(1.959964**2 * 34.91667 / 3.75**2)


def test_seeds_needed_are_more_than_there_are():
    """The normal approximation would promise a decision with the very seeds that gave none."""
    lhs = np.array([3.0, 3.0, 3.0, 3.0, -4.0, 3.0, 2.0, 1.0])
    assert seeds_to_decide(lhs.mean(), lhs.std(ddof=1), 0.0) == 8
    result = claim(lhs, np.zeros(8), ">")
    assert (result.verdict, result.seeds_needed) == ("undecided", 9)


def test_no_difference_names_no_number_of_seeds():
    result = claim([-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], ">")
    assert (result.verdict, result.seeds_needed) == ("undecided", None)
    assert "no number of seeds" in result.reason


def test_pairing_decides_what_independent_seeds_leave_open():
    rhs = np.array([0.0, 50.0, 100.0, 20.0])
    lhs = rhs + np.array([2.0, 3.0, 4.0, 3.0])
    assert claim(lhs, rhs, ">").verdict == "undecided"
    paired = claim(lhs, rhs, ">", paired=True)
    assert (paired.verdict, paired.seeds_needed) == ("supported", None)
    assert claim(lhs, rhs, "<", paired=True).verdict == "contradicted"


def test_claim_reason_holds_the_numbers():
    assert claim(FLAT - 36, FLAT[:3], "<").reason == (
        "difference -36.0 [-36.0, -36.0] over 5 and 3 seeds; below zero, the claim is <"
    )
    assert claim(FLAT + 0.004, FLAT, ">").reason.startswith("difference 0.004 [0.004, 0.004]")


@pytest.mark.parametrize(
    ("lhs", "rhs", "missing"),
    [(None, FLAT, "lhs"), (FLAT, [], "rhs"), (None, None, "lhs and rhs")],
)
def test_claim_not_run(lhs, rhs, missing):
    result = claim(lhs, rhs, ">")
    assert (result.verdict, result.difference, result.seeds_needed) == ("not run", None, None)
    assert result.reason == f"no results for {missing}"


def test_verdicts_are_reproducible():
    lhs, rhs = [0.0, 6.0, 3.0, 12.0], [2.0, 1.0, 6.0, 7.0]
    assert claim(lhs, rhs, ">") == claim(lhs, rhs, ">")
    assert len({claim(lhs, rhs, ">", seed=seed).difference for seed in range(5)}) > 1
    ours = np.random.default_rng(0).normal(size=9)
    assert len({cell(ours, 0.0, seed=seed).difference for seed in range(5)}) > 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: claim(FLAT, FLAT, "=>"), "unknown direction '=>'.*Allowed: >, <, >=, ~, ="),
        (lambda: claim(FLAT, FLAT, None), "unknown direction None"),
        (lambda: claim(FLAT, FLAT, ">", profile="papers"), "unknown profile 'papers'.*'paper'"),
        (lambda: cell(FLAT, profile="full"), "unknown profile 'full'"),
        (lambda: cell(None, profile="full"), "unknown profile 'full'"),
        (lambda: cell(FLAT, published=math.nan), "no cell prints nan"),
        (lambda: cell(FLAT, std=-1.0), "with the spread -1.0"),
        (lambda: cell([1.0, math.nan]), "ours holds NaN"),
        (lambda: cell([[1.0, 2.0], [3.0, 4.0]]), "ours must have one axis"),
        (lambda: claim([1.0, math.inf], FLAT, ">"), "lhs holds NaN or infinity"),
        (lambda: claim([1.0, 2.0], FLAT, ">", paired=True), "same seeds on both sides"),
        (lambda: claim(FLAT, FLAT, "~", equal_margin=-1.0), "equal_margin must be"),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(UserError, match=words):
        call()
