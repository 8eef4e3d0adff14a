import numpy as np
import pytest

from o2okit.data import Dataset
from o2okit.data.maze import (
    Part,
    checkpoint_parts,
    collect,
    epsilon_greedy,
    scripted,
    scripted_parts,
)
from o2okit.errors import UserError
from o2okit.tasks.maze import GEOMETRY, HORIZON


@pytest.fixture(scope="module")
def data() -> Dataset:
    return scripted()


def test_every_transition_is_one_of_the_maze(data):
    assert len(data) == 50_000
    assert (data.next_observations == GEOMETRY.successor[data.observations, data.actions]).all()
    assert (data.rewards == -1).all()
    assert (data.terminals == (GEOMETRY.outcome[data.next_observations] > 0)).all()
    assert not (data.terminals & data.timeouts).any()


def test_episodes_start_at_the_start_and_are_never_longer_than_the_limit(data):
    episodes = data.episodes()
    assert sum(e.stop - e.start for e in episodes) == len(data)
    for episode in episodes:
        assert data.observations[episode.start] == GEOMETRY.start
        assert episode.stop - episode.start <= HORIZON
        inside = slice(episode.start, episode.stop - 1)
        assert (
            data.next_observations[inside] == data.observations[episode.start + 1 : episode.stop]
        ).all()
        assert data.terminals[episode.stop - 1] or data.timeouts[episode.stop - 1]


def test_shares_are_half_noise_forty_five_right_five_left(data):
    parts = scripted_parts()
    assert [part.share for part in parts] == [0.5, 0.225, 0.225, 0.05]
    # The parts lie one after the other; where the policies lead tells them apart.
    outcome = GEOMETRY.outcome[data.next_observations]
    right, left = outcome[25_000:47_500], outcome[47_500:]
    assert (right == 2).sum() > 200
    assert (right == 1).sum() == 0
    assert (left == 1).sum() > 30
    assert (left == 2).sum() == 0
    uniform = np.bincount(data.actions[:25_000], minlength=4) / 25_000
    assert np.abs(uniform - 0.25).max() < 0.01


def test_epsilon_is_the_share_of_uniform_actions():
    policy = epsilon_greedy(np.array([[1.0, 0, 0, 0], [0.0, 0, 0, 0]]), 0.2)
    assert np.allclose(policy, [[0.85, 0.05, 0.05, 0.05], [0.25] * 4])


def test_equal_seeds_give_equal_data_and_other_seeds_do_not(data):
    assert scripted().hash == data.hash
    assert scripted(seed=1).hash != data.hash
    assert scripted(transitions=49_999).hash != data.hash


def test_a_quota_that_ends_in_an_episode_is_a_timeout():
    still = Part("still", 1.0, np.tile([0, 0, 1.0, 0], (GEOMETRY.n_cells, 1)))  # into the left wall
    data = collect([still], name="kit-x", transitions=450, seed=0, provenance={})
    assert np.flatnonzero(data.timeouts).tolist() == [199, 399, 449]
    assert not data.terminals.any()


def test_a_goal_at_the_end_of_a_quota_is_a_termination():
    left = Part("left", 1.0, GEOMETRY.optimal_actions(1))
    data = collect([left], name="kit-x", transitions=68, seed=0, provenance={})
    assert np.flatnonzero(data.terminals).tolist() == [33, 67]
    assert not data.timeouts.any()


def test_checkpoints_are_sorted_by_where_their_greedy_path_ends():
    def greedy(outcome):
        return GEOMETRY.optimal_actions(outcome).argmax(1)

    stuck = np.full(GEOMETRY.n_cells, 2)
    parts = checkpoint_parts([greedy(1), greedy(2), stuck])
    shares = {
        goal: sum(p.share for p in parts if p.label.startswith(goal))
        for goal in ("left goal", "right goal", "time-out")
    }
    assert shares == pytest.approx({"left goal": 0.05, "right goal": 0.45, "time-out": 0.5})
    # No checkpoint reaches R: its share goes to the noise, and no part pretends otherwise.
    parts = checkpoint_parts([greedy(1)])
    assert not [part for part in parts if part.label.startswith("right")]
    assert sum(part.share for part in parts) == pytest.approx(1)
    data = collect(parts, name="kit-x", transitions=1_000, seed=0, provenance={})
    assert data.provenance["parts"].keys() == {part.label for part in parts}


def test_fields_of_unequal_length_are_refused():
    with pytest.raises(UserError, match="same length"):
        Dataset("toy-maze", "x", "kit", *[np.zeros(3)] * 5, np.zeros(2))
