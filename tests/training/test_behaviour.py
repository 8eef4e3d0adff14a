"""From a real (short) SAC run to a ladder of shipped policies."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from o2okit.data import controller
from o2okit.data.policies import Snapshot
from o2okit.errors import UserError
from o2okit.tasks import task
from o2okit.training import RunSpec, RunStore, behaviour, train


def scored(step: int, mean: float, length: float = 100.0) -> Snapshot:
    return Snapshot(step, (), {"mean": mean, "length": length})


def short_run(environment, folder):
    spec = RunSpec(
        environment,
        "sac",
        "online",
        120,
        0,
        hyper={"hidden": (8, 8), "critic_hidden": (8, 8), "batch_size": 8},
        replay="online",
        learning_starts=20,
        eval_every=60,
        snapshot_every=40,
    )
    (run,) = train([spec], store=RunStore(folder), device="cpu")
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return short_run("hopper", tmp_path_factory.mktemp("runs"))


def test_the_shipped_policy_is_the_agents(run):
    """With m and b folded in, up to float16's rounding."""
    agent, shipped = run.agent(80), behaviour.policy(run, 80)
    obs, noise = torch.randn(1, 50, 11), torch.randn(1, 50, 3)
    with torch.no_grad():
        expected = agent.policy.sample(obs, noise)
    assert (shipped.sample(obs[0], noise[0]) - expected[0]).abs().max() < 5e-3
    assert (behaviour.policy(run, 120).sample(obs[0], noise[0]) != expected[0]).any()


def test_a_ladder_is_written_with_its_record(run):
    made = {}

    def write(environment, snapshots, record):
        made.update(environment=environment, snapshots=snapshots, record=record)

    lines = []
    roles = behaviour.make_ladder(
        run, {"medium": -50.0, "expert": 1e6}, write=write, report=lines.append
    )
    assert "expert" not in roles
    assert made["record"]["roles"] == roles
    assert made["record"]["run"]["steps"] == 120
    assert [step for step, _ in made["record"]["curve"]] == [0, 60, 120]
    assert set(made["snapshots"][0].scores) == {"mean", "std", "min", "max", "length", "episodes"}
    assert any("expert: target 1e+06 (mean), not met" in line for line in lines)
    assert {each.scores["episodes"] for each in made["snapshots"]} == {behaviour.MANY}
    again = behaviour.episode_scores("hopper", behaviour.policy(run, 40))
    assert again == behaviour.episode_scores("hopper", behaviour.policy(run, 40))


def test_an_experts_own_run_ships_nothing_but_the_expert(run, monkeypatch):
    spec = behaviour.training("walker2d-expert")
    assert (spec.task, spec.seed, spec.hyper["batch_size"]) == ("walker2d", 1, 128)
    assert spec.id != behaviour.training("walker2d").id
    wanted = behaviour.targets("walker2d")["expert"]
    assert behaviour.targets("walker2d-expert") == {"expert": wanted}
    folder = run.folder.path
    with pytest.raises(UserError, match="holds a run of 'hopper', not of 'walker2d'"):
        behaviour.training_run("walker2d-expert", folder=folder)
    recipe = replace(behaviour.EXPERT, environment="hopper")
    monkeypatch.setitem(behaviour.RECIPES, "hopper-expert", recipe)
    own, made = behaviour.training_run("hopper-expert", folder=folder), {}
    assert own.spec.hyper["hidden"] == (8, 8), "as it was trained"
    best = behaviour.episode_scores("hopper", behaviour.policy(own, 80))["mean"]
    behaviour.make_ladder(
        own,
        {"expert": best},
        name="hopper-expert",
        write=lambda name, snapshots, record: made.update({name: (snapshots, record)}),
        report=lambda line: None,
    )
    snapshots, record = made["hopper-expert"]
    assert {each.step for each in snapshots} == {each["step"] for each in record["roles"]["expert"]}
    assert record["environment"] == "hopper"
    assert "data train hopper-expert &&" in record["command"]


def test_whoever_gets_a_role_is_tested_anew(run, monkeypatch):
    """The first snapshot was lucky in its first test: the role goes to the next one."""
    first = {40: 100.0, 80: 99.0, 120: 10.0}
    second = {40: 50.0, 80: 101.0, 120: 10.0}

    def scores(environment, snapshot, confirm):
        return {"mean": (second if confirm else first)[snapshot.step], "length": 9.0}

    monkeypatch.setitem(behaviour.RECIPES, "hopper", behaviour.Recipe(scores=scores))
    made = {}
    roles = behaviour.make_ladder(
        run,
        {"medium": 100.0},
        write=lambda environment, snapshots, record: made.update({s.step: s for s in snapshots}),
        report=lambda line: None,
    )
    assert roles == {"medium": [{"step": 80, "share": 1.0}]}
    assert made[80].scores["mean"] == 101.0
    once, again = (
        behaviour.episode_scores("hopper", behaviour.policy(run, 40), confirm)
        for confirm in (False, True)
    )
    assert (once["episodes"], again["episodes"]) == (behaviour.EPISODES, behaviour.MANY)
    assert once["mean"] != again["mean"]


