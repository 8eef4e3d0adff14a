"""Recorded updates and actions against eager ones; what a CUDA graph asks of them, checked without a GPU."""

from dataclasses import replace

import pytest
import torch
from hosts import DISCRETE, PAIRS, fine_tuning, hopper_data
from recorded import assert_same, recorded_equals_eager
from torch.utils._python_dispatch import TorchDispatchMode

from o2okit.backbones import BACKBONES, Agent
from o2okit.data import Batch
from o2okit.data.maze import scripted
from o2okit.errors import UserError
from o2okit.hyper import complete
from o2okit.nn import Adam
from o2okit.nn.stacked import Stacked
from o2okit.streams import Streams
from o2okit.tasks import task
from o2okit.training import RunSpec, capture
from o2okit.training.recording import EAGER

TASK, MAZE = task("hopper"), task("toy-maze")
SEEDS, B = (3, 8), 16
# What would make the host wait for the GPU, or copy from the host's memory, in the middle of an update.
WAITS = {"_local_scalar_dense", "nonzero", "lift_fresh", "lift_fresh_copy", "is_nonzero"}


@pytest.fixture(scope="module")
def data():
    return hopper_data()


def make(name, device="cpu"):
    cls = BACKBONES[name]
    hyper = {"batch_size": B, "hidden": (16, 16)}
    hyper |= {"target_period": 4} if cls.discrete else {"critic_hidden": (16, 16)}
    if name == "iql":
        hyper["cosine_steps"] = 20
    if name == "cql-ensemble":
        hyper["together"] = True  # apart it is CQL's update
    where = MAZE if cls.discrete else TASK
    return cls(where, [complete(cls.Hyperparameters, hyper)] * len(SEEDS), SEEDS, device)


def minibatch(name, step, device="cpu"):
    rng = torch.Generator().manual_seed(step)
    if BACKBONES[name].discrete:
        obs, next_obs = torch.randint(MAZE.obs_size, (2, len(SEEDS), B), generator=rng)
        action = torch.randint(MAZE.act_size, (len(SEEDS), B), generator=rng)
    else:
        obs, next_obs = torch.randn(2, len(SEEDS), B, TASK.obs_size, generator=rng)
        action = torch.rand(len(SEEDS), B, TASK.act_size, generator=rng) * 2 - 1
    reward, returns = torch.randn(2, len(SEEDS), B, generator=rng)
    ends = (torch.rand(len(SEEDS), B, generator=rng) < 0.2).float()
    return Batch(*(x.to(device) for x in (obs, action, reward, next_obs, ends, returns)))


@pytest.mark.parametrize("name", BACKBONES)
def test_fixed_memory_gives_the_same_updates(name):
    plain, fixed, draws = make(name), make(name), capture.FixedDraws()
    streams, memory = Streams(SEEDS, "offline"), minibatch(name, 0)
    for step in range(6):
        plain.update(minibatch(name, step), streams.at(step))
        for place, value in zip(memory, minibatch(name, step), strict=True):
            if place is not None:
                place.copy_(value)
        draws.load(streams.at(step))
        fixed.update(memory, draws)
    for key, value in plain.state().items():
        assert torch.equal(value, fixed.state()[key]), key


