"""Real environments: a run is its seed, resumes exactly with its buffer and simulation, and may diverge."""

import numpy as np
import pytest
import torch
from hosts import FEW, SMALL, hopper_data

from o2okit.backbones import BACKBONES
from o2okit.data import Dataset
from o2okit.errors import UserError
from o2okit.training import RunSpec, RunStore, checking, train
from o2okit.training.cohort import Cohort

CONTINUOUS = [name for name, backbone in BACKBONES.items() if not backbone.discrete]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return hopper_data()


def spec(backbone, seed, data, phase="online", **changes) -> RunSpec:
    hyper = {**SMALL, **FEW.get(backbone, {}), **changes.pop("hyper", {})}
    values = {
        "steps": 200,
        "hyper": hyper,
        "dataset": data,
        "replay": "half" if phase == "online" else "offline",
        "learning_starts": 20 if phase == "online" else 0,
        "eval_every": 40,
        "eval_episodes": 2,
        **changes,
    }
    return RunSpec("hopper", backbone, phase, values.pop("steps"), seed, **values)


def trained(specs, steps) -> Cohort:
    cohort = Cohort(specs)
    advance(cohort, steps)
    return cohort


def advance(cohort, steps):
    while cohort.step < steps:
        cohort.advance()
        if cohort.step % 40 == 0:
            cohort.evaluate()


def same(a, run_a, b, run_b) -> bool:
    left, right = a.state(), b.state()
    assert left.keys() == right.keys()
    return all((left[key][run_a] == right[key][run_b]).all() for key in left)


@pytest.mark.parametrize("backbone", CONTINUOUS)
@pytest.mark.parametrize("phase", ["offline", "online"])
def test_a_run_is_its_seed_alone_among_others_and_resumed(backbone, phase, data):
    """``test_checking.py`` has what ``examine`` finds where that is not so."""
    specs = [spec(backbone, seed, data, phase, steps=120) for seed in (4, 1, 7)]
    assert checking.examine(specs, 70) == []


def test_episodes_end_within_these_runs(data):
    assert len(trained([spec("iql", 1, data)], 120).rows[0]["episodes"]) >= 2


@pytest.mark.parametrize("backbone", CONTINUOUS)
def test_divergence_is_recorded_and_leaves_the_cohort_alone(backbone, data, tmp_path):
    """One run's reward is far beyond float32; its neighbour is what it is alone."""
    huge = {"reward_scale": 1e38} if backbone != "cal-ql" else {}
    key = "discount" if backbone == "cal-ql" else None
    store = RunStore(tmp_path)
    good = spec(backbone, 0, data, "offline", steps=40)
    if key or backbone == "bc":
        broken = spec(backbone, 1, _with_nan(data), "offline", steps=40)
    else:
        broken = spec(backbone, 1, data, "offline", steps=40, hyper=huge)
    runs = train([good, broken], store=store, device="cpu")
    assert [run.folder.result()["diverged"] for run in runs] == [False, True]
    (alone,) = train([good], store=RunStore(tmp_path / "alone"), device="cpu")
    ours, theirs = runs[0].state(), alone.state()
    assert all((ours[name] == theirs[name]).all() for name in ours)
    # A diverged agent can still be sent into the environment.
    online = spec(backbone, 1, data, steps=30, start=broken, hyper=dict(broken.hyper))
    (run,) = train([online], store=store, device="cpu")
    assert run.folder.result()["steps"] == 30


def _with_nan(data: Dataset) -> Dataset:
    observations = data.observations.copy()
    observations[::2] = np.nan
    fields = {name: getattr(data, name) for name in ("actions", "rewards", "next_observations")}
    return Dataset(
        "hopper",
        "nan",
        "kit",
        observations,
        **fields,
        terminals=data.terminals,
        timeouts=data.timeouts,
    )


def test_several_updates_per_step_and_a_small_buffer(data):
    cohort = trained([spec("td3", 0, data, updates_per_step=3, capacity=50)], 80)
    assert cohort.agent.updates == 3 * (80 - 20)
    assert cohort.replay.online == 50
    one = trained([spec("td3", 0, data, capacity=50)], 80)
    assert not same(cohort, 0, one, 0)


def test_fewer_updates_than_steps_and_the_place_in_between_is_kept(data):
    rare = spec("td3", 0, data, update_every=4)
    whole = trained([rare], 80)
    assert whole.agent.updates == (80 - 20) / 4
    part = trained([rare], 30)  # between two updates
    resumed = Cohort([rare])
    resumed.load_state([{key: value[0].clone() for key, value in part.state().items()}], 30)
    advance(resumed, 80)
    assert same(resumed, 0, whole, 0)


