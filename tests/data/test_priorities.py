import numpy as np
import pytest
import torch

from o2okit.data import Batch, Dataset, Replay
from o2okit.data.priorities import BLOCK, Priorities
from o2okit.errors import UserError
from o2okit.tasks import task

MAZE = task("toy-maze")
LAST = 1 - 2**-53  # the largest number below 1


def rows(priorities: Priorities) -> torch.Tensor:
    """The place of each row, run by run ``[R, rows]``: the dataset's and, behind it, their own."""
    local = torch.arange(priorities.values.shape[1]).expand(len(priorities.values), -1)
    return torch.where(local < priorities.offline, local, local + priorities._shift)


def filled(values, offline: int) -> Priorities:
    """With these priorities ``[R, rows]``."""
    values = torch.as_tensor(values, dtype=torch.float32)
    made = Priorities(len(values), offline, values.shape[1] - offline)
    made.set(rows(made)[:, : values.shape[1]], values)
    return made


def counts(priorities: Priorities, places: torch.Tensor, size: int) -> torch.Tensor:
    """How often each row was drawn ``[R, size]``."""
    own = rows(priorities)[:, :size]
    return torch.stack(
        [(drawn == row[:, None]).sum(1) for drawn, row in zip(places, own, strict=True)]
    )


def replay(kind="mixed", runs=2, offline=5, capacity=3) -> Replay:
    cells = np.arange(offline)
    columns = (cells, cells % 4, cells * 1.0, cells + 1, cells < 0, cells < 0)
    data = None if kind == "online" else Dataset("toy-maze", "test", "kit", *columns)
    return Replay(kind, MAZE, data, runs=runs, capacity=capacity)


def transition(step: int, runs: int = 2) -> Batch:
    mark = torch.arange(runs) * 100 + step
    return Batch(mark, mark % 4, mark.float(), mark + 1, torch.zeros(runs))


# --- draws ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("u", [0.001, 0.5, 0.999])
def test_each_part_of_the_sum_meets_its_row(u):
    """Whole priorities and as many draws as they sum to: each row is drawn as often as its priority says."""
    rng = torch.Generator().manual_seed(0)
    values = torch.randint(0, 4, (2, 5 * BLOCK + 17), generator=rng).float()
    values[1] = values[0].flip(0)
    made = filled(values, offline=3 * BLOCK - 5)
    places, share = made.draw(torch.full((2, int(values[0].sum())), u, dtype=torch.float64))
    assert (counts(made, places, values.shape[1]) == values).all()
    drawn = values.gather(1, (places - made._shift * (places >= made.offline)))
    assert torch.allclose(share, drawn.double() / values.sum(1, dtype=torch.float64)[:, None])


def test_rows_are_drawn_as_often_as_their_probabilities_say():
    rng = np.random.default_rng(0)
    values = rng.random((2, 300)) ** 4
    made, batch, batches = filled(values, offline=100), 64, 4_000
    places = torch.cat(
        [made.draw(torch.from_numpy(rng.random((2, batch))))[0] for _ in range(batches)], dim=1
    )
    drawn = counts(made, places, 300).numpy() / (batch * batches)
    expected = values / values.sum(1, keepdims=True)
    # Independent draws would spread by this; draws from parts of the sum spread less.
    spread = np.sqrt(expected * (1 - expected) / (batch * batches))
    assert (np.abs(drawn - expected) < 5 * spread + 1e-9).all()


@pytest.mark.parametrize("u", [0.0, LAST])
def test_a_row_without_priority_is_never_drawn_however_sums_are_rounded(u):
    rng = np.random.default_rng(1)
    for trial in range(40):
        values = 10 ** rng.uniform(-6, 4, (1, 4 * BLOCK)) * (rng.random((1, 4 * BLOCK)) < 0.1)
        values[:, : BLOCK * (trial % 3)] = 0
        values[:, -BLOCK:] = 0
        made = filled(values, offline=BLOCK)
        places, share = made.draw(torch.full((1, 333), u, dtype=torch.float64))
        assert (share > 0).all()
        assert (made.values[0, places[0]] > 0).all()


def test_a_run_draws_the_same_bits_alone_and_among_others():
    rng = np.random.default_rng(2)
    values = rng.random((3, 1_000))
    among = filled(values, offline=700)
    alone = filled(values[1:2], offline=700)
    own = 300  # rows of a run's own: a lone run's lie right behind the dataset
    for step in range(20):
        u = torch.from_numpy(rng.random((3, 100)))
        places, share = among.draw(u)
        mine, my_share = alone.draw(u[1:2])
        assert (torch.where(mine < 700, mine, mine + own) == places[1:2]).all()
        assert (my_share == share[1:2]).all()
        new = torch.from_numpy(rng.random((3, 100)))
        among.set(places, new)
        alone.set(mine, new[1:2])
        assert (among.sums[1] == alone.sums[0]).all(), step