def test_one_snapshot_close_to_the_target_is_enough_else_its_neighbours_share():
    rungs = [scored(1, 0.0, 20), scored(2, 100.0, 50), scored(3, 200.0, 100)]
    assert behaviour.shares(rungs, "mean", 96.0) == [{"step": 2, "share": 1.0}]
    low, high = behaviour.shares(rungs, "mean", 150.0)
    assert (low["step"], high["step"]) == (2, 3)
    # Half of the episodes each: rows in the ratio of their lengths, 50 to 100.
    assert high["share"] == pytest.approx(2 / 3, abs=1e-4)
    assert low["share"] + high["share"] == pytest.approx(1)
    episodes = low["share"] / 50, high["share"] / 100
    mean = np.average([100.0, 200.0], weights=episodes)
    assert mean == pytest.approx(150.0, abs=0.1)
    assert behaviour.shares(rungs, "mean", 300.0) is None
    # Nobody is close to 218 and nobody above it: the nearest, within a tenth, will do.
    assert behaviour.shares(rungs, "mean", 218.0) == [{"step": 3, "share": 1.0}]
    assert behaviour.shares(rungs, "mean", 223.0) is None
    near = [scored(1, 91.0, 20), scored(2, 94.0, 20), scored(3, 92.0, 20)]
    assert behaviour.shares(near, "mean", 100.0) == [{"step": 2, "share": 1.0}]


def test_the_rungs_rise_and_hold_every_role():
    rungs = [scored(step, float(mean)) for step, mean in enumerate([5, 50, 40, 90, 300, 800, 700])]
    kept = behaviour.rungs(rungs, {"medium": [{"step": 2, "share": 1.0}]})
    steps = [rung.step for rung in kept]
    assert steps == sorted(steps)
    assert {0, 2, 5} <= set(steps)
    assert 6 not in steps, "beyond the best nothing is learnt"
    assert len(kept) <= behaviour.RUNGS + 1


def test_a_training_without_snapshots_is_named(run, tmp_path):
    shutil.copy(run.folder.path / "spec.json", tmp_path)
    empty = behaviour.training_run("hopper", 2_000, tmp_path)
    with pytest.raises(UserError, match="no snapshots yet"):
        behaviour.make_ladder(empty, {})


def test_another_robots_run_is_no_ladder(run, tmp_path):
    assert behaviour.training_run("hopper", folder=run.folder.path).snapshots() == [40, 80, 120]
    with pytest.raises(UserError, match="holds a run of 'hopper', not of 'walker2d'"):
        behaviour.training_run("walker2d", folder=run.folder.path)
    described = json.loads((run.folder.path / "spec.json").read_text())
    other = tmp_path / "spec.json"
    other.write_text(json.dumps({**described, "backbone": "td3"}))
    with pytest.raises(UserError, match="holds a run of 'td3'; a ladder is one of 'sac'"):
        behaviour.training_run("hopper", folder=tmp_path)
    with pytest.raises(UserError, match="no run's folder"):
        behaviour.training_run("walker2d", folder=tmp_path / "typo")


def test_the_controller_is_the_best_snapshot_if_it_covers_enough_hops(tmp_path, monkeypatch):
    for name, value in (("ANTS", 2), ("HOPS", 1), ("LIMIT", 5)):
        monkeypatch.setattr(controller, name, value)
    run, made = short_run("ant-controller", tmp_path), {}

    def write(environment, snapshots, record):
        made.update(environment=environment, snapshots=snapshots, record=record)

    with pytest.raises(
        UserError, match=r"no snapshot of ant-controller is good enough.*hops up to 0"
    ):
        behaviour.make_ladder(run, {"controller": 0.8}, write=write, report=lambda line: None)
    assert made == {}
    # Nobody walks 3.5 m after 100 updates: with nothing demanded the most trained one will do.
    behaviour.make_ladder(run, {"controller": 0.0}, write=write, report=lambda line: None)
    assert [snapshot.step for snapshot in made["snapshots"]] == [120]
    assert set(made["snapshots"][0].scores) == {"hops", "steps", "falls", "tried"}
    assert made["record"]["roles"] == {"controller": [{"step": 120, "share": 1.0}]}
    assert made["record"]["measure"] == "hops"

    scores = ((1, 0.5), (2, 0.95), (3, 0.95), (4, 0.9))
    rungs = [Snapshot(step, (), {"hops": hops}) for step, hops in scores]
    assert behaviour.best_of_all(rungs, "hops", 0.8) == [{"step": 3, "share": 1.0}]
    assert behaviour.best_of_all(rungs, "hops", 0.99) is None


def test_a_behaviour_training_is_the_specs(run):
    spec = behaviour.training("hopper", 5_000)
    assert (spec.backbone, spec.replay, spec.learning_starts) == ("sac", "online", 1_000)
    assert spec.hyper["entropy_scale"] == 1.0
    assert task(spec.task).environment == "hopper"
    assert behaviour.training("hopper").steps == 1_000_000
    spec = behaviour.training("ant-controller")
    assert (spec.steps, spec.learning_starts, spec.snapshot_every) == (400_000, 10_000, 10_000)
    assert {spec.hyper[f"{part}_lr"] for part in ("actor", "critic", "alpha")} == {1e-4}
    assert (spec.hyper["entropy_scale"], spec.hyper["hidden"]) == (0.5, (256, 256))
    with pytest.raises(UserError, match="Did you mean 'ant-controller'"):
        behaviour.training("ant-controler")
