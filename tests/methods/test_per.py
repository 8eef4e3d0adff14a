"""PER against specs/gde.md 6 and Schaul et al. (2016): probabilities, weights, loss, new rows."""

import numpy as np
import pytest
import torch

from o2okit.backbones import BACKBONES
from o2okit.data import Batch, Dataset, Replay
from o2okit.errors import UserError
from o2okit.hyper import complete
from o2okit.methods import METHODS
from o2okit.methods.per import PER, importance_weights
from o2okit.streams import Streams
from o2okit.tasks import task
from o2okit.training import RunSpec

TASK, SEEDS, B, N = task("hopper"), (3, 8), 16, 40
SMALL = {"hidden": (16, 16), "critic_hidden": (16, 16), "batch_size": B}
ERRORS = torch.tensor([0.5, 2.0, 0.1])


def minibatch_of(method, replay, step=0):
    """The minibatch of a step."""
    method.draws = Streams(SEEDS, "online").at(step)
    return method.sample(replay)


def data() -> Dataset:
    rng = np.random.default_rng(0)
    obs, following = rng.standard_normal((2, N, TASK.obs_size)).astype(np.float32)
    action = rng.uniform(-1, 1, (N, TASK.act_size)).astype(np.float32)
    ends = np.arange(N) % 10 == 9
    return Dataset(
        "hopper", "test", "kit", obs, action, rng.standard_normal(N), following, ends, ends & False
    )


def make(capacity=20, **hyper) -> tuple[PER, Replay]:
    own = complete(BACKBONES["iql"].Hyperparameters, SMALL)
    agent = BACKBONES["iql"](TASK, [own] * 2, SEEDS)
    per_run = [{k: v[i] if isinstance(v, list) else v for k, v in hyper.items()} for i in range(2)]
    method = PER(agent, [complete(PER.Hyperparameters, values) for values in per_run], SEEDS)
    agent.method = method
    replay = Replay(
        "mixed",
        TASK,
        data(),
        runs=2,
        capacity=capacity,
        n_step=method.n_step,
        discount=agent.hyper.discount,
    )
    method.attach(replay)
    return method, replay


def new_row(replay: Replay, step: int) -> None:
    rng = torch.Generator().manual_seed(step)
    obs, following = torch.randn(2, 2, TASK.obs_size, generator=rng)
    action = torch.rand(2, TASK.act_size, generator=rng) * 2 - 1
    no = torch.zeros(2)
    replay.add(Batch(obs, action, torch.randn(2, generator=rng), following, no), no.bool())


def update(method: PER, replay: Replay, step: int) -> dict:
    draws = Streams(SEEDS, "online").at(step)
    batch = method.agent.prepare(minibatch_of(method, replay, step))
    return method.agent.update(batch, draws) | method.extra_updates(batch)


# --- probabilities and weights --------------------------------------------------------------------
def test_probabilities_and_weights_are_the_specs():
    method, replay = make()
    priority = method.priority(ERRORS.expand(2, -1))
    assert (priority / priority.sum(1, keepdim=True))[0].tolist() == pytest.approx(
        [0.271877, 0.624610, 0.103513], abs=1e-6
    )
    # All other rows at 0: what is drawn and with which probability is the replay's own sum.
    method.priorities.set(torch.arange(N).expand(2, -1), torch.zeros(2, N))
    method.priorities.set(torch.tensor([[4, 9, 17]] * 2), priority)
    method.step = 0
    minibatch_of(method, replay)
    expected = {4: 0.679592, 9: 0.487252, 17: 1.0}
    for run in range(2):
        drawn = dict(zip(method.places[run].tolist(), method.weight[run].tolist(), strict=True))
        assert drawn == pytest.approx({row: expected[row] for row in drawn}, abs=1e-6)
        assert set(drawn) == set(expected)


def test_a_run_has_its_own_exponents():
    method, _ = make(alpha=[0.6, 0.0], importance=[0.4, 1.0])
    priority = method.priority(ERRORS.expand(2, -1))
    assert priority[1].tolist() == [1, 1, 1]
    weight = importance_weights(torch.tensor([[0.2, 0.5, 0.3]] * 2).double(), method.beta())
    assert weight[0].tolist() == pytest.approx([1, (0.2 / 0.5) ** 0.4, (0.2 / 0.3) ** 0.4])
    assert weight[1].tolist() == pytest.approx([1, 0.4, 2 / 3])


def test_beta_rises_to_one_over_the_fine_tuning():
    method, _ = make(**PER.settings(TASK, 1_000))
    for method.step, expected in ((0, 0.4), (250, 0.55), (500, 0.7), (1_000, 1), (2_000, 1)):
        assert method.beta().tolist() == pytest.approx([expected] * 2)


