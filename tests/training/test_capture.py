"""What a CUDA graph asks of an update, checked without a GPU; with one, the graph itself."""

import pytest
import torch
from hosts import PAIRS, fine_tuning, hopper_data
from torch.utils._python_dispatch import TorchDispatchMode

from o2okit.backbones import BACKBONES, Agent
from o2okit.data import Batch
from o2okit.errors import UserError
from o2okit.hyper import complete
from o2okit.nn import Adam
from o2okit.nn.stacked import Stacked
from o2okit.streams import Streams
from o2okit.tasks import task
from o2okit.training import capture
from o2okit.training.cohort import Cohort

TASK, MAZE = task("hopper"), task("toy-maze")
SEEDS, B = (3, 8), 16
# What would make the host wait for the GPU, or copy from the host's memory, in the middle of an update.
WAITS = {"_local_scalar_dense", "nonzero", "lift_fresh", "lift_fresh_copy", "is_nonzero"}


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
        if step < 2 * capture.EAGER:
            continue
        assert memory_of(agent) == places
        assert len(record.names) > 10
        assert not WAITS & set(record.names)
        assert seen.setdefault(branch, record.names) == record.names
    assert len(seen) == (2 if name in ("td3", "td3+bc") else 1)


def test_the_flag(monkeypatch):
    assert capture.wanted("cuda")
    assert not capture.wanted("cpu")
    assert not capture.wanted("cuda", compared=False)
    monkeypatch.setenv(capture.FLAG, "0")
    assert not capture.wanted("cuda")
    monkeypatch.setenv(capture.FLAG, "yes")
    with pytest.raises(UserError, match="must be 0 or 1; got 'yes'"):
        capture.wanted("cuda")


def test_a_capturable_optimiser_reads_its_rate_from_memory():
    agent = make("iql")
    agent.actor_adam.make_capturable()
    rate = agent.actor_adam._lr
    agent.updates = 10
    agent.schedule()
    assert rate.item() == pytest.approx(agent.hyper.actor_lr / 2)
    assert agent.actor_adam.lr == pytest.approx(agent.hyper.actor_lr / 2)


class Eager:
    """A recorder without a GPU."""

    def __init__(self, device):
        self.branches = []

    def __call__(self, branch, work):
        self.branches.append(branch)
        return work()


def test_an_agent_acts_by_recorded_work_on_fixed_memory(monkeypatch):
    monkeypatch.setattr(capture, "Recorder", Eager)
    plain, agent = make("sac"), make("sac")
    capture.capture(agent)
    other, streams = agent.policy.copy(), Streams(SEEDS, "online")
    for part in other.parts:
        part.flat.mul_(2)
    plain.updates = agent.updates = 1
    for step in range(3):
        obs = minibatch("sac", step).obs
        few, draws = obs[:, 0].clone(), streams.at(step)
        for policy in (None, other):
            assert torch.equal(agent.act(few, draws, policy), plain.act(few, draws, policy))
        for rows in (obs, obs[:, :3]):
            assert torch.equal(agent.greedy(rows), plain.greedy(rows))
    assert len(set(agent.sampled.recorder.branches)) == 2  # policies
    assert len(set(agent.greedy.recorder.branches)) == 2  # shapes


def test_work_that_cannot_be_recorded_says_what_to_do(monkeypatch):
    class Nothing:
        def __init__(self, *arguments, **named):
            pass

        def __enter__(self):
            pass

        def __exit__(self, *error):
            pass

    for name in ("Stream", "CUDAGraph", "graph"):
        monkeypatch.setattr(torch.cuda, name, Nothing)
    recorder = capture.Recorder("cuda")
    monkeypatch.setattr(recorder, "_eager", lambda work: "eager")

    def fails():
        raise RuntimeError("operation not permitted when stream is capturing")

    assert [recorder("branch", fails) for _ in range(capture.EAGER)] == ["eager"] * capture.EAGER
    with pytest.raises(
        UserError, match=r"not permitted.*tensors that stay, or set O2OKIT_CUDA_GRAPH=0"
    ):
        recorder("branch", fails)
    assert not recorder.graphs


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def assert_close(eager, recorded):
    """Networks, targets, optimisers: all that an agent or a cohort holds."""
    assert eager.keys() == recorded.keys()
    for key, value in eager.items():
        assert torch.allclose(value, recorded[key], rtol=1e-4, atol=1e-6, equal_nan=True), key


@GPU
@pytest.mark.parametrize("name", BACKBONES)
def test_captured_updates_equal_eager_ones_on_a_gpu(name):
    eager, recorded = make(name, "cuda"), make(name, "cuda")
    update, streams = capture.CapturedUpdate(recorded), Streams(SEEDS, "offline", "cuda")
    for step in range(20):
        eager.update(minibatch(name, step, "cuda"), streams.at(step))
        metrics = update(minibatch(name, step, "cuda"), streams.at(step))
    assert update.recorder.graphs
    assert all(value.isfinite().all() for value in metrics.values())
    assert_close(eager.state(), recorded.state())


@GPU
@pytest.mark.parametrize(("backbone", "method"), PAIRS)
def test_captured_fine_tuning_equals_eager_fine_tuning_on_a_gpu(backbone, method, monkeypatch):
    """The method's part of an update is recorded, too, and so is acting."""
    states, rows = {}, {}
    for flag in ("0", "1"):
        monkeypatch.setenv(capture.FLAG, flag)
        cohort = Cohort(fine_tuning(backbone, method, hopper_data()), "cuda")
        cohort.begin()
        while cohort.step < 30:
            cohort.advance()
        states[flag] = cohort.state()
        cohort.evaluate()
        rows[flag] = [row["evaluations"][0]["return"] for row in cohort.rows]
        assert isinstance(cohort.update, capture.CapturedUpdate) == (flag == "1")
    assert cohort.update.recorder.graphs
    assert_close(states["0"], states["1"])
    assert rows["1"] == pytest.approx(rows["0"], rel=1e-2)
