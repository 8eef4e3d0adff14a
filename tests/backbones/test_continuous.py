"""Every backbone for continuous actions against plain single-run code and the specs' check values."""

import math

import numpy as np
import pytest
import torch
from reference import REFERENCES, flat

from o2okit.backbones import BACKBONES
from o2okit.backbones.gaussian import GaussianActorCritic
from o2okit.backbones.iql import expectile_loss
from o2okit.data import Batch
from o2okit.errors import UserError
from o2okit.hyper import complete
from o2okit.nn.stacked import Stacked
from o2okit.streams import Streams
from o2okit.tasks import task

TASK = task("hopper")
# The ensemble, whose networks are those of agents of CQL, has a file of its own.
CONTINUOUS = [
    name for name, backbone in BACKBONES.items() if not backbone.discrete and name != "cql-ensemble"
]
B = 32
SMALL = {"batch_size": B, "hidden": (24, 24), "critic_hidden": (24, 24)}


def make(name, seeds=(3, 8), **hyper):
    """A cohort; lists give each run its own value."""
    hyper = {**SMALL, **hyper}
    runs = [
        {key: value[run] if isinstance(value, list) else value for key, value in hyper.items()}
        for run in range(len(seeds))
    ]
    cls = BACKBONES[name]
    return cls(TASK, [complete(cls.Hyperparameters, run) for run in runs], seeds)


def minibatch(runs, step=0):
    rng = torch.Generator().manual_seed(step)
    obs, next_obs = torch.randn(2, runs, B, TASK.obs_size, generator=rng)
    action = torch.rand(runs, B, TASK.act_size, generator=rng) * 2 - 1
    reward, mc_return = torch.randn(2, runs, B, generator=rng)
    terminated = (torch.rand(runs, B, generator=rng) < 0.2).float()
    return Batch(obs, action, reward, next_obs, terminated, mc_return * 3)


def of_run(batch, run):
    return Batch(*(None if field is None else field[run] for field in batch))


def test_every_continuous_backbone_has_a_reference():
    assert sorted(CONTINUOUS) == sorted(REFERENCES)


@pytest.mark.parametrize(
    ("name", "switches"),
    [
        *((name, {}) for name in CONTINUOUS),
        ("cql", {"gap": [0.0, 0.8]}),
        ("cal-ql", {"gap": [0.8, 5.0]}),
        ("cql", {"max_backup": False}),
    ],
)
def test_updates_agree_with_plain_single_run_code(name, switches):
    """Different hyper-parameters in the two runs, five updates, every network compared."""
    settings = {"discount": [0.9, 0.99]} | switches
    if name == "cal-ql":
        settings["discount"] = 0.9
    if name in ("cql", "cal-ql"):
        settings |= {"weight": [5.0, 1.0], "n_actions": 3}
    if name == "iql":
        settings |= {"expectile": [0.7, 0.9], "beta": [3.0, 10.0], "cosine_steps": 8}
    agent = make(name, **settings)
    streams = Streams((3, 8), "offline")
    singles = [REFERENCES[name](agent, run) for run in range(2)]
    for step in range(5):
        batch, draws = minibatch(2, step), streams.at(step)
        agent.update(batch, draws)
        for run, single in enumerate(singles):
            noise = {key: value[1][step][run] for key, value in streams._blocks.items()}
            single.update(of_run(batch, run), noise)
    for run, single in enumerate(singles):
        for part, modules in single.parameters.items():
            ours, theirs = getattr(agent, part), flat(modules)
            mine = ours.pack(ours.flat)[run]
            assert (mine - theirs).abs().max() < 2e-5, part
            assert (mine - theirs).abs().mean() < 1e-6, part
        if "gap" in switches:  # it has made its five steps, where there is a gap
            ours, theirs = agent.log_multiplier.values()[run, 0].item(), single.log_multiplier
            assert ours == pytest.approx(theirs.item(), abs=1e-6)
            assert (ours == 1.0) == (single.h["gap"] == 0)
    assert agent.updates == 5


