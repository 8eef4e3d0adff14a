import numpy as np
import pytest
import torch

from o2okit.data import Batch, Replay
from o2okit.data.maze import scripted
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
