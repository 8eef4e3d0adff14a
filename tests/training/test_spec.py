import dataclasses
import json

import pytest

from o2okit.backbones import DiscreteCQL
from o2okit.data.maze import scripted
from o2okit.errors import UserError
from o2okit.training import RunSpec

DATA = scripted(transitions=500)
BASE = {
    "task": "toy-maze",
    "backbone": "cql-discrete",
    "phase": "offline",
    "steps": 10,
    "seed": 0,
    "dataset": DATA,
}


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
        spec(method="rnd"),
        spec(method="rnd", method_hyper={"beta": 1.0}),
        spec(dataset=scripted(transitions=500, seed=1)),
        spec(eval_every=7),
        spec(eval_episodes=2),
        spec(phase="online"),
        spec(phase="online", replay="half"),
        spec(phase="online", capacity=5),
        spec(phase="online", updates_per_step=2),
        spec(phase="online", keep_replay=True),
        spec(phase="online", start=spec()),
        spec(phase="online", start=spec(seed=5)),
        spec(snapshot_every=5),
        spec(learning_starts=3),
    ]
    ids = {spec().id, *(other.id for other in others)}
    assert len(ids) == 1 + len(others)


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
    described = set(spec().describe()) - {"versions"}
    assert described == {field.name for field in dataclasses.fields(RunSpec)}
    text = json.dumps(spec(hyper={"huber_delta": float("inf")}).describe(), allow_nan=False)
    assert '"huber_delta": "inf"' in text


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
    ],
)
def test_mistakes_are_refused_with_what_is_allowed(changes, message):
    with pytest.raises(UserError, match=message):
        spec(**changes)
