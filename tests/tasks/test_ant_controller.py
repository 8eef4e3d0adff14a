"""The floor on which the controller of the kit's AntMaze data learns to walk."""

import numpy as np
import pytest

from o2okit.tasks import Key, task
from o2okit.tasks.ant_controller import INTERVAL, AntController
from o2okit.tasks.antmaze import MAZES, AntMaze


def make(n=1, horizon=1000, stream="a"):
    return AntController([Key(seed, stream) for seed in range(n)], horizon)


def test_the_ant_is_antmazes_without_walls():
    floor, maze = make(2), AntMaze([Key(0, "a"), Key(1, "a")], MAZES["antmaze-umaze"])
    assert floor.model.ngeom == 14
    first, maze_first = floor.reset()[0], maze.reset()[0]
    assert first.shape == (2, 29)
    np.testing.assert_array_equal(first[:, :27], maze_first[:, 2:])
    for step in range(5):  # no wall is in reach
        action = np.tile(np.sin(0.3 * step + np.arange(8)), (2, 1))
        obs, maze_obs = floor.step(action)[0], maze.step(action)[0]
        np.testing.assert_array_equal(obs[:, :27], maze_obs[:, 2:])


def test_the_reward_is_the_distance_along_the_direction():
    env = make(3)
    obs, _ = env.reset()
    for action in np.random.default_rng(0).uniform(-1, 1, (20, 3, 8)):
        direction, before = obs[:, 27:].astype(float), env.qpos[:, :2].copy()
        obs, reward, *_ = env.step(action)
        expected = ((env.qpos[:, :2] - before) * direction).sum(1)
        np.testing.assert_allclose(reward, expected, atol=1e-7)
        assert np.abs(reward).min() > 1e-6


def test_directions_are_unit_vectors_all_around_and_change_every_hundred_steps():
    env = make(300)
    first, _ = env.reset()
    unit = first[:, 27:]
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(unit.mean(0), 0, atol=0.12)
    np.testing.assert_allclose(unit.std(0), np.sqrt(0.5), atol=0.05)
    assert env.headings.shape == (300, 11)

    env = make(2)
    shown = [env.reset()[0][:, 27:]]
    for step in range(1, 2 * INTERVAL + 1):
        env.place(0, env.init_qpos, env.init_qvel)  # nobody falls
        env.place(1, env.init_qpos, env.init_qvel)
        shown.append(env.step(np.zeros((2, 8)))[0][:, 27:])
        changed = (shown[-1] != shown[-2]).any(axis=1)
        assert changed.tolist() == [step % INTERVAL == 0] * 2


def test_the_direction_depends_on_key_episode_and_elapsed_alone():
    env, other = make(2), make(1)
    env.reset(), other.reset()
    for action in np.random.default_rng(0).uniform(-1, 1, (5, 2, 8)):
        env.step(action)
    np.testing.assert_array_equal(env.headings[:1], other.headings)
    first = env.headings.copy()
    env.elapsed[:] = env.horizon - 1
    _, _, _, truncated, info = env.step(np.zeros((2, 8)))
    assert truncated.all()
    assert (env.headings != first).all()
    # The successor of the last step looks ahead in the old episode.
    ahead = np.stack([np.cos(first[:, -1]), np.sin(first[:, -1])], axis=1)
    np.testing.assert_allclose(info["final_obs"][:, 27:], ahead, atol=1e-6)


def test_a_restored_episode_changes_its_direction_as_it_would_have():
    env, other = make(2), make(2, stream="b")
    env.reset(), other.reset()
    env.elapsed[:] = INTERVAL - 2
    other.load_state(env.state())
    for action in np.random.default_rng(1).uniform(-1, 1, (4, 2, 8)):
        one, two = env.step(action), other.step(action)
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])


@pytest.mark.parametrize(
    ("height", "fallen"), [(0.1, True), (1.5, True), (0.3, False), (0.9, False)]
)
def test_a_fall_terminates(height, fallen):
    env = make()
    env.reset()
    pose = env.init_qpos.copy()
    pose[2] = height
    env.qpos[0] = pose
    _, terminated, outcome = env.reward(env.qpos[:, :2], np.zeros((1, 8)))
    assert (terminated.tolist(), outcome.tolist()) == ([fallen], [0])


def test_it_is_an_environment_without_data_or_scores():
    found = task("ant-controller")
    assert (found.quality, found.reference, found.dataset_file) == (None, None, None)
    assert isinstance(found.vector([Key(0, "a")]), AntController)
