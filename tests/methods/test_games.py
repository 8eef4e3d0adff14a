"""Discrete agents and methods on images: a run is its seed alone, among others and resumed."""

import dataclasses

import numpy as np
import pytest
import torch
from recorded import recorded_equals_eager

from o2okit.backbones.settings import settings
from o2okit.data import Dataset
from o2okit.tasks import TASKS
from o2okit.training import RunSpec, RunStore, protocol, train
from o2okit.training.cohort import Cohort
from o2okit.training.obtain import stand_in

TASK = TASKS["atari-asterix"]
SMALL = {"hidden": (16,), "batch_size": 4}
SHORT = {"gde-discrete": {"fine_tune_steps": 4, "scoring_steps": 2}}
STEPS, HALF = 10, 7


@pytest.fixture(scope="module")
def data() -> Dataset:
    return stand_in(TASK, 2_000)


@pytest.fixture(autouse=True)
def short_episodes(monkeypatch):
    """Games of 12 steps: evaluations are short, and episodes end within a run."""

    def brief(keys, **options):
        return TASK.vector(keys, horizon=12, **options)

    monkeypatch.setitem(TASKS, TASK.name, dataclasses.replace(TASK, vector=brief))


def specs(method, data) -> list[RunSpec]:
    own = settings("cql-discrete", TASK, data, SMALL)
    return [
        protocol.online(
            RunSpec(TASK.name, "cql-discrete", "offline", 2, seed, hyper=own, dataset=data),
            method,
            STEPS,
            method_hyper=SHORT.get(method, {}),
            eval_every=5,
            eval_episodes=1,
        )
        for seed in (4, 1)
    ]


def advanced(cohort, steps) -> Cohort:
    while cohort.step < steps:
        cohort.advance()
        if cohort.step % 5 == 0:
            cohort.evaluate()
    return cohort


def test_sums_of_games_are_of_clipped_rewards(data):
    raw = dataclasses.replace(data, rewards=np.where(np.arange(len(data)) % 3 == 0, 5.0, -0.5))
    own = settings("cql-discrete", TASK, raw, SMALL) | {"batch_size": 64}
    start = RunSpec(TASK.name, "cql-discrete", "offline", 2, 0, hyper=own, dataset=raw)
    spec = protocol.online(start, "qdagger", 10, replay="mixed", method_hyper={"n": 3})
    cohort = Cohort([spec])
    batch = cohort.agent.prepare(cohort.replay.take(torch.arange(60)[None]))
    ends, discount = raw.terminals | raw.timeouts, 0.99
    for row, found in enumerate(batch.reward[0].tolist()):
        expected, factor = 0.0, 1.0
        for place in range(row, row + 3):
            expected += factor * min(raw.rewards[place], 1.0)
            factor *= discount
            if ends[place]:
                break
        assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("method", ["naive", "qdagger", "gde-discrete", "rnd"])
def test_a_run_is_its_seed_alone_among_others_and_resumed(method, data, tmp_path):
    store, wanted = RunStore(tmp_path), specs(method, data)
    starts = train([spec.start for spec in wanted], store=store, device="cpu")

    def begun(which):
        cohort = Cohort([wanted[i] for i in which])
        cohort.begin([starts[i].state() for i in which])
        cohort.evaluate()
        return cohort

    among, alone = advanced(begun([0, 1]), STEPS), advanced(begun([1]), STEPS)
    ours, theirs = alone.state(), among.state()
    assert set(ours) == set(theirs)
    for key, value in theirs.items():
        if not key.startswith("replay/frames"):  # as many as the run with most of them has
            assert torch.equal(ours[key][0].nan_to_num(), value[1].nan_to_num()), key
    assert alone.rows[0] == among.rows[1]
    changed = starts[1].state()["agent/q.parameters"] != theirs["agent/q.parameters"][1]
    assert changed.any()
    part = advanced(begun([0, 1]), HALF).state()
    resumed = Cohort([wanted[1]])
    resumed.load_state([{key: value[1] for key, value in part.items()}], HALF)
    end = advanced(resumed, STEPS).state()
    for key in theirs:
        if not key.startswith("replay/frames"):
            assert torch.equal(end[key][0].nan_to_num(), theirs[key][1].nan_to_num()), key


@pytest.mark.parametrize("method", ["naive", "gde-discrete"])
def test_recorded_updates_of_images_equal_eager_ones(method, data, monkeypatch):
    fine_tuning = [dataclasses.replace(spec, start=None) for spec in specs(method, data)]
    recorded_equals_eager(fine_tuning, "cpu", monkeypatch, STEPS)
    offline = [spec.start for spec in specs(method, data)]
    recorded_equals_eager(offline, "cpu", monkeypatch, 8)


def test_rewards_are_learnt_clipped_and_evaluated_in_full(data):
    (spec, _) = specs("naive", data)
    cohort = Cohort([spec.start])
    batch = cohort.replay.sample(torch.rand(1, 4, dtype=torch.float64))
    seen = cohort.agent.prepare(batch._replace(reward=torch.tensor([[-7.0, 0.5, 3.0, 0.0]])))
    assert seen.reward.tolist() == [[-1.0, 0.5, 1.0, 0.0]]


def test_runs_that_stored_different_numbers_of_images_resume_together(data, tmp_path):
    store, wanted = RunStore(tmp_path), specs("naive", data)
    starts = train([spec.start for spec in wanted], store=store, device="cpu")
    cohort = Cohort(wanted)
    cohort.begin([run.state() for run in starts])
    advanced(cohort, HALF)
    state = cohort.state()
    runs = [{key: value[run].clone() for key, value in state.items()} for run in range(2)]
    runs[1]["replay/frames.images"] = runs[1]["replay/frames.images"][:-1]
    resumed = Cohort(wanted)
    resumed.load_state(runs, HALF)
    images = resumed.replay.frames.state()["images"]
    assert (images[0] == state["replay/frames.images"][0]).all()
    assert (images[1, :-1] == runs[1]["replay/frames.images"]).all()
