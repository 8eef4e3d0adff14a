import dataclasses
import json
import types
from pathlib import Path

import numpy as np
import pytest
from hosts import hopper_data

from o2okit import hyper
from o2okit.backbones import DiscreteCQL
from o2okit.data.maze import scripted
from o2okit.errors import UserError
from o2okit.methods import METHODS
from o2okit.training import RunSpec, protocol

DATA = scripted(transitions=500)
BASE = {
    "task": "toy-maze",
    "backbone": "cql-discrete",
    "phase": "offline",
    "steps": 10,
    "seed": 0,
    "dataset": DATA,
}


ANT = {"task": "ant", "backbone": "sac", "phase": "online", "dataset": None, "replay": "online"}
HOPPER = {"task": "hopper", "dataset": None, "replay": "online"}
HOPPER_DATA = {"task": "hopper", "dataset": hopper_data(20)}
WIDE = types.SimpleNamespace(name="wide", observations=np.zeros((1, 111)))


def spec(**changes) -> RunSpec:
    online = {"replay": "mixed"} if changes.get("phase") == "online" else {}
    return RunSpec(**{**BASE, **online, **changes})


def test_the_id_is_stable_and_complete():
    assert spec().id == spec().id == spec(hyper={"alpha": 3.0}).id == spec(hyper={"alpha": 3}).id
    others = [
        spec(seed=1),
        spec(steps=11),
        spec(hyper={"alpha": 1.0}),
        spec(hyper={"hidden": [64]}),
        spec(backbone="dqn"),
        spec(phase="online", method="rnd"),
        spec(phase="online", method="rnd", method_hyper={"beta": 1.0}),
        spec(dataset=scripted(transitions=500, seed=1)),
        spec(eval_every=7),
        spec(eval_episodes=2),
        spec(phase="online"),
        spec(phase="online", replay="half"),
        spec(phase="online", capacity=5),
        spec(phase="online", updates_per_step=2),
        spec(phase="online", update_every=2),
        spec(phase="online", keep_replay=True),
        spec(phase="online", start=spec()),
        spec(phase="online", start=spec(seed=5)),
        spec(snapshot_every=5),
        spec(learning_starts=3),
    ]
    ids = {spec().id, *(other.id for other in others)}
    assert len(ids) == 1 + len(others)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"learning_starts": 10},
            "10 steps, and the first update comes after 10 (learning_starts)",
        ),
        ({"backbone": "cql", "method": "pex", **HOPPER}, "after 5000 (method 'pex')"),
        ({"backbone": "iql", "method": "gde", **HOPPER}, "after 5000 (method 'gde')"),
    ],
)
def test_a_run_without_an_update_is_refused(changes, words):
    with pytest.raises(UserError) as error:
        spec(phase="online", **changes)
    assert words in str(error.value)
    assert spec(phase="online", **changes | {"steps": 5_001}).steps == 5_001


def test_updates_that_are_due_too_late_are_none():
    late = {"phase": "online", "learning_starts": 10, "update_every": 100}
    with pytest.raises(
        UserError, match=r"60 steps, .* after 10 \(learning_starts\), then every 100"
    ):
        spec(steps=60, **late)
    assert spec(steps=101, **late).steps == 101, "at step 100"


@pytest.mark.parametrize("method", ["const", "qcse", "rnd-bonus", "se", "vae-bonus", "vcse"])
def test_a_method_that_never_begins_is_refused(method):
    run = {"phase": "online", "backbone": "td3+bc", "method": method, **HOPPER}
    for short in ({"steps": 999}, {"steps": 2_000, "capacity": 999}):
        with pytest.raises(
            UserError, match=r"begins with 1000 transitions .* holds 999 .*\{'start': \.\.\.\}"
        ):
            spec(**run, **short)
        assert spec(**run, **short, method_hyper={"start": 999}).method == method
    assert spec(**run, steps=1_000).steps == 1_000
    with pytest.raises(UserError, match="which holds 901"):
        spec(**run, steps=1_000, update_every=100)


def test_numbers_may_be_numpys():
    ours = spec(steps=20, seed=3, hyper={"alpha": 1.5, "hidden": (8, 8)})
    theirs = spec(
        steps=np.int64(20),
        seed=np.uint8(3),
        hyper={"alpha": np.float32(1.5), "hidden": list(np.array([8, 8]))},
    )
    assert theirs.id == ours.id
    assert type(theirs.steps) is int


