import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from o2okit import hyper
from o2okit.backbones import BACKBONES, DQN, DiscreteCQL
from o2okit.backbones.dqn import huber
from o2okit.data import Batch
from o2okit.errors import UserError
from o2okit.streams import Streams
from o2okit.tasks import task

NO_DRAWS = Streams((), "offline").at(0)  # their updates need no random numbers
DISCRETE = [name for name, backbone in BACKBONES.items() if backbone.discrete]

MAZE = task("toy-maze")


def make(cls, seeds=(0, 1), **values):
    """A cohort; a list gives each run its own value."""
    runs = [
        {key: value[r] if isinstance(value, list) else value for key, value in values.items()}
        for r in range(len(seeds))
    ]
    return cls(MAZE, [hyper.complete(cls.Hyperparameters, run) for run in runs], seeds)


def batch(runs=2, size=16, seed=0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    return Batch(
        torch.randint(0, 291, (runs, size), generator=rng),
        torch.randint(0, 4, (runs, size), generator=rng),
        torch.randn(runs, size, generator=rng),
        torch.randint(0, 291, (runs, size), generator=rng),
        torch.randint(0, 2, (runs, size), generator=rng).float(),
    )


# --- losses -------------------------------------------------------------------------------------
def test_huber_agrees_with_pytorch_in_value_and_gradient():
    error = torch.tensor([[-30.0, -1.0, -0.4, 0.0, 0.9, 1.0, 1.1, 2.0, 50.0]])
    for delta in (0.5, 1.0, 2.0, 1e6):
        ours = error.clone().requires_grad_()
        theirs = error.clone().requires_grad_()
        value = huber(ours, torch.tensor([delta]))
        wanted = F.huber_loss(theirs, torch.zeros_like(theirs), reduction="none", delta=delta)
        torch.testing.assert_close(value, wanted)
        (gradient,) = torch.autograd.grad(value.sum(), ours)
        torch.testing.assert_close(gradient, torch.autograd.grad(wanted.sum(), theirs)[0])


def test_infinite_delta_is_the_squared_loss_in_value_and_gradient():
    error = torch.tensor([[-30.0, 0.4, 50.0], [-30.0, 0.4, 50.0]], requires_grad=True)
    value = huber(error, torch.tensor([math.inf, 1.0]))  # one setting per run
    torch.testing.assert_close(value[0], 0.5 * error[0].square())
    (gradient,) = torch.autograd.grad(value.sum(), error)
    assert gradient[0].tolist() == pytest.approx([-30, 0.4, 50])
    assert gradient[1].tolist() == pytest.approx([-1, 0.4, 1])


def test_target_bootstraps_from_the_target_network_unless_terminated():
    agent, b = make(DQN, discount=[0.9, 0.5]), batch()
    agent.update(b, NO_DRAWS)  # q moves, the target network stays
    y = agent.target(b)
    for run, discount in enumerate((0.9, 0.5)):
        for i in range(16):
            state = b.next_obs[run, i]
            best = agent.target_q(state.expand(2, 1))[run, 0].max()
            wanted = b.reward[run, i] + discount * (1 - b.terminated[run, i]) * best
            assert y[run, i].item() == pytest.approx(wanted.item(), abs=1e-6)
    assert not y.requires_grad


def test_dqn_loss_is_the_mean_huber_loss_of_the_taken_actions():
    agent, b = make(DQN), batch()
    agent.update(b, NO_DRAWS)
    loss, metrics = agent.critic_loss(b)
    q = agent.q(b.obs)
    for run in range(2):
        taken = q[run][torch.arange(16), b.action[run]]
        wanted = F.huber_loss(taken, agent.target(b)[run])
        assert loss[run].item() == pytest.approx(wanted.item(), rel=1e-6)
        assert metrics["q"][run].item() == pytest.approx(taken.mean().item(), rel=1e-5)


def test_cql_penalty_by_hand():
    # Q = (1, 2, 0): logsumexp = 2.407606; minus Q(a=0) = 1 gives 1.407606, minus Q(a=1) gives .407606.
    agent = make(DiscreteCQL, alpha=[3.0, 0.5])
    q = torch.tensor([1.0, 2.0, 0.0]).expand(2, 2, 3).clone().requires_grad_()
    taken = q.gather(-1, torch.tensor([[0, 1], [1, 1]])[..., None])[..., 0]
    penalty, metrics = agent.penalty(q, taken)
    assert metrics["cql_gap"].tolist() == pytest.approx([0.907606, 0.407606], abs=1e-6)
    assert penalty.tolist() == pytest.approx([3 * 0.907606, 0.5 * 0.407606], abs=1e-5)
    # Its gradient pushes by softmax(Q) - onehot(a): down on all, up on the data's action.
    (gradient,) = torch.autograd.grad(penalty.sum(), q)
    softmax = torch.tensor([1.0, 2.0, 0.0]).softmax(0)
    wanted = 3.0 * (softmax - torch.tensor([1.0, 0, 0])) / 2
    torch.testing.assert_close(gradient[0, 0], wanted)


def test_cql_without_penalty_is_dqn():
    cql, dqn, b = make(DiscreteCQL, alpha=0.0), make(DQN), batch()
    for _ in range(5):
        cql.update(b, NO_DRAWS)
        dqn.update(b, NO_DRAWS)
    assert (cql.q.flat == dqn.q.flat).all()
    other = make(DiscreteCQL, alpha=3.0)
    other.update(b, NO_DRAWS)
    assert (other.q.flat != dqn.q.flat).any()


def test_the_squared_error_is_twice_the_limit_of_the_huber_loss():
    agent, b = make(DQN, huber_delta=math.inf, td_weight=[2.0, 1.0]), batch()
    loss, _ = agent.critic_loss(b)
    taken = agent.q(b.obs).gather(-1, b.action[..., None])[..., 0]
    squared = (
        taken - agent.target_q(b.next_obs).amax(-1) * 0.99 * (1 - b.terminated) - b.reward
    ) ** 2
    agent._tabulate()
    wanted = agent.critic_loss(b)[0]
    torch.testing.assert_close(wanted, squared.mean(-1) * torch.tensor([1.0, 0.5]))
    assert loss.shape == (2,)


# --- update -------------------------------------------------------------------------------------
def test_the_target_network_is_copied_every_period():
    agent, copies = make(DQN, target_period=3), []
    for step in range(7):
        before = agent.q.flat.clone()
        agent.update(batch(seed=step), NO_DRAWS)
        copies.append(bool((agent.target_q.flat == before).all()))
    assert copies == [True, False, False, True, False, False, True]


def test_settings_of_one_run_do_not_touch_another():
    plain = make(DiscreteCQL, alpha=3.0, huber_delta=1.0)
    mixed = make(DiscreteCQL, alpha=[3.0, 0.0], huber_delta=[1.0, math.inf], discount=[0.99, 0.5])
    for step in range(4):
        plain.update(batch(seed=step), NO_DRAWS)
        mixed.update(batch(seed=step), NO_DRAWS)
    packed = [agent.q.pack(agent.q.flat) for agent in (plain, mixed)]
    assert (packed[0][0] == packed[1][0]).all()
    assert (packed[0][1] != packed[1][1]).any()


@pytest.mark.parametrize("name", DISCRETE)
def test_state_continues_exactly(name):
    first = make(BACKBONES[name])
    for step in range(3):
        first.update(batch(seed=step), NO_DRAWS)
    second = make(BACKBONES[name], seeds=(8, 9))
    second.load_state({key: value.clone() for key, value in first.state().items()})
    for step in range(3, 8):
        a, b = first.update(batch(seed=step), NO_DRAWS), second.update(batch(seed=step), NO_DRAWS)
        assert all((a[key] == b[key]).all() for key in a)
    assert (first.q.flat == second.q.flat).all()


# --- acting -------------------------------------------------------------------------------------
def test_epsilon_falls_linearly_and_stays():
    agent = make(DQN, seeds=tuple(range(400)), epsilon_start=1.0, epsilon=0.0, epsilon_steps=100)
    obs = torch.zeros(400, dtype=torch.long)
    greedy, streams = agent.greedy(obs[:, None])[:, 0], Streams(range(400), "online")
    differs = {
        step: (agent.act(obs, streams.at(step)) != greedy).float().mean() for step in (0, 50, 100)
    }
    assert differs[0].item() == pytest.approx(0.75, abs=0.08)  # a random action is greedy in 1 of 4
    assert differs[50].item() == pytest.approx(0.375, abs=0.08)
    assert differs[100].item() == 0


def test_greedy_is_the_best_action():
    agent = make(DQN)
    obs = torch.arange(291).expand(2, -1)
    q = agent.q(obs)
    best = q.gather(-1, agent.greedy(obs)[..., None])[..., 0]
    assert (best == q.amax(-1)).all()


# --- hyper-parameters ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"aplha": 1.0}, "Did you mean 'alpha'"),
        ({"alpha": "3"}, "takes numbers"),
        ({"alpha": -1.0}, r"must lie in \[0"),
        ({"alpha": math.nan}, "must lie in"),
        ({"discount": 1.5}, r"must lie in \[0.0, 1"),
        ({"batch_size": 1.5}, "whole numbers"),
        ({"batch_size": True}, "whole numbers"),
        ({"hidden": [0]}, "must lie in"),
        ({"huber_delta": 0}, "must lie in"),
    ],
)
def test_wrong_hyperparameters_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        hyper.complete(DiscreteCQL.Hyperparameters, values)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_default_names_its_source(name):
    for field in dataclasses.fields(BACKBONES[name].Hyperparameters):
        assert field.metadata["source"], field.name


GOLDEN = {"dqn": -0.00214085, "cql-discrete": -0.01451977}


@pytest.mark.parametrize("name", DISCRETE)
def test_results_change_only_with_the_version(name):
    """If this fails on purpose, raise the backbone's ``version`` and put the new number here."""
    agent = make(BACKBONES[name], seeds=(0, 5))
    for step in range(20):
        agent.update(batch(size=128, seed=step), NO_DRAWS)
    mean = agent.q(torch.arange(291).expand(2, -1)).mean().item()
    assert (BACKBONES[name].version, mean) == (1, pytest.approx(GOLDEN[name], rel=1e-2))
