"""Balanced replay against specs/gde.md 3 and 6: loss, priorities, first share, the network it trains."""

import numpy as np
import pytest
import torch

from o2okit.backbones import BACKBONES
from o2okit.data import Batch, Dataset, Replay
from o2okit.errors import UserError
from o2okit.hyper import complete
from o2okit.methods import METHODS
from o2okit.methods.balanced_replay import BalancedReplay, balanced, density_ratio_loss
from o2okit.streams import Streams
from o2okit.tasks import task

TASK, SEEDS, B = task("hopper"), (3, 8), 64
SMALL = {"hidden": (16, 16), "critic_hidden": (16, 16), "batch_size": B}
T = torch.full((2,), 5.0)


def minibatch_of(method, replay, step=0):
    """The minibatch of a step."""
    method.draws = Streams(SEEDS, "online").at(step)
    return method.sample(replay)


def data(size=400, obs=None, action=None) -> Dataset:
    rng = np.random.default_rng(0)
    shape = (size, TASK.obs_size)
    obs = rng.normal(2.0, 3.0, shape).astype(np.float32) if obs is None else obs
    uniform = rng.uniform(-1, 1, (size, TASK.act_size)).astype(np.float32)
    no = np.zeros(size, bool)
    action = uniform if action is None else action
    return Dataset("hopper", "test", "kit", obs, action, np.ones(size), obs, no, no)


def make(dataset=None, backbone="iql", capacity=50, **hyper) -> tuple[BalancedReplay, Replay]:
    dataset = dataset or data()
    own = complete(BACKBONES[backbone].Hyperparameters, SMALL)
    agent = BACKBONES[backbone](TASK, [own] * 2, SEEDS)
    agent.fit(dataset)
    per_run = [{k: v[i] if isinstance(v, list) else v for k, v in hyper.items()} for i in range(2)]
    values = [complete(BalancedReplay.Hyperparameters, each) for each in per_run]
    method = BalancedReplay(agent, values, SEEDS)
    replay = Replay("mixed", TASK, dataset, runs=2, capacity=capacity)
    method.attach(replay)
    return method, replay


def new_row(replay: Replay, step: int, action=None) -> None:
    rng = torch.Generator().manual_seed(step)
    obs = torch.randn(2, TASK.obs_size, generator=rng)
    own = torch.rand(2, TASK.act_size, generator=rng) * 2 - 1
    replay.add(
        Batch(obs, own if action is None else action, torch.ones(2), obs, torch.zeros(2)),
        torch.zeros(2, dtype=torch.bool),
    )


def update(method: BalancedReplay, replay: Replay, step: int) -> dict[str, torch.Tensor]:
    batch = method.agent.prepare(minibatch_of(method, replay, step))
    return method.extra_updates(batch)


# --- the spec's values ----------------------------------------------------------------------------
def test_priorities_are_the_specs():
    weight = torch.tensor([[0.5, 1.0, 4.0, 0.0]] * 2)
    offline = torch.tensor([[0.2, 1.0, 0.3]] * 2)
    normaliser = (offline.log() / 5).exp().mean(1)
    assert normaliser.tolist() == pytest.approx([0.836928] * 2, abs=1e-6)
    expected = [1.040174, 1.194847, 1.576609, 0.001]
    for row in balanced(weight, offline, T).tolist():
        assert row == pytest.approx(expected, abs=1e-6)


def test_priorities_have_bounds_and_each_run_its_temperature():
    weight, offline = torch.tensor([[1e30, 1e-30]] * 2), torch.ones(2, 3)
    temperatures = torch.tensor([1.0, 10.0])
    priority = balanced(weight, offline, temperatures)
    assert priority.tolist() == [
        pytest.approx([1000, 0.001]),
        pytest.approx([1000, 0.001], rel=1e-4),
    ]
    milder = balanced(weight, offline, torch.tensor([1.0, 30.0]))
    assert milder[1].tolist() == pytest.approx([10, 0.1], rel=1e-4)
    assert balanced(torch.ones(2, 2), torch.zeros(2, 3), T).isfinite().all()


def test_the_loss_is_the_specs_and_a_weight_of_zero_has_a_finite_gradient():
    offline, online = torch.tensor([[0.5, 2.0]] * 2), torch.tensor([[1.5, 0.5]] * 2)
    loss = density_ratio_loss(offline, online)
    assert loss.tolist() == pytest.approx([0.170463] * 2, abs=1e-6)
    raw = torch.tensor([[-1.0, 0.0, 2.0]], requires_grad=True)
    density_ratio_loss(raw.relu(), raw.relu()).sum().backward()
    assert raw.grad.isfinite().all()


@pytest.mark.parametrize(("size", "f", "expected"), [(400, 0.5, 0.4), (400, 0.75, 1.2)])
def test_new_rows_start_where_a_thousand_of_them_have_their_share(size, f, expected):
    """M f / ((1 - f) 1000): for a million rows 1,000 at f = .5 and 3,000 at .75."""
    method, replay = make(first_share=[f, 0.5])
    fresh = method.priorities.fresh
    assert fresh.tolist() == pytest.approx([expected, 0.4])
    assert fresh.tolist()[0] * 1e6 / size == pytest.approx({0.5: 1_000, 0.75: 3_000}[f])
    assert (method.priorities.values[:, :size] == 1).all()
    new_row(replay, 0)
    assert method.priorities.values[:, size].tolist() == pytest.approx([expected, 0.4])