def test_what_cal_ql_computes_once_for_all_runs_sets_cohorts_apart():
    runs = [spec(backbone="cal-ql", hyper={"discount": d}, **HOPPER_DATA) for d in (0.9, 0.99)]
    assert runs[0].cohort != runs[1].cohort
    weights = [spec(backbone="cal-ql", hyper={"weight": w}, **HOPPER_DATA) for w in (1.0, 5.0)]
    assert weights[0].cohort == weights[1].cohort


def test_a_method_whose_change_is_never_asked_for_is_refused(monkeypatch):
    """A loss that silently stays the backbone's own would be a wrong result."""

    class Weighted(METHODS["naive"]):
        def critic_loss(self, batch, target, own):
            return own()

    monkeypatch.setitem(METHODS, "weighted", Weighted)
    for backbone in ("iql", "td3+bc", "awac", "sac"):
        assert spec(phase="online", backbone=backbone, method="weighted", **HOPPER)
    for backbone in ("cql", "cal-ql", "cql-ensemble", "bc"):
        with pytest.raises(UserError, match=f"the critic_loss, which '{backbone}' never asks for"):
            spec(phase="online", backbone=backbone, method="weighted", **HOPPER)
    with pytest.raises(UserError, match="it asks for actor_loss"):
        spec(phase="online", method="weighted")


def test_who_imitates_learns_nothing_from_scratch():
    with pytest.raises(UserError, match="'bc' imitates"):
        protocol.scratch("hopper", "bc", 100, 0, random_steps=10)


def test_a_new_version_of_an_algorithm_gets_new_ids(monkeypatch):
    before = spec().id
    monkeypatch.setattr(DiscreteCQL, "version", DiscreteCQL.version + 1)
    assert spec().id != before


def test_runs_that_start_differently_are_no_cohort():
    """Only agents with equal counters can be stacked."""
    keys = {
        spec(phase="online").cohort,
        spec(phase="online", start=spec()).cohort,
        spec(phase="online", start=spec(steps=20)).cohort,
        spec(phase="online", start=spec(phase="online", start=spec())).cohort,
    }
    assert len(keys) == 4
    sweep = spec(phase="online", start=spec(seed=4, hyper={"alpha": 1.0}), seed=4)
    assert sweep.cohort == spec(phase="online", start=spec()).cohort


def test_every_field_is_described():
    later = {"eval_starts": "fixed", "ant_obs": 27, "update_every": 4, "part_episodes": 9}
    full = RunSpec("ant", "sac", "online", 10, 0, replay="online", **later)
    described = set(full.describe()) - {"versions"}
    assert described == {field.name for field in dataclasses.fields(RunSpec)}
    text = json.dumps(spec(hyper={"huber_delta": float("inf")}).describe(), allow_nan=False)
    assert '"huber_delta": "inf"' in text


def test_a_later_field_changes_no_older_id():
    """What is described of a run that does not use them is what was described before there were any."""
    assert not {"eval_starts", "ant_obs", "update_every"} & set(spec().describe())
    assert spec(eval_starts="fresh", ant_obs=111, update_every=1).id == spec().id
    others = {spec(**ANT, **later).id for later in ({}, {"eval_starts": "fixed"}, {"ant_obs": 27})}
    assert len(others) == 3
    cohorts = {spec(**ANT, eval_starts=starts).cohort for starts in ("fresh", "fixed")}
    assert len(cohorts) == 2, "the starts of a cohort's evaluations are its first run's"


def test_a_later_hyper_parameter_changes_no_older_id():
    assert "critic_norm" not in spec(**ANT).describe()["hyper"]
    assert spec(**ANT, hyper={"critic_norm": "none"}).id == spec(**ANT).id
    normed = spec(**ANT, hyper={"critic_norm": "before"})
    assert normed.describe()["hyper"]["critic_norm"] == "before"
    assert normed.cohort != spec(**ANT).cohort
    with pytest.raises(UserError, match="same networks"):
        spec(**ANT, start=normed)


def test_so_it_is_for_methods(monkeypatch):
    """One that comes to a method later."""
    before = spec(phase="online", replay="mixed", method="qdagger")
    known = METHODS["qdagger"].Hyperparameters
    extra = ("extra", str, hyper.choice("a", "b", source="", later=True))
    wider = dataclasses.make_dataclass("Wider", [extra], bases=(known,), frozen=True)
    monkeypatch.setattr(METHODS["qdagger"], "Hyperparameters", wider)
    again = spec(phase="online", replay="mixed", method="qdagger")
    other = spec(phase="online", replay="mixed", method="qdagger", method_hyper={"extra": "b"})
    assert again.id == before.id != other.id