@pytest.mark.parametrize("name", CONTINUOUS)
def test_a_run_is_the_same_alone_and_among_others(name):
    def trained(seeds, resume_at=None):
        agent, streams = make(name, seeds), Streams(seeds, "offline")
        for step in range(6):
            if step == resume_at:
                state = {key: value.clone() for key, value in agent.state().items()}
                agent = make(name, seeds)
                agent.load_state(state)
                streams = Streams(seeds, "offline")
            batch = minibatch(1, step)
            known = {name: field for name, field in batch._asdict().items() if field is not None}
            many = Batch(**{k: v.expand(len(seeds), *v.shape[1:]) for k, v in known.items()})
            agent.update(many, streams.at(step))
        return agent.state()

    alone, among, resumed = trained((3,)), trained((0, 3, 7)), trained((3, 9), resume_at=3)
    for key, value in alone.items():
        assert (value[0] == among[key][1]).all(), key
        assert (value[0] == resumed[key][0]).all(), key
    assert (alone["actor.parameters"][0] != among["actor.parameters"][2]).any()


@pytest.mark.parametrize("name", CONTINUOUS)
def test_actions_are_in_range_and_evaluation_uses_no_noise(name):
    agent, streams = make(name), Streams((3, 8), "online")
    obs = torch.randn(2, TASK.obs_size) * 3
    first = agent.act(obs, streams.at(0))
    assert first.shape == (2, TASK.act_size)
    assert (first != agent.greedy(obs[:, None])[:, 0]).any()  # uniform before anything is learnt
    agent.update(minibatch(2), streams.at(0))
    actions = torch.stack([agent.act(obs, streams.at(step)) for step in range(50)])
    assert actions.abs().max() <= 1
    assert (actions.std(0) > 0).all() == (name != "bc")
    greedy = agent.greedy(obs[:, None].expand(-1, 4, -1))
    assert (greedy == greedy[:, :1]).all()
    assert greedy.abs().max() <= 1


def test_observations_are_standardised_and_rewards_scaled():
    agent = make("iql", reward_scale=[2.0, 1.0], reward_bias=[0.0, -1.0])
    agent.normaliser.mean.fill_(1.0)
    agent.normaliser.std.fill_(4.0)
    batch = minibatch(2)
    seen = agent.prepare(batch)
    assert torch.allclose(seen.obs, (batch.obs - 1) / 4)
    assert torch.allclose(seen.next_obs, (batch.next_obs - 1) / 4)
    assert torch.allclose(seen.reward[0], batch.reward[0] * 2)
    assert torch.allclose(seen.reward[1], batch.reward[1] - 1)
    twin = make("iql")
    twin.load_state(agent.state())
    obs = torch.randn(2, 5, TASK.obs_size)
    assert (twin.greedy(obs) == agent.greedy(obs)).all()  # the statistics travelled


# --- check values ---------------------------------------------------------------------------------
class Script:
    """A critic that answers what it is told: ``[E, B, N]`` in the order data, uniform, policy."""

    def __init__(self, agent, values):
        self.values = torch.as_tensor(values, dtype=torch.float32)
        agent.many_q = lambda critic, obs, actions: self.values[None]


def difference(agent, values, log_probs, mc_return=None):
    Script(agent, values)
    log_probs = torch.tensor(log_probs)[None]
    rows, n, act = log_probs.shape[1], log_probs.shape[2], agent.act_size
    zeros = torch.zeros(1, rows)
    returns = None if mc_return is None else torch.tensor(mc_return)[None]
    batch = Batch(zeros, torch.zeros(1, rows, act), zeros, zeros, zeros, returns)
    actions = torch.zeros(1, rows, n, act)
    loss, result, _ = agent.conservative_loss(batch, zeros, actions, log_probs)
    return loss, result


def test_cql_logsumexp_of_a_constant_q_and_uniform_densities():
    """specs/qcse.md 6: q + log 30 + |A| log 2; |A| = 6, q = 0."""
    agent = make("cql", (0,))
    _, result = difference(agent, torch.zeros(2, 4, 31), [[6 * math.log(0.5)] * 30] * 4)
    assert result[0].tolist() == pytest.approx([7.560080] * 2, abs=1e-5)


