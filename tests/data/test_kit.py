"""Kit datasets: D4RL's recipes rolled out in the real environment by policies written for the test."""

import itertools
import json

import numpy as np
import pytest
import torch

from o2okit.data import d4rl, kit, policies, sources
from o2okit.data.hdf5 import read_rows
from o2okit.data.policies import Snapshot, ladder, write_ladder
from o2okit.errors import UserError
from o2okit.revision import commit
from o2okit.tasks import Key, task

HOPPER = task("hopper-medium-v2")


def snapshot(step: int, seed: int, sizes: tuple[int, ...] = (11, 8, 8, 6)) -> Snapshot:
    rng = torch.Generator().manual_seed(seed)
    layers = tuple(
        (torch.randn(b, a, generator=rng) / a, torch.zeros(b)) for a, b in itertools.pairwise(sizes)
    )
    scores = {
        "mean": 10.0 * step,
        "std": 1.0,
        "min": 0.0,
        "max": 20.0,
        "length": 20.0,
        "episodes": 5,
    }
    return Snapshot(step, layers, scores)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A ladder of three snapshots; ``expert`` is not reached."""
    monkeypatch.setattr(policies, "FOLDER", tmp_path)
    roles = {"medium": [{"step": 1, "share": 0.25}, {"step": 2, "share": 0.75}]}
    snapshots = [snapshot(step, step) for step in (1, 2, 3)]
    record = {"roles": roles, "run": {"learning_starts": 0.5}}
    write_ladder("hopper", snapshots, record, tmp_path)
    return snapshots


def test_other_roles_of_the_same_snapshots_make_other_data(shipped, tmp_path):
    first = ladder("hopper")
    made = {"policies_sha256": first.hash, "task_version": task("hopper-medium-v2").version}
    assert kit.outdated("hopper-medium-v2", made) == ""
    record = {**first.record, "roles": {"medium": [{"step": 1, "share": 1.0}]}}
    write_ladder("hopper", shipped, record, tmp_path)
    assert "other policies" in kit.outdated("hopper-medium-v2", made)


def test_a_ladder_comes_back_as_it_was_rounded(shipped):
    found = ladder("hopper")
    assert [rung.step for rung in found.snapshots] == [1, 2, 3]
    for ours, theirs in zip(shipped, found.snapshots, strict=True):
        assert theirs.scores == ours.scores
        for (w, b), (v, c) in zip(ours.layers, theirs.layers, strict=True):
            assert (w.half().float() == v).all()
            assert (b.half().float() == c).all()
    assert policies.ladders() == ["hopper"]
    assert len(found.hash) == 64
    with pytest.raises(UserError, match=r"no behaviour policies for 'ant'; it has them for hopper"):
        ladder("ant")
    with pytest.raises(UserError, match=r"do not reach 'expert' yet: the best of them reaches 30 "):
        found.role("expert")


@pytest.mark.parametrize("damage", ["no record", "no JSON", "cut off", "too few", "too many"])
def test_a_damaged_ladder_is_named(shipped, tmp_path, damage):
    weights, record = (tmp_path / f"hopper.{ending}" for ending in ("safetensors", "json"))
    if damage == "no record":
        record.unlink()
    elif damage == "no JSON":
        record.write_text("{")
    elif damage == "cut off":
        weights.write_bytes(weights.read_bytes()[:-10])
    else:
        described = json.loads(record.read_text())
        rows = described["snapshots"]
        described["snapshots"] = (
            rows[:2] if damage == "too few" else [*rows, {**rows[0], "step": 9}]
        )
        record.write_text(json.dumps(described))
    with pytest.raises(UserError, match=r"policies for 'hopper' are damaged.*install o2okit again"):
        ladder("hopper")


def test_the_policy_is_a_tanh_gaussian_and_ignores_padding(shipped):
    rung, obs = shipped[0], torch.randn(7, 11)
    h = obs
    for weight, bias in rung.layers[:-1]:
        h = torch.relu(h @ weight.T + bias)
    mean, log_std = (h @ rung.layers[-1][0].T + rung.layers[-1][1]).chunk(2, -1)
    noise = torch.randn(7, 3)
    expected = torch.tanh(mean + log_std.exp() * noise)
    assert torch.allclose(rung.sample(obs, noise), expected, atol=1e-6)
    padded = torch.cat([obs, torch.zeros(7, 84)], dim=1)
    assert torch.allclose(rung.sample(padded, noise), expected, atol=1e-6)


def test_recipes(shipped):
    policies_ = ladder("hopper")
    label = "SAC at {} steps".format
    parts = {
        name: [(part.label, part.share) for part in kit.recipe(name, policies_)]
        for name in ("random", "medium", "medium-replay")
    }
    assert parts["random"] == [("random", 1.0)]
    assert parts["medium"] == [(label(1), 0.25), (label(2), 0.75)]
    # Uniform until the first update at 0.5, the first until 1.5, the second until medium at 2.
    assert parts["medium-replay"] == [("random", 0.25), (label(1), 0.5), (label(2), 0.25)]
    with pytest.raises(UserError, match="do not reach 'expert'"):
        kit.recipe("medium-expert", policies_)


def test_each_shipped_snapshot_up_to_medium_stands_for_the_steps_around_it():
    """Hopper's lie at 10, 70, 100 and 110 thousand; updates begin at 1: edges at 1, 40, 85, 105, 110."""
    parts = kit.recipe("medium-replay", ladder("hopper"))
    shares = [1 / 110, 39 / 110, 45 / 110, 20 / 110, 5 / 110]
    assert [part.share for part in parts] == pytest.approx(shares)
    assert [part.snapshot and part.snapshot.step for part in parts] == [
        *(None, 10_000, 70_000, 100_000, 110_000)
    ]