def test_the_committed_cell_keeps_its_ids():
    """The id is the hash of what is described: as long as nothing is added there, it stays."""
    cells = Path(__file__).parents[2] / "figures" / "cells"
    (committed,) = cells.glob("hopper-medium-v2.iql.naive.*.json")
    before = json.loads(committed.read_text())
    described = next(run for run in before["runs"].values() if run["phase"] == "offline")
    data = types.SimpleNamespace(**described["dataset"], observations=np.zeros((1, 11)))
    data.hash = data.sha256
    again = {key: described[key] for key in described if key not in ("versions", "dataset")}
    now = RunSpec(**again, dataset=data).describe()
    assert now | {"versions": 0} == described | {"versions": 0}


def test_a_cohort_shares_all_but_seeds_and_per_run_values():
    start = spec()
    one = spec(phase="online", start=start)
    assert (
        one.cohort == spec(phase="online", start=spec(seed=3), seed=3, hyper={"alpha": 0.0}).cohort
    )
    for other in (
        spec(phase="online", hyper={"lr": 1e-4}, start=start),
        spec(phase="online", hyper={"hidden": [64, 64]}),
        spec(phase="online", steps=11, start=start),
        spec(phase="online", method="rnd", start=start),
        spec(),
    ):
        assert other.cohort != one.cohort


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "toy-mase"}, "Did you mean 'toy-maze'"),
        ({"backbone": "cqll"}, "unknown backbone"),
        ({"backbone": "cql"}, "Allowed: cql-discrete, dqn"),
        ({"method": "rnf"}, "Did you mean 'rnd'"),
        ({"phase": "of"}, "Allowed: offline, online"),
        ({"replay": "halve"}, "Allowed: offline, online, mixed, half"),
        ({"replay": "mixed"}, "draws from its dataset"),
        ({"dataset": None}, "needs a dataset"),
        ({"steps": 0}, "steps must be a whole number >= 1"),
        ({"seed": -1}, "seed must be a whole number >= 0"),
        ({"seed": True}, "seed must be"),
        ({"steps": 1.5}, "steps must be"),
        ({"phase": "online", "start": spec(backbone="dqn")}, "one of the same backbone"),
        ({"phase": "online", "start": spec(hyper={"hidden": [8]})}, "the same networks"),
        ({"hyper": {"apha": 1}}, "Did you mean 'alpha'"),
        ({"method_hyper": {"beta": 1}}, "none exist"),
        ({"update_every": 2}, "an offline step is one update"),
        ({"phase": "online", "updates_per_step": 2, "update_every": 4}, "must be 1; got 2 and 4"),
        ({"eval_starts": "fixt"}, "Did you mean 'fixed'"),
        ({"ant_obs": 27}, "27 for ant's tasks.* got 27 for 'toy-maze'"),
        ({**ANT, "ant_obs": 29}, "got 29 for 'ant'"),
        ({**ANT, "ant_obs": 27.0}, r"ant_obs must be a whole number >= 1; got 27\.0"),
        ({"method": "rnd"}, "'rnd' is one of fine-tuning: an offline run has method='naive'"),
        ({"task": ["toy-maze"]}, r"unknown task \['toy-maze'\]"),
        ({"backbone": ["cql"]}, r"unknown backbone \['cql'\]"),
        ({"hyper": "x"}, "are a dictionary .* got 'x'"),
        ({"hyper": {"hidden": 16}}, r"takes a list of whole numbers, e\.g\. .* got 16"),
        ({"hyper": {"alpha": 10**400}}, "alpha must be finite"),
        ({**ANT, "ant_obs": 27, "start": spec(**ANT)}, "the same ant_obs: this one has 27"),
        ({**ANT, "backbone": "iql", "replay": "mixed", "dataset": WIDE, "ant_obs": 27}, "111 .*27"),
    ],
)
def test_mistakes_are_refused_with_what_is_allowed(changes, message):
    with pytest.raises(UserError, match=message):
        spec(**changes)


def test_misspelt_names_are_refused_wherever_runs_are_described():
    start = RunSpec("toy-maze", "cql-discrete", "offline", 10, 0, dataset=DATA)
    for call in (
        lambda: protocol.offline("toy-maze", "cql-discret", DATA, 10, 0),
        lambda: protocol.online(start, "naive", 10, backbone="cql-discret"),
        lambda: protocol.scratch("toy-maze", "cql-discret", 10, 0, random_steps=1),
    ):
        with pytest.raises(UserError, match=r"unknown backbone 'cql-discret'\. Did you mean"):
            call()
    with pytest.raises(UserError, match="unknown method 'gdee'"):
        protocol.online(start, "gdee", 10)