def test_cql_and_cal_ql_differences_by_hand():
    """specs/qcse.md 6: N = 1, Q = (1, 2, 0), log density = (log ½, -0.3, -1.2), data Q 1.5."""
    values, log_probs = [[[1.5, 1.0, 2.0, 0.0]]] * 2, [[math.log(0.5), -0.3, -1.2]]
    loss, plain = difference(make("cql", (0,), n_actions=1), values, log_probs)
    assert plain[0].tolist() == pytest.approx([1.430173] * 2, abs=1e-6)
    assert loss.item() == pytest.approx(2 * 1.5**2)
    agent = make("cal-ql", (0,), n_actions=1)
    assert difference(agent, values, log_probs, [1.0])[1][0, 0].item() == pytest.approx(
        1.696048, abs=1e-6
    )
    unknown = difference(agent, values, log_probs, [-math.inf])[1][0, 0].item()
    assert unknown == pytest.approx(1.430173, abs=1e-6)
    off = make("cal-ql", (0,), n_actions=1, calibrate=False)
    assert difference(off, values, log_probs, [1.0])[1][0, 0].item() == pytest.approx(
        1.430173, abs=1e-6
    )


def test_cql_penalty_with_fixed_weight_and_with_a_multiplier():
    """specs/qcse.md 3: α' w (diff - gap), α' = e at the start, its loss -½ Σ α' w (diff - gap)."""
    agent = make("cql", weight=[5.0, 5.0], gap=[0.0, 0.8])
    beyond = torch.tensor([[1.0, 2.0], [0.2, 1.2]], requires_grad=True)  # of differences of 1 and 2
    penalty, loss = agent.penalty(beyond)
    excess = 5 * (0.2 + 1.2)
    assert penalty.tolist() == pytest.approx([15.0, math.e * excess])
    assert loss.tolist() == pytest.approx([0.0, -0.5 * math.e * excess])
    agent.log_multiplier.flat.data.fill_(20.0)  # e^20 is clipped at 10^6
    assert agent.penalty(beyond)[0].tolist() == pytest.approx([15.0, 1e6 * excess])


def test_expectile_loss():
    """specs/qcse.md 6 (τ = 0.7, mean 0.95) and specs/gde.md 6 (τ = 0.9)."""
    u = torch.tensor([[1.0, -2.0]])
    assert expectile_loss(u, torch.tensor([0.7])).mean().item() == pytest.approx(0.95)
    u = torch.tensor([[-2.0, 1.0, 3.0]])
    assert expectile_loss(u, torch.tensor([0.9]))[0].tolist() == pytest.approx([0.4, 0.9, 8.1])


@pytest.mark.parametrize(
    ("scaled", "weights"),
    [
        ([-1.0, 0.0, 2.0, 10.0], [0.367879, 1.0, 7.389056, 100.0]),  # specs/qcse.md 6
        ([-1.0, 2.0, 5.0], [0.367879, 7.389056, 100.0]),  # specs/gde.md 6, λ A
    ],
)
def test_advantage_weights(scaled, weights):
    agent = make("awac", (0,))
    assert isinstance(agent, GaussianActorCritic)
    for value, weight in zip(scaled, weights, strict=True):
        obs, action = torch.randn(1, 1, TASK.obs_size), torch.zeros(1, 1, TASK.act_size)
        _, metrics = agent.weighted_imitation(obs, action, torch.tensor([[value]]))
        assert metrics["weight"].item() == pytest.approx(weight, abs=1e-5)


def test_cal_ql_needs_one_discount_and_scale_for_its_returns():
    with pytest.raises(UserError, match="must agree between them"):
        make("cal-ql", discount=[0.9, 0.99])