def test_medium_expert_is_half_and_half(tmp_path, monkeypatch):
    monkeypatch.setattr(policies, "FOLDER", tmp_path)
    roles = {"medium": [{"step": 1, "share": 1.0}], "expert": [{"step": 2, "share": 1.0}]}
    write_ladder("hopper", [snapshot(1, 1), snapshot(2, 2)], {"roles": roles}, tmp_path)
    parts = kit.recipe("medium-expert", ladder("hopper"))
    assert [(part.snapshot.step, part.share) for part in parts] == [(1, 0.5), (2, 0.5)]


def test_a_rollout_is_made_of_whole_true_episodes():
    told = []
    fields = kit.collect(HOPPER, None, 4_500, seed=3, stream="test", progress=told.append)
    rows = len(fields["rewards"])
    assert rows >= 4_500
    assert sum(told) == rows
    ends = fields["terminals"] | fields["timeouts"]
    assert ends[-1]
    inside = np.flatnonzero(~ends)
    assert (fields["next_observations"][inside] == fields["observations"][inside + 1]).all()
    # The first episode of the first environment, stepped again by hand.
    env = HOPPER.vector([Key(3, "test/start/0")])
    obs, _ = env.reset()
    for i in range(int(np.flatnonzero(ends)[0]) + 1):
        assert (fields["observations"][i] == obs[0]).all()
        obs, reward, terminated, _, info = env.step(fields["actions"][i : i + 1])
        assert fields["rewards"][i] == reward[0]
        assert fields["terminals"][i] == terminated[0]
        assert (fields["next_observations"][i] == info["final_obs"][0]).all()
    assert fields["actions"].min() < -0.95
    assert np.abs(fields["actions"].mean(0)).max() < 0.05


def test_building_twice_gives_the_same_file_and_another_seed_another(shipped, tmp_path):
    first, again, other = (
        kit.build("hopper-medium-v2", 3_000, tmp_path / f"{name}.hdf5", seed=seed)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first.read_bytes() == again.read_bytes()
    a, c = (read_rows(path, HOPPER) for path in (first, other))
    assert (a.observations[:100] != c.observations[:100]).any()
    assert len(a) == 3_000
    assert not (a.terminals | a.timeouts)[-1], "the file is full in the middle of an episode"
    made = json.loads(json.dumps(dict(a.provenance)))
    assert made["name"] == "kit-hopper-medium-v2"
    assert [part["share"] for part in made["parts"]] == [0.25, 0.75]
    assert made["policies_sha256"] == ladder("hopper").hash
    ends = np.flatnonzero(a.terminals | a.timeouts)
    returns = [part.sum() for part in np.split(a.rewards.astype(float), ends + 1)[:-1]]
    assert made["return_mean"] == pytest.approx(np.mean(returns), rel=1e-4)
    data = d4rl.read(first, HOPPER, source="kit")
    assert len(data) == 3_000 - 1 - int(a.timeouts[:-1].sum())


def test_every_part_has_its_share_of_the_rows_and_ends_with_a_mark(shipped, tmp_path):
    """Episodes of 1,000 steps do not fit the shares: what overruns is cut, nobody loses rows."""
    write_ladder(
        "halfcheetah",
        [Snapshot(step, _wide(rung.layers), rung.scores) for step, rung in enumerate(shipped, 1)],
        {"roles": {"medium": [{"step": 2, "share": 1.0}]}, "run": {"learning_starts": 0.5}},
        tmp_path,
    )
    rows = read_rows(
        kit.build("halfcheetah-medium-replay-v2", 6_000, tmp_path / "x.hdf5"),
        task("halfcheetah-medium-replay-v2"),
    )
    assert len(rows) == 6_000
    ends = np.flatnonzero(rows.timeouts) + 1
    assert {1_500, 4_500} <= set(ends.tolist()), "the parts end at 25 % and 75 %"
    uniform, learnt = np.abs(rows.actions[:1_500]).mean(), np.abs(rows.actions[4_500:]).mean()
    assert uniform == pytest.approx(0.5, abs=0.01)
    assert learnt != pytest.approx(0.5, abs=0.01)
    assert not rows.terminals.any()


def _wide(layers):
    """Hopper's layers for halfcheetah's 17 observations and 6 actions."""
    (first, bias), *middle, _ = layers
    rng = torch.Generator().manual_seed(0)
    return (
        (torch.cat([first, first[:, :6]], dim=1), bias),
        *middle,
        (torch.randn(12, 8, generator=rng) / 8, torch.zeros(12)),
    )


def test_a_file_of_other_policies_is_outdated(shipped, tmp_path):
    made = read_rows(kit.build("hopper-medium-v2", 2_000, tmp_path / "a.hdf5"), HOPPER).provenance
    assert kit.outdated("hopper-medium-v2", made) == ""
    assert "environment" in kit.outdated("hopper-medium-v2", {**made, "task_version": 0})
    assert made["commit"] == commit()
    record = {"roles": {}, "run": {"learning_starts": 0.5}}
    write_ladder("hopper", shipped[:2], record, tmp_path)
    assert "other policies" in kit.outdated("hopper-medium-v2", made)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("hopper-random-v2", 1),
        ("hopper-medium-v2", 1),
        ("hopper-medium-expert-v2", 1),
        ("hopper-medium-replay-v2", 2),
        ("antmaze-umaze-v0", 2),
        ("antmaze-umaze-diverse-v2", 2),
        ("antmaze-large-play-v2", 2),
    ],
)
def test_only_files_of_a_recipe_that_has_changed_are_outdated(name, version):
    where = task(name)
    ladder_ = kit.COLLECTIONS[where.family].policies(where)
    first = {"policies_sha256": ladder_ and ladder_.hash, "task_version": where.version}
    assert ("recipe has changed" in kit.outdated(name, first)) == (version > 1)
    assert kit.outdated(name, {**first, "recipe_version": version}) == ""
    assert "recipe" in kit.outdated(name, {**first, "recipe_version": version + 1})


