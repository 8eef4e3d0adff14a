import json
import os
import subprocess
import sys

import numpy as np
import pytest

from o2okit.errors import UserError
from o2okit.tasks import FAMILIES, TASKS, Key, environment_of, normalised_score, task, tasks_of

ROOT = "http://rail.eecs.berkeley.edu/datasets/offline_rl/"


@pytest.fixture(scope="module")
def d4rl(tmp_path_factory):
    """What the d4rl package says: scores and addresses. It makes folders and warns: a process apart."""
    program = """
import json, d4rl.infos as i
print(json.dumps([i.REF_MIN_SCORE, i.REF_MAX_SCORE, i.DATASET_URLS]))
"""
    env = os.environ | {
        "D4RL_SUPPRESS_IMPORT_ERROR": "1",
        "D4RL_DATASET_DIR": str(tmp_path_factory.mktemp("d4rl")),
    }
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def of_d4rl():
    return [t for t in TASKS.values() if t.dataset_file]


def test_the_table_holds_every_task_under_its_own_name():
    assert {family: len(tasks_of(family)) for family in FAMILIES} == {
        "maze": 1,
        "locomotion": 4 * 6 + 1,
        "antmaze": 2 * 6,
        "adroit": 3 * 4 + 1,
        "atari": 10,
    }
    assert [name for name, found in TASKS.items() if found.name != name] == []
    assert len(of_d4rl()) == 20 + 12 + 6


def test_reference_scores_are_d4rls(d4rl):
    low, high, _ = d4rl
    assert {t.name: t.reference for t in of_d4rl()} == {
        t.name: (low[t.name], high[t.name]) for t in of_d4rl()
    }
    for environment in ("halfcheetah", "hopper", "walker2d", "ant"):
        assert task(environment).reference == task(f"{environment}-medium-v2").reference


def test_dataset_files_are_d4rls(d4rl):
    assert {t.name: ROOT + t.dataset_file for t in of_d4rl()} == {
        t.name: d4rl[2][t.name] for t in of_d4rl()
    }
    assert {t.family for t in TASKS.values() if not t.dataset_file and t.quality} == {"adroit"}


@pytest.mark.parametrize(
    ("name", "value", "score"),
    [  # specs/tasks.md 8
        ("halfcheetah-medium-v2", 4770.335, 40.6802),
        ("hopper-medium-v2", 1422.0562, 44.3170),
        ("walker2d-medium-v2", 2852.0884, 62.0924),
        ("ant-medium-v2", 3000, 79.0812),
        ("pen-expert-v1", 1000, 30.3209),
        ("door-cloned-v1", 1000, 35.9715),
        ("relocate-cloned-v1", 1000, 23.7348),
        ("halfcheetah-random-v2", -288.79712, -0.0694),
        ("antmaze-umaze-v2", 0.25, 25.0),
        ("pen-binary-v0", 0.25, 25.0),
        # specs/qcse.md 6
        ("halfcheetah-medium-v2", 6000, 50.5847),
        ("hopper-medium-v2", 3000, 92.8009),
        ("walker2d-medium-v2", 4000, 87.0977),
        ("ant-medium-v2", 5000, 126.6402),
        ("antmaze-large-diverse-v2", 0.9, 90.0),
        ("pen-cloned-v1", 2000, 63.8716),
        ("relocate-expert-v1", 100, 2.5099),
    ],
)
def test_scores(name, value, score):
    assert normalised_score(name, value) == pytest.approx(score, abs=1e-4)


def test_scores_of_arrays_keep_their_shape():
    values = np.array([[1422.0562, -20.272305], [3234.3, np.nan]])
    expected = [[44.3170, 0.0], [100.0, np.nan]]
    np.testing.assert_allclose(normalised_score("hopper", values), expected, atol=1e-4)


def test_what_can_not_be_scored_is_refused():
    with pytest.raises(
        UserError, match=r"'toy-maze' has no reference.*locomotion, antmaze, adroit"
    ):
        normalised_score("toy-maze", 1.0)
    with pytest.raises(UserError, match=r"'ant-controller' has no reference"):
        normalised_score("ant-controller", 100.0)
    with pytest.raises(UserError, match="Pass that fraction, not the return"):
        normalised_score("pen-binary-v0", -37.0)
    with pytest.raises(UserError, match="unknown task 'hoper'"):
        normalised_score("hoper", 1.0)
    with pytest.raises(UserError, match="unknown family 'ants'"):
        tasks_of("ants")


@pytest.mark.parametrize("name", [name for name, found in TASKS.items() if not found.discrete])
def test_sizes_are_those_of_the_environment(name):
    found = task(name)
    env = found.vector([Key(0, "a"), Key(1, "b")])
    assert env.single_observation_space.shape == (found.obs_size,)
    assert env.single_action_space.shape == (found.act_size,)
    assert (env.num_envs, env.horizon) == (2, found.horizon)
    obs, _ = env.reset()
    assert env.observation_space.contains(obs)


def test_notes_say_what_can_not_be_compared():
    assert [t.name for t in TASKS.values() if not t.note.endswith(".")] == []
    assert [t.name for t in TASKS.values() if (t.sparse or t.outcomes) and not t.success] == []
    assert "84 observations are 0" in task("ant-medium-v2").note
    assert "door-cloned-v1" in task("door-binary-v0").note
    assert task("antmaze-umaze-v0").note != task("antmaze-umaze-v2").note


def test_names_need_no_simulator_and_a_missing_one_is_named(monkeypatch):
    program = "import sys, o2okit.tasks; print({'mujoco', 'gymnasium_robotics'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
    monkeypatch.setitem(sys.modules, "o2okit.tasks.locomotion", None)
    with pytest.raises(UserError, match=r"not installed.*pip install 'o2okit\[data\]'"):
        task("hopper").vector([Key(0, "a")])


@pytest.mark.parametrize(
    ("name", "stands_for_it"),
    [
        ("hopper-medium-v2", "hopper"),
        ("hopper", "hopper"),
        ("antmaze-umaze-diverse-v0", "antmaze-umaze-v0"),
        ("antmaze-large-diverse-v2", "antmaze-large-play-v2"),
        ("pen-cloned-v1", "pen"),
        ("pen-binary-v0", "pen-binary-v0"),
        ("toy-maze", "toy-maze"),
    ],
)
def test_tasks_with_the_same_environment_have_one_name_for_runs_without_data(name, stands_for_it):
    assert environment_of(name) == stands_for_it
    ours, theirs = task(name), task(stands_for_it)
    assert (ours.environment, ours.horizon) == (theirs.environment, theirs.horizon)
    assert (ours.scored, ours.reference) == (theirs.scored, theirs.reference)


@pytest.mark.parametrize("name", ["toy-maze", "hopper", "antmaze-umaze-v0", "pen", "atari-pong"])
def test_every_environment_can_cut_some_episodes_off_and_go_on(name):
    """What methods with stages ask for."""
    found = task(name)
    env = found.vector([Key(0, "test"), Key(1, "test")])
    env.reset()
    shape = (2,) if found.discrete else (2, found.act_size)
    nothing = np.zeros(shape, dtype=np.int64 if found.discrete else np.float32)
    obs, *_ = env.step(nothing)
    cut, _ = env.reset(options={"reset_mask": np.array([False, True])})
    assert env.elapsed.tolist() == [1, 0]
    assert (cut[0] == obs[0]).all(), "the other goes on"
    following, *_ = env.step(nothing)
    assert env.elapsed.tolist() == [2, 1]
    assert following.shape == obs.shape