def test_cal_ql_returns_are_those_of_scaled_rewards():
    """specs/qcse.md 6: [-5, -5, +5] with the end last; failing for ever -5 / 0.01; dense [1, 2, 3]."""
    cls = BACKBONES["cal-ql"]
    hyper = complete(cls.Hyperparameters, {"reward_scale": 10.0, "reward_bias": -5.0})
    agent = cls(task("antmaze-umaze-v2"), [hyper], (0,))
    ends = np.array([False, False, True])
    success = agent.returns(np.array([0.0, 0.0, 1.0]), ends, ends)
    assert success.tolist() == pytest.approx([-5.0495, -0.05, 5.0], abs=1e-4)
    failure = agent.returns(np.zeros(3), ends & False, ends)
    assert failure.tolist() == pytest.approx([-500.0] * 3, rel=1e-5)
    dense = make("cal-ql", (0,)).returns(np.array([1.0, 2.0, 3.0]), ends & False, ends)
    assert dense.tolist() == pytest.approx([5.9203, 4.97, 3.0], abs=1e-4)


def test_cql_clips_the_datasets_actions():
    agent = make("cql")
    batch = minibatch(2)._replace(action=torch.ones(2, B, TASK.act_size))
    assert agent.prepare(batch).action.max().item() == pytest.approx(1 - 1e-5, abs=1e-7)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_ants_padding_changes_nothing_but_the_start_of_the_first_layer(name):
    """27 observations learn what 111 learn whose last 84 are 0, once they start equal."""
    cls = BACKBONES[name]
    hyper = complete(cls.Hyperparameters, SMALL)
    tasks = task("ant"), task("ant", ant_obs=27)
    wide, slim = (cls(found, [hyper], [3]) for found in tasks)
    for theirs, ours in zip(tables(wide), tables(slim), strict=True):
        ours.copy_(without_rows(theirs, ours.shape))
    before = [ours.clone() for ours in tables(slim)]
    rng, streams = torch.Generator().manual_seed(0), Streams([3], "test")
    for step in range(3):
        obs, next_obs = torch.randn(2, 1, B, 27, generator=rng)
        action = torch.rand(1, B, 8, generator=rng) * 2 - 1
        reward, mc_return = torch.randn(2, 1, B, generator=rng)
        ends = (torch.rand(1, B, generator=rng) < 0.2).float()
        padded, next_padded = (torch.nn.functional.pad(each, (0, 84)) for each in (obs, next_obs))
        wide.update(Batch(padded, action, reward, next_padded, ends, mc_return), streams.at(step))
        slim.update(Batch(obs, action, reward, next_obs, ends, mc_return), streams.at(step))
    assert torch.allclose(wide.greedy(padded), slim.greedy(obs), atol=1e-5)
    for theirs, ours in zip(tables(wide), tables(slim), strict=True):
        assert torch.allclose(without_rows(theirs, ours.shape), ours, atol=1e-5)
    assert any((old != new).any() for old, new in zip(before, tables(slim), strict=True))


def tables(agent):
    """Every weight and bias of the agent, in tensors that can be written to."""
    parts = [part for part in vars(agent).values() if isinstance(part, Stacked)]
    return [view for part in parts for view in part.views(part.flat)]


def without_rows(weight, shape):
    """A weight ``[..., in, out]`` of 111 observations without those of the padding."""
    if weight.shape == shape:
        return weight
    return torch.cat([weight[..., :27, :], weight[..., 111:, :]], dim=-2)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_a_run_is_the_same_with_a_minibatch_of_any_size(name):
    """25 rows fill no vector register: its last elements must round as the others do."""

    def trained(seeds):
        agent, streams = make(name, seeds, batch_size=25), Streams(seeds, "offline")
        for step in range(6):
            one = [None if x is None else x[:, :25] for x in minibatch(1, step)]
            many = (None if x is None else x.expand(len(seeds), *x.shape[1:]) for x in one)
            agent.update(Batch(*many), streams.at(step))
        return agent.state()

    alone, among = trained((3,)), trained((0, 3, 7))
    for key, value in alone.items():
        assert (value[0] == among[key][1]).all(), key