class Record(TorchDispatchMode):
    """The operations of an update."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def memory_of(agent):
    agents = [agent, *(part for part in vars(agent).values() if isinstance(part, Agent))]
    parts = [part for each in agents for part in vars(each).values()]
    places = [part.data_ptr() for part in parts if isinstance(part, torch.Tensor)]
    places += [part.flat.data_ptr() for part in parts if isinstance(part, Stacked)]
    assert agent.optimisers() == [part for part in parts if isinstance(part, Adam)]
    for adam in agent.optimisers():
        places += [tensor.data_ptr() for tensor in (adam.steps, *adam.first, *adam.second)]
    return places


@pytest.mark.parametrize("name", BACKBONES)
def test_updates_of_one_branch_do_the_same_work_in_place_and_never_wait(name):
    agent, streams, seen = make(name), Streams(SEEDS, "offline"), {}
    draws, memory, places = capture.FixedDraws(), minibatch(name, 0), memory_of(agent)
    for step in range(10):
        draws.load(streams.at(step))
        agent.schedule()
        branch = agent.branch()
        with Record() as record:
            agent.learn(memory, draws)
        agent.updates += 1
        if step < 2 * EAGER:
            continue
        assert memory_of(agent) == places
        assert len(record.names) > 10
        assert not WAITS & set(record.names)
        assert seen.setdefault(branch, record.names) == record.names
    assert len(seen) == (2 if name in ("td3", "td3+bc") else 1)


def test_the_flag(monkeypatch):
    assert capture.wanted()
    assert not capture.wanted(compared=False)
    monkeypatch.setenv(capture.FLAG, "1")
    assert capture.wanted(compared=False)
    monkeypatch.setenv(capture.FLAG, "0")
    assert not capture.wanted()
    monkeypatch.setenv(capture.FLAG, "yes")
    with pytest.raises(UserError, match="must be 0 or 1; got 'yes'"):
        capture.wanted()


def test_a_capturable_optimiser_reads_its_rate_from_memory():
    agent = make("iql")
    agent.actor_adam.make_capturable()
    rate = agent.actor_adam._lr
    agent.updates = 10
    agent.schedule()
    assert rate.item() == pytest.approx(agent.hyper.actor_lr / 2)
    assert agent.actor_adam.lr == pytest.approx(agent.hyper.actor_lr / 2)


def test_an_agent_acts_by_recorded_work_on_fixed_memory():
    plain, agent = make("sac"), make("sac")
    capture.capture(agent)
    other, streams = agent.policy.copy(), Streams(SEEDS, "online")
    for part in other.parts:
        part.flat.mul_(2)
    plain.updates = agent.updates = 1
    for step in range(EAGER + 2):
        obs = minibatch("sac", step).obs
        few, draws = obs[:, 0].clone(), streams.at(step)
        for policy in (None, other):
            assert torch.equal(agent.act(few, draws, policy), plain.act(few, draws, policy))
        for rows in (obs, obs[:, :3]):
            assert torch.equal(agent.greedy(rows), plain.greedy(rows))
    assert len(agent.sampled.kinds.recorded) == 2  # policies
    assert len(agent.greedy.kinds.recorded) == 2  # shapes


DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", BACKBONES)
def test_recorded_updates_equal_eager_ones(name, device):
    eager, recorded = make(name, device), make(name, device)
    update, streams = capture.CapturedUpdate(recorded), Streams(SEEDS, "offline", device)
    for step in range(20):
        expected = eager.update(minibatch(name, step, device), streams.at(step))
        metrics = update(minibatch(name, step, device), streams.at(step))
        assert_same(expected, metrics, device)
    assert len(update.kinds.recorded) == (2 if name in ("td3", "td3+bc") else 1)
    assert all(value.isfinite().all() for value in metrics.values())
    assert_same(eager.state(), recorded.state(), device)


def test_an_agent_that_is_given_other_networks_or_settings_is_recorded_anew():
    eager, recorded = make("iql"), make("iql")
    update, streams = capture.CapturedUpdate(recorded), Streams(SEEDS, "offline")
    for step in range(24):
        for agent in (eager, recorded):
            if step == 8:  # begins anew, as ``build`` made it
                agent.value = make("iql").value
                agent.value_adam = Adam([agent.value], 3e-3)
            if step == 16:
                agent.hyper = replace(agent.hyper, beta=agent.hyper.beta * 2)
        eager.update(minibatch("iql", step), streams.at(step))
        update(minibatch("iql", step), streams.at(step))
        assert bool(update.kinds.recorded) == (step % 8 >= EAGER)
    assert_same(eager.state(), recorded.state(), "cpu")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("backbone", "method"), PAIRS)
def test_recorded_fine_tuning_equals_eager_fine_tuning(backbone, method, device, data, monkeypatch):
    recorded_equals_eager(fine_tuning(backbone, method, data), device, monkeypatch)


@pytest.mark.parametrize(("backbone", "method"), DISCRETE)
def test_recorded_fine_tuning_of_discrete_agents_equals_eager_fine_tuning(
    backbone, method, monkeypatch
):
    short = {"fine_tune_steps": 10, "scoring_steps": 5} if method == "gde-discrete" else {}
    specs = [
        RunSpec(
            *("toy-maze", backbone, "online", 40, seed),
            method=method,
            method_hyper=short,
            dataset=scripted(transitions=500),
            replay="mixed",
        )
        for seed in SEEDS
    ]
    recorded_equals_eager(specs, "cpu", monkeypatch)