def test_the_statistics_of_the_offline_data_travel_into_fine_tuning(data, tmp_path):
    start = spec("iql", 0, data, "offline", steps=30)
    online = spec("iql", 0, None, steps=30, replay="online", start=start)
    (run,) = train([online], store=RunStore(tmp_path), device="cpu")
    mean = torch.from_numpy(data.observations.mean(0, dtype=np.float64)).float()
    assert torch.allclose(run.state()["agent/normaliser.mean"], mean, atol=1e-6)
    assert torch.allclose(
        run.state()["agent/normaliser.std"],
        torch.from_numpy(data.observations.std(0)) + 1e-3,
        atol=1e-5,
    )


def test_monte_carlo_returns_of_online_episodes_are_stored_when_they_end(data):
    cohort = trained([spec("cal-ql", 0, data, learning_starts=150)], 120)
    rows, episodes = cohort.replay.rows[len(data) :], cohort.rows[0]["episodes"]
    rewards, returns = rows[:120, 14].double(), rows[:120, -1]
    done = sum(row["length"] for row in episodes)
    assert 0 < done < 120
    assert (returns[done:] == -torch.inf).all()
    start = 0
    for row in episodes:
        expected = 0.0
        for i in range(start + row["length"] - 1, start - 1, -1):
            expected = rewards[i].item() + 0.99 * expected
            assert returns[i].item() == pytest.approx(expected, rel=1e-4)
        start += row["length"]


def test_a_backbone_for_other_actions_is_refused():
    with pytest.raises(UserError, match=r"not made for the actions of task 'hopper'.*td3"):
        RunSpec("hopper", "dqn", "online", 10, 0, replay="online")


def test_an_interrupted_run_has_the_metrics_of_an_uninterrupted_one(data):
    """TD3's actor rests every second update: what it reported last is part of the state."""
    whole = trained([spec("td3", 0, data, eval_every=1)], 60)
    part = trained([spec("td3", 0, data, eval_every=1)], 41)
    resumed = Cohort([spec("td3", 0, data, eval_every=1)])
    resumed.load_state([{k: v[0].clone() for k, v in part.state().items()}], 41)
    for cohort in (whole, resumed):
        while cohort.step < 62:
            cohort.advance()
            cohort.evaluate()
    assert resumed.rows[0]["metrics"][-1] == whole.rows[0]["metrics"][-1]
    assert resumed.rows[0]["metrics"][0].keys() == whole.rows[0]["metrics"][-1].keys()
    assert not resumed.diverged.any()


@pytest.mark.parametrize("starts", ["fresh", "fixed"])
def test_evaluations_start_afresh_or_always_the_same(starts):
    """The agent does not learn before step 100: only the starts can change its return."""
    run = {"replay": "online", "learning_starts": 100, "eval_episodes": 2, "eval_starts": starts}
    cohort = Cohort([RunSpec("hopper", "sac", "online", 120, seed, **run) for seed in (3, 4)])
    for _ in range(3):
        cohort.evaluate()
        cohort.advance()
    returns = [{row["return"] for row in rows["evaluations"]} for rows in cohort.rows]
    assert [len(each) for each in returns] == ([3, 3] if starts == "fresh" else [1, 1])
    assert not returns[0] & returns[1], "each run has its own starts"


def test_an_evaluation_waits_for_no_second_thread(data, monkeypatch):
    """Beside another busy process, a second thread makes single steps many times as slow."""
    cohort, seen = Cohort([spec("td3", 0, data)]), []
    greedy = cohort.agent.greedy
    monkeypatch.setattr(
        cohort.agent, "greedy", lambda obs: (seen.append(torch.get_num_threads()), greedy(obs))[1]
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        cohort.evaluate()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


def test_the_best_episodes_alone_are_preloaded(data):
    """Replay ``part`` (specs/ocr_cft.md 2.8): one buffer, with a part of the dataset."""
    cohort = Cohort([spec("td3", 0, data, replay="part", part_episodes=3)])
    ends = np.flatnonzero(data.terminals | data.timeouts).tolist()
    ends += [len(data) - 1] * (ends[-1] < len(data) - 1)  # the last episode is not over
    returns = [part.sum() for part in np.split(data.rewards, np.array(ends[:-1]) + 1)]
    lengths = np.diff(ends, prepend=-1)
    best = np.argsort(returns)[-3:]
    assert cohort.replay.offline == lengths[best].sum()
    assert cohort.replay.kind == "mixed"
    held = cohort.replay.rows[: cohort.replay.offline, data.observations.shape[1] + 3]
    assert held.sum().item() == pytest.approx(sum(returns[i] for i in best), rel=1e-5)
    advance(cohort, 60)
    assert len(cohort.replay) == cohort.replay.offline + 60
    assert spec("td3", 0, data, replay="mixed").id != spec("td3", 0, data, replay="part").id
