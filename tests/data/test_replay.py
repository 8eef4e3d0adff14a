import numpy as np
import pytest
import torch

from o2okit.data import Batch, Replay
from o2okit.data.maze import scripted
from o2okit.data.returns import n_step
from o2okit.errors import UserError
from o2okit.tasks import task

RUNS, MAZE = 3, task("toy-maze")


def transition(step: int) -> Batch:
    """Marked so that a row tells its run and its step."""
    mark = torch.arange(RUNS) * 1000 + step
    return Batch(mark, mark % 4, mark.float(), mark + 1, (mark % 2).float())


def everything(length: int) -> torch.Tensor:
    """Draws that meet each of ``length`` rows once per run."""
    return ((torch.arange(length, dtype=torch.float64) + 0.5) / length).expand(RUNS, length)


def test_online_rows_belong_to_their_run():
    replay = Replay("online", MAZE, None, runs=RUNS, capacity=10)
    for step in range(4):
        replay.add(transition(step))
    batch = replay.sample(everything(4))
    expected = torch.arange(RUNS)[:, None] * 1000 + torch.arange(4)
    assert (batch.obs == expected).all()
    assert (batch.next_obs == expected + 1).all()
    assert (batch.reward == expected).all()
    assert (batch.action == expected % 4).all()
    assert (batch.terminated == expected % 2).all()


def test_the_oldest_rows_are_overwritten():
    replay = Replay("online", MAZE, None, runs=RUNS, capacity=3)
    for step in range(5):
        replay.add(transition(step))
    assert len(replay) == 3
    assert sorted(replay.sample(everything(3)).obs[1].tolist()) == [1002, 1003, 1004]


def test_mixed_draws_uniformly_from_the_union():
    data = scripted(transitions=8)
    replay = Replay("mixed", MAZE, data, runs=RUNS, capacity=5)
    for step in range(2):
        replay.add(transition(step))
    batch = replay.sample(everything(10))
    for run in range(RUNS):
        offline, online = batch.obs[run, :8].tolist(), batch.obs[run, 8:].tolist()
        assert offline == data.observations.tolist()
        assert online == [run * 1000, run * 1000 + 1]
    assert (batch.terminated[:, :8].numpy() == data.terminals).all()


def test_offline_ignores_what_is_added_and_a_timeout_is_no_termination():
    data = scripted(transitions=400)
    replay = Replay("offline", MAZE, data, runs=RUNS, capacity=0)
    batch = replay.sample(everything(400))
    assert (batch.obs[0].numpy() == data.observations).all()
    assert data.timeouts.any()
    assert (batch.terminated[0].numpy()[data.timeouts] == 0).all()


def test_uniform_draws_reach_the_first_and_the_last_row():
    replay = Replay("offline", MAZE, scripted(transitions=1_000), runs=1, capacity=0)
    edge = torch.tensor([[0.0, np.nextafter(1.0, 0.0)]])
    rows = scripted(transitions=1_000).observations[[0, 999]]
    assert replay.sample(edge).obs[0].tolist() == rows.tolist()


def test_state_restores_every_row_and_the_place_to_write():
    first = Replay("online", MAZE, None, runs=RUNS, capacity=4)
    for step in range(6):
        first.add(transition(step))
    second = Replay("online", MAZE, None, runs=RUNS, capacity=4)
    second.load_state({key: value.clone() for key, value in first.state().items()})
    for replay in (first, second):
        replay.add(transition(6))
    for a, b in zip(first.sample(everything(4))[:5], second.sample(everything(4)), strict=False):
        assert (a == b).all()


def test_a_missing_dataset_and_an_unknown_kind_are_refused():
    with pytest.raises(UserError, match="draws from a dataset"):
        Replay("mixed", MAZE, None, runs=1, capacity=1)
    with pytest.raises(UserError, match="Allowed: offline, online, mixed, half"):
        Replay("mixd", MAZE, None, runs=1, capacity=1)


def test_offline_never_draws_what_was_added():
    data = scripted(transitions=8)
    replay = Replay("offline", MAZE, data, runs=RUNS, capacity=8)
    for step in range(8):
        replay.add(transition(step))
    assert (replay.sample(everything(8)).obs[1].numpy() == data.observations).all()


