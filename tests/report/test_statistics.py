import math
import statistics as stdlib

import numpy as np
import pandas as pd
import pytest

from o2okit.errors import UserError
from o2okit.report.statistics import (
    Interval,
    bootstrap_interval,
    difference_interval,
    improvement_interval,
    iqm,
    mean,
    median,
    performance_profile,
    probability_of_improvement,
    seeds_to_decide,
)

RAGGED = [[1.0, 2.0, 6.0], [10.0], [4.0, 8.0]]
LOPSIDED = np.array([[0.0, 1.0, 5.0, 2.0], [10.0, 30.0, 20.0, 80.0], [7.0, 7.0, 7.0, 9.0]])


# --- statistics of scores ---
def test_mean_weighs_tasks_the_same():
    assert mean(RAGGED) == pytest.approx((3 + 10 + 6) / 3)
    assert mean(LOPSIDED) == pytest.approx((2 + 35 + 7.5) / 3)
    assert mean([1, 2, 6]) == 3


def test_median_is_over_tasks_unless_there_is_one():
    assert median(RAGGED) == 6
    assert median(LOPSIDED) == 7.5
    assert median(LOPSIDED.T) == pytest.approx(35 / 3)  # Means 17/3, 38/3, 32/3, 91/3.
    assert median([1, 2, 60]) == 2


def test_iqm_check_values():
    assert iqm(np.arange(1, 13)) == 6.5
    assert iqm(np.arange(1, 13).reshape(3, 4)) == 6.5
    assert iqm([1, 2, 3, 1000]) == 2.5
    assert iqm([-1000, 0, 3, 1000, 5, 6, 7, 1e9]) == pytest.approx((3 + 5 + 6 + 7) / 4)
    assert iqm([[1, 2, 3], [4, 5, 6, 7, 8]]) == 4.5  # Over all eight scores, not per task.


@pytest.mark.parametrize(
    "scores",
    [
        (1.0, 2.0, 6.0),
        np.array([1, 2, 6], dtype=np.float32),
        pd.Series([1, 2, 6], index=[5, 6, 7]),
        pd.DataFrame([[1, 2, 6]], columns=[100, 200, 300]),
        [np.array(1.0), np.array(2.0), np.array(6.0)],
    ],
)
def test_kinds_of_input(scores):
    assert mean(scores) == 3


def test_performance_profile_counts_strictly_above_and_weighs_tasks_the_same():
    profile = performance_profile([[1, 2, 3, 4], [3, 3]], [0, 2, 3, 4])
    np.testing.assert_allclose(profile, [1, (0.5 + 1) / 2, 0.25 / 2, 0])
    assert np.all(np.diff(performance_profile(LOPSIDED, np.linspace(-1, 90, 50))) <= 0)


def wins(x, y):
    return sum((a > b) + 0.5 * (a == b) for a in x for b in y) / (len(x) * len(y))


def test_probability_of_improvement_by_brute_force():
    rng = np.random.default_rng(3)
    x = [rng.integers(0, 6, n) for n in (3, 5, 2)]
    y = [rng.integers(1, 6, n) for n in (4, 2, 2)]
    expected = sum(wins(a, b) for a, b in zip(x, y, strict=True)) / 3
    assert expected < 0.45  # Far from 1/2, so that swapped sides would show.
    assert probability_of_improvement(x, y) == pytest.approx(expected)
    assert probability_of_improvement(y, x) == pytest.approx(1 - expected)
    assert probability_of_improvement([2, 3], [0, 1]) == 1
    assert probability_of_improvement([1, 1], [1]) == 0.5


# --- bootstrap intervals ---
@pytest.mark.parametrize("scores", [LOPSIDED, RAGGED[::2], LOPSIDED[1]])
def test_bootstrap_agrees_with_a_plain_loop(scores):
    """The same index draws, one resample and one seed at a time, with the standard library."""
    tasks = [scores] if np.ndim(scores[0]) == 0 else scores
    rng = np.random.default_rng(7)
    draws = [rng.integers(0, len(task), size=(200, len(task))) for task in tasks]
    means = []
    for resample in range(200):
        of_tasks = []
        for task, index in zip(tasks, draws, strict=True):
            of_tasks.append(stdlib.fmean([task[i] for i in index[resample]]))
        means.append(stdlib.fmean(of_tasks))
    means.sort()
    # The k-th of 200 sorted values lies at the quantile (k - 1) / 199.
    low = means[19] + 0.9 * (means[20] - means[19])
    high = means[179] + 0.1 * (means[180] - means[179])
    interval = bootstrap_interval(scores, level=0.8, resamples=200, seed=7)
    assert interval.estimate == pytest.approx(mean(scores))
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert (interval.n_seeds, interval.level) == (min(map(len, tasks)), 0.8)