# --- changes --------------------------------------------------------------------------------------
def test_sums_follow_every_change():
    rng = np.random.default_rng(3)
    plain = rng.random((2, 700)).astype(np.float32)
    made = filled(plain, offline=400)
    for _ in range(30):
        local = np.stack([rng.choice(700, 50, replace=False) for _ in range(2)])
        new = rng.random((2, 50)).astype(np.float32)
        np.put_along_axis(plain, local, new, 1)
        made.set(rows(made).gather(1, torch.from_numpy(local)), torch.from_numpy(new))
    assert (made.values[:, :700].numpy() == plain).all()
    padded = np.zeros((2, made.values.shape[1]))
    padded[:, :700] = plain
    assert made.sums.numpy() == pytest.approx(padded.reshape(2, -1, BLOCK).sum(-1), rel=1e-13)


def test_a_row_twice_takes_the_largest_and_what_is_not_finite_changes_nothing():
    made = filled(torch.ones(2, 10), offline=10)
    places = torch.tensor([[3, 3, 7], [3, 7, 7]])
    made.set(places, torch.tensor([[0.2, 0.5, torch.nan], [torch.inf, 4.0, 5.0]]))
    assert made.values[0, [3, 7]].tolist() == [0.5, 1.0]
    assert made.values[1, [3, 7]].tolist() == [1.0, 5.0]
    assert made.sums[:, 0].tolist() == [9.5, 14.0]


# --- with a replay --------------------------------------------------------------------------------
def test_new_rows_get_their_priority_and_take_that_of_what_they_overwrite():
    held = replay()
    made = held.prioritise()
    assert made.values[:, :8].tolist() == [[1] * 5 + [0] * 3] * 2
    for step in range(5):  # the fourth and the fifth overwrite the first and the second
        made.fresh.copy_(torch.tensor([step + 2.0, 10.0 * (step + 2)]))
        held.add(transition(step))
    assert made.values[0, 5:8].tolist() == [5, 6, 4]
    assert made.values[1, 5:8].tolist() == [50, 60, 40]
    assert made.sums[:, 0].tolist() == [20, 155]
    places, _ = made.draw(torch.full((2, 155), 0.5, dtype=torch.float64))
    marks = held.take(places).obs
    assert sorted(set(marks[0].tolist())) == [0, 1, 2, 3, 4]  # dataset and own look alike here
    assert [(marks[1] == 100 + step).sum().item() for step in (2, 3, 4)] == [40, 50, 60]
    share = made.online_share(places)
    assert share.tolist() == pytest.approx([15 / 20, 150 / 155], abs=0.01)


def test_priorities_are_restored_with_the_replay_in_any_order_of_runs():
    first, rng = replay(runs=3), np.random.default_rng(4)
    made = first.prioritise()
    for step in range(5):
        made.fresh.copy_(torch.tensor([1.0, 2.0, 3.0]) * (step + 1))
        first.add(transition(step, 3))
        places, _ = made.draw(torch.from_numpy(rng.random((3, 4))))
        made.set(places, torch.from_numpy(rng.random((3, 4))))
    state = {key: value[[2, 0]].clone() for key, value in first.state().items()}
    second = replay(runs=2)
    again = second.prioritise()
    second.load_state(state)
    assert (again.values == made.values[[2, 0]]).all()
    assert (again.sums == made.sums[[2, 0]]).all()
    first.add(transition(5, 3))
    second.add(Batch(*(value[[2, 0]] for value in transition(5, 3)[:5])))
    u = torch.from_numpy(rng.random((3, 50)))
    ours, theirs = second.take(again.draw(u[[2, 0]])[0]), first.take(made.draw(u)[0])
    assert (ours.obs == theirs.obs[[2, 0]]).all()
    assert (again.fresh == made.fresh[[2, 0]]).all()


def test_a_replay_of_own_rows_alone_has_priorities_too():
    held = replay("online")
    made = held.prioritise()
    for step in range(2):
        held.add(transition(step))
    places, share = made.draw(torch.full((2, 4), 0.5, dtype=torch.float64))
    assert held.take(places).obs.tolist() == [[0, 0, 1, 1], [100, 100, 101, 101]]
    assert (share == 0.5).all()
    assert made.online_share(places).tolist() == [1, 1]


def test_halves_have_no_common_priorities():
    with pytest.raises(UserError, match="Allowed: mixed, online"):
        replay("half").prioritise()


def test_a_replay_without_priorities_saves_none():
    assert set(replay().state()) == {"rows", "next"}
