"""Atari games on the real emulator."""

import numpy as np
import pytest

from o2okit.streams import generator
from o2okit.tasks import TASKS, Key, normalised_score, tasks_of
from o2okit.tasks import task as find_task

atari = pytest.importorskip("o2okit.tasks.atari", reason="ale-py is not installed")
GAMES = [task.name for task in tasks_of("atari")]
ASTERIX = find_task("atari-asterix")


def played(env, steps, seed=0):
    """Observations, rewards and ends of random actions that depend on the seed alone."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(steps):
        actions = rng.integers(env.single_action_space.n, size=env.num_envs)
        obs, reward, terminated, truncated, info = env.step(actions)
        rows.append((obs, info["final_obs"], reward, terminated, truncated))
    return [np.stack(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("name", GAMES)
def test_the_table_has_each_games_sizes(name):
    task = TASKS[name]
    env = task.vector([Key(0, "test")])
    assert (env.single_action_space.n, env.images.shape[1:]) == (task.act_size, task.image)
    obs, _ = env.reset()
    assert obs.dtype == np.uint8
    assert obs.any()
    assert (obs[:, 1:] == obs[:, :1]).all(), "an episode begins with one image, four times"


def test_shrinking_is_the_mean_over_areas():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, size=(210, 160), dtype=np.uint8)
    # 84 = 2 * 42: the image blown up until a pixel is a whole number of copies, then averaged.
    large = image.astype(float).repeat(2, 0).repeat(21, 1)  # 420 x 3360 = 84 * (5 x 40)
    wanted = large.reshape(84, 5, 84, 40).mean((1, 3))
    assert np.abs(atari.shrink(image) - wanted).max() <= 0.5 + 1e-3
    assert (atari.shrink(np.full((250, 160), 7, dtype=np.uint8)) == 7).all()


def test_a_game_depends_on_its_key_its_number_and_the_actions_alone():
    keys = [Key(0, "a"), Key(1, "a"), Key(0, "b"), Key(0, "a")]
    env = ASTERIX.vector(keys)
    env.reset()
    obs, *_ = moves = played_alike(env, 60)
    assert (obs[:, 0] == obs[:, 3]).all()
    assert (obs[:, 0] != obs[:, 1]).any()
    assert (obs[:, 0] != obs[:, 2]).any()
    alone = ASTERIX.vector(keys[1:2])
    alone.reset()
    again = played_alike(alone, 60)
    assert all((a[:, 1] == b[:, 0]).all() for a, b in zip(moves, again, strict=True))
    first = obs[0, 0]
    env.reset()
    assert (played_alike(env, 60)[0][0, 0] == first).all(), "from the beginning: the first games"


def played_alike(env, steps):
    rng, rows = np.random.default_rng(0), []
    for _ in range(steps):
        actions = np.repeat(rng.integers(env.single_action_space.n), env.num_envs)
        obs, reward, terminated, truncated, _ = env.step(actions)
        rows.append((obs, reward, terminated, truncated))
    return [np.stack(column) for column in zip(*rows, strict=True)]


def test_a_quarter_of_the_frames_repeats_the_action_before(monkeypatch):
    env = find_task("atari-pong").vector([Key(0, "test")])
    env.reset()
    frames = []

    class Recorder:
        def __init__(self, emulator):
            self.emulator = emulator

        def __getattr__(self, name):
            return getattr(self.emulator, name)

        def act(self, action):
            frames.append(env.moves.index(action))
            return self.emulator.act(action)

    env.emulators[0] = Recorder(env.emulators[0])
    for step in range(300):
        env.step(np.array([step % 2]))
    first = np.array(frames).reshape(300, 4)[:, 0]
    assert len(frames) == 1_200, "four frames per action"
    held = (first != np.arange(300) % 2).mean()
    assert held == pytest.approx(0.25, abs=0.08)
    dice = generator(0, "test", 0).random(1_200).reshape(300, 4)
    stays = dice[1:] < atari.STICKY
    assert ((first[1:] == np.arange(1, 300) % 2) | stays[:, 0]).all()


def test_the_newest_image_is_the_larger_of_the_last_two_frames():
    env = find_task("atari-pong").vector([Key(0, "test")])
    before, _ = env.reset()
    twin = env._emulator("pong")
    dice = generator(0, "test", 0)
    for action in (2, 3, 2, 1):
        obs, *_ = env.step(np.array([action]))
        frames = []
        for sticky in dice.random(4):
            held = env.moves[action] if sticky >= 0.25 else held  # noqa: F821
            twin.act(held)
            frames.append(twin.getScreenGrayscale())
        newest = np.maximum(frames[-2], frames[-1])
        assert (obs[0, -1] == atari.shrink(newest)).all()
        assert (obs[0, :-1] == before[0, 1:]).all()
        before = obs


def test_an_episode_ends_when_the_game_is_over_and_the_next_begins():
    env = ASTERIX.vector([Key(0, "test"), Key(1, "test")])
    env.reset()
    obs, final, reward, terminated, truncated = played(env, 600)
    assert terminated.any()
    assert not truncated.any()
    assert reward.sum() > 0
    step, run = np.argwhere(terminated)[0]
    assert (obs[step, run] != final[step, run]).any()
    assert (obs[step, run, 1:] == obs[step, run, :1]).all()
    assert (obs[step + 1, run, -1] == final[step + 1, run, -1]).all()
    assert env.episode[run] == 1 + terminated[:, run].sum()


def test_an_episode_is_cut_off_at_the_horizon_and_a_mask_begins_the_next():
    env = ASTERIX.vector([Key(0, "test")], horizon=5)
    env.reset()
    *_, terminated, truncated = played(env, 11)
    assert np.flatnonzero(truncated).tolist() == [4, 9]
    assert not terminated.any()
    env.reset(options={"reset_mask": np.array([True])})
    assert (env.elapsed[0], env.episode[0]) == (0, 4)


def test_those_that_rest_do_not_move():
    env = ASTERIX.vector([Key(0, "test"), Key(1, "test")])
    obs, _ = env.reset()
    after, reward, *_ = env.step(np.array([1, 1]), np.array([True, False]))
    assert (after[1] == obs[1]).all()
    assert (env.elapsed.tolist(), reward[1]) == ([1, 0], 0)


# Q*bert draws parts of its image only in every other frame: no emulator's state holds all of it.
@pytest.mark.parametrize("name", ["atari-qbert", "atari-breakout"])
def test_a_game_goes_on_where_it_was_saved(name):
    keys = [Key(0, "test"), Key(1, "test")]
    env, again = (TASKS[name].vector(keys) for _ in range(2))
    env.reset()
    played(env, 130)
    state = {key: value.copy() for key, value in env.state().items()}
    assert (again.load_state(state) == env.images).all()
    ours, theirs = played(env, 60, seed=5), played(again, 60, seed=5)
    assert all((a == b).all() for a, b in zip(ours, theirs, strict=True))


def test_scores_are_human_normalised():
    assert normalised_score("atari-pong", np.array([-20.7, 14.6])).tolist() == [0.0, 100.0]