@pytest.mark.parametrize("statistic", [mean, median, iqm])
@pytest.mark.parametrize("scores", [LOPSIDED, RAGGED[::2], LOPSIDED[1]])
def test_batched_statistics_agree_with_the_loop_over_resamples(statistic, scores):
    batched = bootstrap_interval(scores, statistic, resamples=100)
    looped = bootstrap_interval(scores, lambda tasks: statistic(tasks), resamples=100)
    assert (batched.low, batched.high) == pytest.approx((looped.low, looped.high))


def test_resampling_is_stratified():
    """Tasks differ, seeds of a task do not: resampling within tasks leaves no spread."""
    interval = bootstrap_interval([[0, 0, 0], [100, 100, 100]])
    assert (interval.low, interval.estimate, interval.high) == (50, 50, 50)


def test_tasks_with_the_same_runs_are_drawn_together():
    scores = np.random.default_rng(0).normal(size=5)
    alone = bootstrap_interval([scores])
    assert bootstrap_interval([scores] * 4, strata=[7, 7, 7, 7]) == alone
    apart = bootstrap_interval([scores] * 4)
    assert apart.high - apart.low < 0.6 * (alone.high - alone.low)
    mixed = bootstrap_interval([scores, scores, scores + 1], strata=[0, 0, 1])
    assert apart.high - apart.low < mixed.high - mixed.low < alone.high - alone.low


@pytest.mark.parametrize(
    "interval",
    [
        lambda seed: bootstrap_interval(LOPSIDED, seed=seed),
        lambda seed: difference_interval(LOPSIDED[0], LOPSIDED[1], seed=seed),
        lambda seed: improvement_interval(LOPSIDED, LOPSIDED[::-1], seed=seed),
    ],
)
def test_seed_is_honoured(interval):
    assert interval(5) == interval(5) == interval(np.random.default_rng(5))
    assert len({interval(seed) for seed in range(8)}) > 1
    rng = np.random.default_rng(5)
    assert len({interval(rng) for _ in range(8)}) > 1  # A generator moves on.
    np.random.seed(0)  # noqa: NPY002
    before = interval(5)
    np.random.seed(1)  # noqa: NPY002
    assert interval(5) == before


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.exponential(2.0, size=(400, 40))
    hits = 0
    for index, sample in enumerate(samples):
        interval = bootstrap_interval(sample, level=0.9, resamples=400, seed=index)
        hits += interval.low <= 2.0 <= interval.high
    assert 0.84 <= hits / 400 <= 0.94


def test_interval_has_the_width_of_theory():
    sample = np.random.default_rng(1).normal(size=200)
    interval = bootstrap_interval(sample, level=0.95, resamples=4000)
    expected = 2 * 1.959964 * sample.std() / math.sqrt(200)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.05)
    narrow = bootstrap_interval(sample, level=0.5, resamples=4000)
    expected = 2 * 0.674490 * sample.std() / math.sqrt(200)
    assert narrow.high - narrow.low == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize(
    "interval",
    [
        bootstrap_interval([3.0]),
        bootstrap_interval([[1.0, 2.0, 3.0], [4.0]]),
        difference_interval([1, 2], [3]),
        difference_interval([1], [3], paired=True),
        improvement_interval([1, 2], [3]),
    ],
)
def test_one_seed_has_no_interval(interval):
    assert (interval.low, interval.high, interval.n_seeds) == (-math.inf, math.inf, 1)
    assert math.isfinite(interval.estimate)


def test_shifted():
    interval = Interval(1.0, 0.0, 3.0, 5, 0.95).shifted(-2.0)
    assert interval == Interval(-1.0, -2.0, 1.0, 5, 0.95)


def test_difference_has_the_sign_of_x_minus_y():
    interval = difference_interval([11, 12, 13], [1, 2, 3, 4])
    assert interval.estimate == 9.5
    assert 7 <= interval.low < 9.5 < interval.high <= 12
    assert interval.n_seeds == 3
    assert difference_interval([1, 2, 60], [0, 0, 0], median).estimate == 2


def test_pairing_removes_the_spread_that_both_sides_share():
    y = np.array([0.0, 50.0, 100.0, 20.0])
    x = y + 3
    paired = difference_interval(x, y, paired=True)
    assert (paired.low, paired.estimate, paired.high) == pytest.approx((3, 3, 3))
    unpaired = difference_interval(x, y)
    assert unpaired.low < -20
    assert unpaired.high > 20


def test_unpaired_sides_are_drawn_independently():
    """If both sides took the same draws, equal samples would differ by exactly nothing."""
    x = np.arange(30.0)
    interval = difference_interval(x, x, resamples=4000)
    expected = 2 * 1.959964 * x.std() * math.sqrt(2 / 30)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.06)


