import dataclasses

import numpy as np
import pytest

from o2okit.data import Dataset
from o2okit.data.returns import (
    best_episodes,
    episode_returns,
    n_step,
    return_to_go,
    top_fraction,
)
from o2okit.errors import UserError


def flags(n, *at):
    return np.isin(np.arange(n), at)


def dataset(rewards, terminals=(), timeouts=()):
    rewards = np.asarray(rewards, dtype=np.float32)
    n = len(rewards)
    column = np.arange(n, dtype=np.float32)[:, None]
    ends = flags(n, *terminals), flags(n, *timeouts)
    return Dataset("hopper", "x", "kit", column, column, rewards, column + 1, *ends)


# --- return to go: values of specs/qcse.md 6 ------------------------------------------------------
@pytest.mark.parametrize(
    ("rewards", "failure", "expected"),
    [
        ([-5, -5, 5], -5, [-5.0495, -0.05, 5]),
        ([-5, -5, -5], -5, [-500, -500, -500]),
        ([1, 2, 3], None, [5.9203, 4.97, 3]),
    ],
)
def test_the_values_of_the_spec(rewards, failure, expected):
    ends = flags(3, 2), flags(3)
    for terminals, timeouts in (ends, ends[::-1], (flags(3), flags(3))):
        found = return_to_go(rewards, terminals, timeouts, 0.99, failure_reward=failure)
        assert found == pytest.approx(expected)


def test_episodes_end_at_terminals_timeouts_and_the_last_row():
    found = return_to_go(np.ones(9), flags(9, 1), flags(9, 2, 6), 0.5)
    assert found.tolist() == [1.5, 1, 1, 1.875, 1.75, 1.5, 1, 1.5, 1]


def test_only_an_episode_without_any_success_fails_for_ever():
    rewards = np.array([-1, -1, -1, 0, -1, -1.0])
    found = return_to_go(rewards, flags(6, 3), flags(6, 1, 5), 0.9, failure_reward=-1)
    assert found == pytest.approx([-10, -10, -1, 0, -10, -10])


@pytest.mark.parametrize("failure", [None, -1.0])
def test_random_episodes_agree_with_the_plain_recursion(failure):
    draw = np.random.default_rng(0)
    n = 500
    rewards = draw.choice([-1.0, -1.0, -1.0, 2.5], n)
    terminals, timeouts = draw.random(n) < 0.1, draw.random(n) < 0.1
    expected, value, start = np.empty(n), 0.0, 0
    for i in reversed(range(n)):
        if terminals[i] or timeouts[i] or i == n - 1:
            value = 0.0
        expected[i] = value = rewards[i] + 0.9 * value
    if failure is not None:
        for i in range(n):
            if terminals[i] or timeouts[i] or i == n - 1:
                if (rewards[start : i + 1] == failure).all():
                    expected[start : i + 1] = failure / (1 - 0.9)
                start = i + 1
    found = return_to_go(rewards, terminals, timeouts, 0.9, failure_reward=failure)
    assert found == pytest.approx(expected, rel=1e-6)


def test_failing_for_ever_has_no_return_at_discount_one():
    with pytest.raises(UserError, match="below 1"):
        return_to_go([0.0], flags(1), flags(1), 1, failure_reward=0)
    assert return_to_go([1.0, 1.0], flags(2), flags(2), 1).tolist() == [2, 1]


# --- n steps: values of specs/gde.md 6 ------------------------------------------------------------
VALUES = np.arange(10.0, 80, 10)


def target(found):
    return found.reward + found.bootstrap * VALUES[found.last]


def test_the_table_of_the_spec():
    found = n_step([0, 0, 0, 0, 1, 0, 0], flags(7, 4), flags(7, 6), 3, 0.99)
    assert target(found) == pytest.approx(
        [29.108970, 38.811960, 0.980100, 0.990000, 1, 68.607000, 69.300000]
    )
    assert found.steps.tolist() == [3, 3, 3, 2, 1, 2, 1]
    assert found.bootstrap == pytest.approx([0.970299, 0.970299, 0, 0, 0, 0.980100, 0.99])
    found = n_step([-1, -1, -1, -1, 0, -1, -1], flags(7, 4), flags(7, 6), 3, 0.99)
    assert target(found)[[0, 2, 5, 6]] == pytest.approx([26.138870, -1.99, 66.617, 68.3])


def test_the_flags_given_are_left_as_they_are():
    terminals, timeouts = flags(3), flags(3)
    n_step([0, 0, 0], terminals, timeouts, 2, 0.9)
    assert not terminals.any()
    assert not timeouts.any()