def test_after_a_thousand_steps_online_rows_have_their_share():
    method, replay = make(capacity=1_000, first_share=[0.5, 0.75])
    for step in range(1_000):
        new_row(replay, step)
    minibatch_of(method, replay)
    assert method.priorities.online_share(method.places).tolist() == [0.5, 0.75]


# --- the network ----------------------------------------------------------------------------------
def test_weights_start_near_one_and_are_never_negative():
    method, _ = make()
    assert (method.network.weights[-1] == 1).all()
    assert method.network.sizes == (TASK.obs_size + TASK.act_size, 256, 256, 1)
    obs, action = torch.randn(2, 500, TASK.obs_size), torch.rand(2, 500, TASK.act_size)
    weight = method.weight(Batch(obs, action, None, None, None))
    assert weight.mean(1).tolist() == pytest.approx([1, 1], abs=0.3)
    with torch.no_grad():
        method.network.weights[-1].fill_(-1)
    weight = method.weight(Batch(obs, action, None, None, None))
    assert (weight >= 0).all()
    assert (weight == 0).any()


def test_the_weight_becomes_the_ratio_of_the_densities():
    """Two actions, three to one in the dataset and one to three online: weights 1/3 and 3."""
    size, marks = 400, torch.tensor([-0.5, 0.5])
    actions = np.full((size, TASK.act_size), -0.5, np.float32)
    actions[::4] = 0.5
    obs = np.zeros((size, TASK.obs_size), np.float32)
    method, replay = make(data(size, obs, actions), hidden=(32,), lr=3e-3)
    for step in range(40):
        mark = marks[0] if step % 4 == 0 else marks[1]
        replay.add(
            Batch(
                torch.zeros(2, TASK.obs_size),
                mark.expand(2, TASK.act_size),
                *[torch.zeros(2)] * 1,
                torch.zeros(2, TASK.obs_size),
                torch.zeros(2),
            ),
            torch.zeros(2, dtype=torch.bool),
        )
    for step in range(400):
        metrics = update(method, replay, step)
    action = marks[None, :, None].expand(2, 2, TASK.act_size)
    weight = method.weight(Batch(torch.zeros(2, 2, TASK.obs_size), action, None, None, None))
    for run in weight.tolist():
        assert run == pytest.approx([1 / 3, 3], rel=0.25)
    # Priorities in the ratio of w^(1/5), and minibatches accordingly.
    values = method.priorities.values[:, :size]
    ratio = values[:, ::4].median(1)[0] / values[:, 1::4].median(1)[0]
    assert ratio.tolist() == pytest.approx([9**0.2] * 2, rel=0.15)
    assert (metrics["online_weight"] > metrics["offline_weight"]).all()


def test_one_update_is_plain_code():
    """Separate uniform minibatches, the agent's standardised observations, priorities before the step."""
    method, replay = make()
    for step in range(7):
        new_row(replay, step)
    draws, dataset = Streams(SEEDS, "online").at(5), data()
    network = method.network.copy()
    mean, std = dataset.observations.mean(0), dataset.observations.std(0) + 1e-3
    before = method.priorities.values.clone()
    batch = method.agent.prepare(minibatch_of(method, replay, 5))
    metrics = method.extra_updates(batch)

    def weight(run: int, rows) -> np.ndarray:
        stored = replay.rows[rows].numpy()
        obs = (stored[:, : TASK.obs_size] - mean) / std
        x = np.concatenate([obs, stored[:, TASK.obs_size :][:, : TASK.act_size]], 1)
        layers = [part[run].numpy() for part in network.weights]
        for number in range(0, len(layers), 2):
            x = np.maximum(x @ layers[number] + layers[number + 1], 0)
        return x[:, 0]

    u = draws.uniform("weight minibatches", 2, B)
    for run in range(2):
        offline = weight(run, (u[run, 0] * 400).long())
        online = weight(run, 400 + run * 50 + (u[run, 1] * 7).long())
        loss = -np.log(2 / (offline + 1)).mean() - np.log(2 * online / (online + 1)).mean()
        assert metrics["weight_loss"][run].item() == pytest.approx(loss, abs=1e-5)
        drawn = method.places[run]
        expected = weight(run, drawn) ** 0.2 / (offline**0.2).mean()
        local = drawn - 50 * run * (drawn >= 400)
        values = method.priorities.values[run]
        assert values[local].numpy() == pytest.approx(expected, rel=1e-3)
        rest = torch.ones_like(values, dtype=torch.bool).index_fill_(0, local, False)
        assert (values[rest] == before[run, rest]).all()
        assert metrics["online_share"][run].item() == (drawn >= 400).float().mean().item()
    assert (method.network.flat != network.flat).any()


def test_state_continues_exactly():
    first, replay = make()
    for step in range(4):
        new_row(replay, step)
        update(first, replay, step)
    second, restored = make()
    second.load_state({key: value.clone() for key, value in first.state().items()})
    restored.load_state({key: value.clone() for key, value in replay.state().items()})
    for step in range(4, 8):
        for method, held in ((first, replay), (second, restored)):
            new_row(held, step)
            update(method, held, step)
    assert (first.network.flat == second.network.flat).all()
    assert (first.priorities.values == second.priorities.values).all()
    assert (first.places == second.places).all()


def test_it_needs_a_dataset():
    method, _ = make()
    assert METHODS["balanced-replay"] is BalancedReplay
    with pytest.raises(UserError, match="it needs replay='mixed'; got 'online'"):
        method.attach(Replay("online", TASK, None, runs=2, capacity=5))
    with pytest.raises(UserError, match="Allowed: mixed, online"):
        method.attach(Replay("half", TASK, data(), runs=2, capacity=5))