def test_half_draws_one_half_of_the_batch_from_each():
    data = scripted(transitions=8)
    replay = Replay("half", MAZE, data, runs=RUNS, capacity=5)
    for step in range(4):
        replay.add(transition(step))
    draws = torch.cat([everything(8), everything(8)], dim=1)
    batch = replay.sample(draws)
    for run in range(RUNS):
        assert batch.obs[run, :8].tolist() == data.observations.tolist()
        expected = [run * 1000 + step for step in range(4) for _ in range(2)]
        assert batch.obs[run, 8:].tolist() == expected


# --- n-step sums ----------------------------------------------------------------------------------
def stepped(replay: Replay, rewards, terminals, timeouts) -> None:
    """A row per reward, the same for every run; the next observation of row i is 10 (i + 1)."""
    for i, reward in enumerate(rewards):
        mark = torch.full((RUNS,), i)
        row = Batch(
            mark, mark * 0, mark * 0.0 + reward, 10 * (mark + 1), mark * 0.0 + (i in terminals)
        )
        replay.add(row, torch.full((RUNS,), i in terminals or i in timeouts))


def test_n_step_sums_are_the_specs():
    """specs/gde.md 6: value of the next observation = the observation itself (10, ..., 70)."""
    discount = torch.full((RUNS,), 0.99)
    replay = Replay("online", MAZE, None, runs=RUNS, capacity=7, n_step=3, discount=discount)
    stepped(replay, [0, 0, 0, 0, 1, 0, 0], {4}, {6})
    batch = replay.sample(everything(7))
    bootstrap = 0.99**batch.steps * (1 - batch.terminated)
    target = (batch.reward + bootstrap * batch.next_obs)[0]
    expected = [29.108970, 38.811960, 0.980100, 0.99, 1, 68.607, 69.3]
    assert target.tolist() == pytest.approx(expected, abs=1e-5)
    assert batch.steps[0].tolist() == [3, 3, 3, 2, 1, 2, 1]
    factors = [0.970299, 0.970299, 0, 0, 0, 0.9801, 0.99]
    assert bootstrap[1].tolist() == pytest.approx(factors, abs=1e-6)
    assert batch.obs[2].tolist() == list(range(7)), "what is seen and done is the first step's"


@pytest.mark.parametrize("n", [2, 3, 5])
def test_n_step_sums_of_the_dataset_are_those_of_the_array(n):
    data = scripted(transitions=300)
    discount = torch.tensor([0.9, 0.99, 1.0])
    replay = Replay("offline", MAZE, data, runs=RUNS, capacity=0, n_step=n, discount=discount)
    batch = replay.sample(everything(300))
    for run in range(RUNS):
        found = n_step(data.rewards, data.terminals, data.timeouts, n, discount[run].item())
        assert batch.reward[run].numpy() == pytest.approx(found.reward, abs=1e-5)
        assert (batch.steps[run].numpy() == found.steps).all()
        assert (batch.next_obs[run].numpy() == data.next_observations[found.last]).all()
        terminated = data.terminals[found.last]
        assert (batch.terminated[run].numpy() == terminated).all()


def test_an_n_step_sum_never_goes_on_into_what_was_overwritten():
    discount = torch.full((RUNS,), 0.5)
    replay = Replay("online", MAZE, None, runs=RUNS, capacity=4, n_step=3, discount=discount)
    stepped(replay, [1, 2, 4, 8, 16, 32], set(), set())  # the ring holds 4, 5, 2, 3
    batch = replay.sample(everything(4))
    assert batch.obs[0].tolist() == [4, 5, 2, 3]
    assert batch.steps[0].tolist() == [2, 1, 3, 3]
    assert batch.reward[0].tolist() == [16 + 16, 32, 4 + 4 + 4, 8 + 8 + 8]
    again = Replay("online", MAZE, None, runs=RUNS, capacity=4, n_step=3, discount=discount)
    again.load_state({key: value.clone() for key, value in replay.state().items()})
    assert (again.sample(everything(4)).reward == batch.reward).all()