def test_a_time_out_is_marked_as_one(tmp_path):
    """HalfCheetah never terminates: every episode has 1,000 steps."""
    fields = kit.collect(task("halfcheetah"), None, 2_000, seed=0, stream="test")
    assert not fields["terminals"].any()
    assert np.flatnonzero(fields["timeouts"]).tolist() == [999, 1999]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hopper", "hopper names an environment"),
        ("toy-maze", "toy-maze names an environment"),
        ("walker2d-medium-v2", "no behaviour policies for 'walker2d'"),
    ],
)
def test_what_cannot_be_built_is_named(shipped, name, message, tmp_path):
    with pytest.raises(UserError, match=message):
        kit.build(name, 2_000, tmp_path / "x.hdf5")
    assert not list(tmp_path.glob("*.hdf5"))


def test_the_pens_data_are_the_kits_own_and_come_from_every_snapshot(tmp_path, monkeypatch):
    monkeypatch.setattr(policies, "FOLDER", tmp_path)
    monkeypatch.setenv("O2OKIT_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match="no behaviour policies for 'pen'"):
        kit.build("pen-mixed", 100, tmp_path / "none.hdf5")
    with pytest.raises(UserError, match=r"no recipe for .pen-cloned-v1.*and pen-mixed"):
        kit.build("pen-cloned-v1", 100, tmp_path / "none.hdf5")
    rungs = [snapshot(step, step, (45, 8, 48)) for step in (1, 2)]
    write_ladder("pen", rungs, {"roles": {}, "run": {"learning_starts": 0}}, tmp_path)
    path = kit.build("pen-mixed", 200, sources.kit_file("pen-mixed", 200))
    data = sources.load("pen-mixed")
    assert path.name == "kit-pen-mixed-200.hdf5"
    assert (data.source, data.observations.shape[1], data.actions.shape[1]) == ("kit", 45, 24)
    assert data.provenance["recipe"] == "the kit's, mixed, with the kit's policies"
    assert [part["share"] for part in data.provenance["parts"]] == [0.5, 0.5]
    assert [place.source for place in sources.where("pen-mixed")] == ["kit"]
    assert "pen-mixed" in task("pen-binary-v0").note


def test_an_expert_that_came_later_is_a_ladder_of_its_own(shipped, tmp_path):
    """It collects what the first ladder does not reach, and leaves the first one's datasets as they are."""
    names = [f"hopper-{quality}-v2" for quality in ("medium", "medium-replay")]
    before = [kit.robot_policies(task(name)).hash for name in names]
    with pytest.raises(UserError, match="do not reach 'expert'"):
        kit.plan("hopper-medium-expert-v2")
    record = {"roles": {"expert": [{"step": 2, "share": 1.0}]}}
    write_ladder("hopper-expert", [snapshot(2, 7)], record, tmp_path)
    assert [kit.robot_policies(task(name)).hash for name in names] == before
    (expert,), found = kit.plan("hopper-expert-v2")
    assert (expert.snapshot.layers[0][0] == snapshot(2, 7).layers[0][0].half().float()).all()
    halves, again = kit.plan("hopper-medium-expert-v2")
    assert [(part.snapshot.step, part.share) for part in halves] == [
        (1, 0.125),
        (2, 0.375),
        (2, 0.5),
    ]
    assert found.hash == again.hash not in before
    write_ladder("hopper-expert", [snapshot(2, 8)], record, tmp_path)
    assert kit.robot_policies(task("hopper-expert-v2")).hash != found.hash