def test_results_do_not_depend_on_the_company_for_any_batch_size():
    """``pow`` would fail here: it rounds the end of a tensor differently."""
    method, _ = make()
    rng = torch.Generator().manual_seed(0)
    error = torch.rand(2, 101, generator=rng) * 5
    both, weights = method.priority(error), importance_weights(error.double(), method.beta())
    for run in range(2):
        alone = slice(run, run + 1)
        method.hyper.alpha.fill_(0.6)
        exponent = (method.hyper.alpha[alone, None] * (error[alone] + 1e-6).log()).exp()
        assert (exponent[0] == both[run]).all()
        beta = method.beta()[alone]
        assert (importance_weights(error[alone].double(), beta)[0] == weights[run]).all()


# --- loss -----------------------------------------------------------------------------------------
def test_the_loss_is_weighted_and_the_error_the_mean_of_the_twins():
    method, _ = make()
    q = torch.tensor([[[1.0, 2.0], [3.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]]])  # [R, E, B]
    target = torch.tensor([[2.0, 1.0], [1.0, -1.0]])
    method.weight, method.error = torch.tensor([[1.0, 0.5], [0.25, 1.0]]), torch.zeros(2, 2)
    method.agent.q = lambda critic, obs, action: q
    batch = Batch(*[torch.zeros(2, 2)] * 5)
    loss, metrics = method.critic_loss(batch, target, None)
    # Run 0: δ = (-1, 1), (1, -1); run 1: (-1, 1), (0, 2).
    assert loss.tolist() == pytest.approx([(1 + 0.5 + 1 + 0.5) / 2, (0.25 + 1 + 0 + 4) / 2])
    assert method.error.tolist() == [[1, 1], [0.5, 1.5]]
    assert metrics["q"].tolist() == [1.5, 0.5]


def test_without_weights_the_loss_is_the_backbones():
    method, replay = make(importance=0.0)
    method.step = 0
    new_row(replay, 0)
    batch = method.agent.prepare(minibatch_of(method, replay))
    assert (method.weight == 1).all()
    target = method.agent.target(batch)
    own, own_metrics = method.agent.critic_loss(batch, target)
    loss, metrics = method.critic_loss(batch, target, None)
    assert (loss == own).all()
    assert all((metrics[key] == value).all() for key, value in own_metrics.items())
    gradients = [method.agent.critic_adam.gradient(each)[0] for each in (loss, own)]
    assert torch.allclose(*gradients, atol=1e-7)


# --- priorities -----------------------------------------------------------------------------------
def test_what_is_drawn_gets_its_new_priority_and_new_rows_the_largest_so_far():
    method, replay = make()
    largest = np.ones(2)
    for step in range(25):  # the ring of 20 rows comes round
        method.step = step
        new_row(replay, step)
        stored = method.priorities.values[:, N + step % 20].tolist()
        assert stored == pytest.approx(largest)
        before = method.priorities.values.clone()
        metrics = update(method, replay, step)
        fresh = method.priority(method.error)
        largest = np.maximum(largest, fresh.amax(1).numpy())
        shift = torch.tensor([[0], [20]]) * (method.places >= N)
        rows = method.places - shift
        touched = torch.zeros_like(before, dtype=torch.bool).scatter_(1, rows, True)
        assert (method.priorities.values == before)[~touched].all()
        assert torch.allclose(method.priorities.values.gather(1, rows), fresh, rtol=1e-4)
        assert (metrics["online_share"] == (method.places >= N).float().mean(1)).all()
    assert (largest > 1).all()
    assert method.priorities.fresh.tolist() == pytest.approx(largest)


def test_an_error_that_is_not_finite_is_forgotten():
    method, _ = make()
    method.places = torch.arange(B).expand(2, -1)
    method.weight.fill_(1)
    method.error.copy_(torch.full((2, B), 3.0))
    method.error[0, 0], method.error[1, 1] = torch.nan, torch.inf
    method.extra_updates(None)
    values = method.priorities.values[:, :B]
    assert values[0, 0] == values[1, 1] == 1
    assert values[0, 1].item() == pytest.approx(3**0.6, abs=1e-5)
    assert method.priorities.fresh.tolist() == pytest.approx([3**0.6] * 2, abs=1e-5)


def test_the_minibatch_has_five_step_sums():
    method, replay = make()
    new_row(replay, 0)
    batch = minibatch_of(method, replay)
    assert method.n_step == 5
    dataset = data()
    for run in range(2):
        for k, row in enumerate(method.places[run].tolist()):
            if row >= N:
                continue
            steps = min(5, 10 - row % 10)  # to the end of the episode at most
            expected = sum(0.99**i * dataset.rewards[row + i] for i in range(steps))
            assert batch.steps[run, k] == steps
            assert batch.reward[run, k].item() == pytest.approx(expected, abs=1e-5)


def test_per_is_iqls():
    assert METHODS["per"] is PER
    with pytest.raises(UserError, match=r"not defined for backbone 'cql'\. Allowed: iql"):
        RunSpec("hopper", "cql", "online", 10, 0, method="per", replay="mixed", dataset=data())