def test_improvement_interval_agrees_with_a_plain_loop():
    x, y = [[5.0, 1.0, 3.0], [2.0, 2.0]], [[2.0, 4.0], [1.0, 2.0, 3.0]]
    rng = np.random.default_rng(2)
    samples = np.zeros(100)
    for a, b in zip(x, y, strict=True):
        rows = rng.integers(0, len(a), size=(100, len(a)))
        columns = rng.integers(0, len(b), size=(100, len(b)))
        for k in range(100):
            samples[k] += wins([a[i] for i in rows[k]], [b[j] for j in columns[k]]) / 2
    interval = improvement_interval(x, y, resamples=100, seed=2)
    assert interval.estimate == pytest.approx(probability_of_improvement(x, y))
    assert (interval.low, interval.high) == pytest.approx(
        tuple(np.quantile(samples, [0.025, 0.975]))
    )
    assert interval.n_seeds == 2


# --- seeds to decide ---
def test_seeds_to_decide_is_the_smallest_that_does():
    z = 1.959963984540054
    for d, sx, sy in [(1.0, 3.0, 4.0), (-0.5, 2.0, 0.0), (10.0, 12.0, 5.0)]:
        n = seeds_to_decide(d, sx, sy)
        assert z * math.sqrt((sx**2 + sy**2) / n) < abs(d)
        assert z * math.sqrt((sx**2 + sy**2) / (n - 1)) >= abs(d)
    assert seeds_to_decide(1.0, 3.0, 4.0) == 97  # 1.96^2 * 25 = 96.04
    assert seeds_to_decide(1.0, 3.0, 4.0, level=0.5) == 12  # 0.6745^2 * 25 = 11.4


def test_seeds_to_decide_at_its_ends():
    assert seeds_to_decide(100.0, 0.1, 0.1) == 2
    assert seeds_to_decide(1.0, 0.0, 0.0) == 2
    assert seeds_to_decide(0.0, 1.0, 1.0) is None
    assert seeds_to_decide(1e-300, 1.0, 1.0) is None


# --- refusals ---
@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([], "empty"),
        ([[1.0], []], "task 1 is empty"),
        (np.zeros((2, 0)), "task 0 is empty"),
        ([1.0, math.nan], "NaN or infinity"),
        ([[1.0], [math.inf]], "task 1 holds NaN"),
        (np.zeros((2, 2, 2)), r"one axis \(seeds\), got the shape \(2, 2\)"),
        (3.0, r"must be \[tasks, seeds\]"),
        (np.array(3.0), r"must be \[tasks, seeds\]"),
        ({"a": 1}, r"must be \[tasks, seeds\]"),
        ("scores", "must be numbers"),
        ([1.0, [2.0]], "one axis"),
    ],
)
def test_bad_scores_are_refused(scores, words):
    for function in (mean, median, iqm, bootstrap_interval):
        with pytest.raises(UserError, match=words):
            function(scores)


@pytest.mark.parametrize(
    "call",
    [
        lambda: bootstrap_interval([1, 2], level=0),
        lambda: bootstrap_interval([1, 2], level=1),
        lambda: bootstrap_interval([1, 2], level=95),
        lambda: bootstrap_interval([1, 2], level=math.nan),
        lambda: bootstrap_interval([1, 2], resamples=0),
        lambda: bootstrap_interval([1, 2], resamples=10.5),
        lambda: bootstrap_interval([1, 2], seed=None),
        lambda: bootstrap_interval([1, 2], seed=-1),
        lambda: difference_interval([1, 2], [1, 2, 3], paired=True),
        lambda: difference_interval([[1, 2]], [1, 2]),
        lambda: difference_interval([1, 2], []),
        lambda: probability_of_improvement([[1], [2]], [1]),
        lambda: performance_profile([1, 2], [math.nan]),
        lambda: performance_profile([1, 2], 1.0),
        lambda: seeds_to_decide(math.nan, 1, 1),
        lambda: seeds_to_decide(1, -1, 1),
        lambda: seeds_to_decide(1, 1, 1, level=2),
    ],
)
def test_bad_options_are_refused(call):
    with pytest.raises(UserError):
        call()


def test_agrees_with_rliable():
    metrics = pytest.importorskip("rliable.metrics", exc_type=ImportError)
    runs_by_tasks = LOPSIDED.T
    assert mean(LOPSIDED) == pytest.approx(metrics.aggregate_mean(runs_by_tasks))
    assert median(LOPSIDED) == pytest.approx(metrics.aggregate_median(runs_by_tasks))
    assert iqm(LOPSIDED) == pytest.approx(metrics.aggregate_iqm(runs_by_tasks))
    x, y = LOPSIDED, LOPSIDED[::-1]
    ours, theirs = probability_of_improvement(x, y), metrics.probability_of_improvement(x.T, y.T)
    assert ours == pytest.approx(theirs)