def test_one_step_is_the_row_itself():
    found = n_step([3, 4], flags(2, 1), flags(2), 1, 0.9)
    assert found.reward.tolist() == [3, 4]
    assert found.last.tolist() == [0, 1]
    assert found.bootstrap == pytest.approx([0.9, 0])


@pytest.mark.parametrize("n", [1, 2, 5, 100])
def test_random_episodes_agree_with_a_plain_loop(n):
    draw = np.random.default_rng(n)
    size = 200
    rewards = draw.normal(size=size)
    terminals, timeouts = draw.random(size) < 0.1, draw.random(size) < 0.1
    found = n_step(rewards, terminals, timeouts, n, 0.9)
    for i in range(size):
        total, row = 0.0, i
        for k in range(n):
            row = i + k
            total += 0.9**k * rewards[row]
            if terminals[row] or timeouts[row] or row == size - 1:
                break
        assert found.last[i] == row
        assert found.reward[i] == pytest.approx(total, rel=1e-5)
        factor = 0.0 if terminals[row] else 0.9 ** (row - i + 1)
        assert found.bootstrap[i] == pytest.approx(factor, rel=1e-5)


@pytest.mark.parametrize(
    ("n", "discount", "said"), [(0, 0.9, "at least 1; got 0"), (1, 1.1, "got 1.1")]
)
def test_senseless_arguments_are_refused(n, discount, said):
    with pytest.raises(UserError, match=said):
        n_step([1.0], flags(1), flags(1), n, discount)


# --- the best episodes ----------------------------------------------------------------------------
def five():
    """Returns 2, 9, 5, 9, 1 of lengths 2, 3, 1, 2, 2."""
    return dataset([1, 1, 3, 3, 3, 5, 9, 0, 1, 0], terminals=[1, 5], timeouts=[4, 7])


def test_returns_of_episodes():
    assert episode_returns(five()).tolist() == [2, 9, 5, 9, 1]


@pytest.mark.parametrize(
    ("fraction", "rows"),
    [
        (0.1, [2, 3, 4]),  # whole episodes only
        (0.3, [2, 3, 4]),  # reached exactly
        (0.31, [2, 3, 4, 6, 7]),
        (0.6, [2, 3, 4, 5, 6, 7]),
        (1.0, list(range(10))),
    ],
)
def test_top_fraction_takes_whole_episodes_until_it_is_reached(fraction, rows):
    assert top_fraction(five(), fraction).tolist() == rows


@pytest.mark.parametrize(("k", "rows"), [(1, [2, 3, 4]), (2, [2, 3, 4, 6, 7]), (9, range(10))])
def test_best_episodes(k, rows):
    assert best_episodes(five(), k).tolist() == list(rows)


def test_a_selection_is_a_dataset_of_whole_episodes_that_says_what_it_is():
    data = five()
    chosen = data.select(best_episodes(data, 2), "best-2")
    assert episode_returns(chosen).tolist() == [9, 9]
    assert chosen.name == "x/best-2"
    assert chosen.provenance == {"selected": "best-2", "selected_from": data.hash}
    assert chosen.hash != data.hash
    assert data.select(np.arange(10), "all").hash == data.hash


def test_padding_is_left_out_only_where_it_is_zero():
    draw = np.random.default_rng(0)
    seen, following = (np.pad(draw.normal(size=(9, 2)), ((0, 0), (0, 3))) for _ in range(2))
    data = dataclasses.replace(dataset(np.ones(9)), observations=seen, next_observations=following)
    narrow = data.without_padding(3)
    assert (narrow.observations == seen[:, :2]).all()
    assert (narrow.next_observations == following[:, :2]).all()
    assert narrow.name == "x/2"
    assert narrow.provenance == {"without_padding": 3, "padded": data.hash}
    assert narrow.observations.base is None, "the wide array can be freed"
    for place in (seen, following):
        place[4, 3] = 1e-9
        with pytest.raises(UserError, match=r"its last 3 observations are not all 0.*all 5"):
            data.without_padding(3)
        place[4, 3] = 0


@pytest.mark.parametrize("fraction", [0, 1.5, -1])
def test_a_fraction_that_is_none_is_refused(fraction):
    with pytest.raises(UserError, match=r"in \(0, 1\]"):
        top_fraction(five(), fraction)


def test_no_episodes_is_refused():
    with pytest.raises(UserError, match="at least 1; got 0"):
        best_episodes(five(), 0)
