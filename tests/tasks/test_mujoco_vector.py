"""What every robot's vector has in common: keys, ends of episodes, rest, threads, checkpoints."""

import numpy as np
import pytest
import torch

from o2okit.tasks import Key
from o2okit.tasks.adroit import Door, Pen, Relocate
from o2okit.tasks.ant_controller import AntController
from o2okit.tasks.antmaze import MAZES, AntMaze
from o2okit.tasks.locomotion import Ant, HalfCheetah, Hopper, Walker2d

ROBOTS = {
    **{robot.__name__: robot for robot in (HalfCheetah, Hopper, Walker2d, Ant)},
    "AntMaze": lambda keys, horizon, **kwargs: AntMaze(
        keys, MAZES["antmaze-medium"], horizon, **kwargs
    ),
    "AntController": AntController,
    **{hand.__name__: hand for hand in (Pen, Door, Relocate)},
    "binary": lambda keys, horizon, **kwargs: Relocate(keys, horizon, binary=True, **kwargs),
}


@pytest.fixture(params=ROBOTS)
def make(request):
    return ROBOTS[request.param]


def keys(n, stream="test"):
    return [Key(seed, stream) for seed in range(n)]


def actions(env, steps, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, env.num_envs, env.model.nu))


def assert_equal(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        if isinstance(x, dict):
            assert x.keys() == y.keys()
            x, y = x.values(), y.values()
            assert_equal(list(x), list(y))
        else:
            np.testing.assert_array_equal(x, y)


def test_a_start_depends_on_the_key_alone(make):
    first, _ = make(keys(3), 10).reset()
    again, _ = make(keys(3), 10).reset(seed=77)
    np.testing.assert_array_equal(first, again)
    alone, _ = make([Key(2, "test")], 10).reset()
    np.testing.assert_array_equal(first[2:], alone)
    other, _ = make(keys(3, "other"), 10).reset()
    assert (np.abs(first - other).max(1) > 1e-4).all()
    assert (np.abs(first[:1] - first[1:]).max(1) > 1e-4).all()
    assert first.dtype == np.float32


def test_the_nth_episode_depends_on_the_key_and_n_alone(make):
    def starts(keys, seed):
        env = make(keys, 4)
        found = [env.reset()[0]]
        for action in actions(env, 12, seed):
            obs, _, terminated, truncated, _ = env.step(action)
            if truncated.all():
                found.append(obs)
            else:
                assert not terminated.any()
        return np.array(found)

    three = starts(keys(3), seed=0)
    alone = starts([Key(1, "test")], seed=1)  # other actions, other neighbours
    assert len(three) == 4
    np.testing.assert_array_equal(three[:, 1:2], alone)
    assert (np.abs(np.diff(three, axis=0)).max(-1) > 1e-4).all()


def test_reset_begins_with_the_first_episode_again(make):
    env = make(keys(2), 3)
    first, _ = env.reset()
    for action in actions(env, 5):
        env.step(action)
    np.testing.assert_array_equal(env.reset()[0], first)


def test_the_limit_truncates_and_does_not_terminate(make):
    env = make(keys(2), 3)
    env.reset()
    for step, action in enumerate(actions(env, 6), start=1):
        obs, _, terminated, truncated, info = env.step(action)
        assert not terminated.any()
        assert truncated.tolist() == [step % 3 == 0] * 2
        # The successor is the old episode's, the observation the new one's.
        assert (np.abs(obs - info["final_obs"]).max(1) > 0).tolist() == truncated.tolist()
    assert env.episode.tolist() == [3, 3]


def test_threads_do_not_change_anything(make):
    one, two = make(keys(9), 6, threads=1), make(keys(9), 6, threads=2)
    assert (one.threads, two.threads) == (1, 2)
    np.testing.assert_array_equal(one.reset()[0], two.reset()[0])
    for action in actions(one, 10):
        assert_equal(one.step(action), two.step(action))


def test_actions_are_clipped(make):
    once, again = make(keys(2), 10), make(keys(2), 10)
    once.reset(), again.reset()
    for action in np.sign(actions(once, 3)).astype(np.float32):
        assert_equal(once.step(action), again.step(5 * action))


def test_a_loaded_state_continues_exactly(make):
    first, second = make(keys(3), 12), make(keys(3), 12)
    first.reset()
    first.elapsed[:] = [0, 4, 8]  # so that episodes end apart
    for action in actions(first, 7):
        obs = first.step(action)[0]
    # As a cohort keeps it: tensors, one per environment, stacked again.
    kept = {key: torch.as_tensor(value).clone() for key, value in first.state().items()}
    restored = {key: torch.stack(list(value)).numpy() for key, value in kept.items()}
    np.testing.assert_array_equal(second.load_state(restored), obs)
    ended = 0
    for action in actions(first, 20, seed=1):
        one, two = first.step(action), second.step(action)
        assert_equal(one, two)
        ended += one[3].sum()
    assert ended >= 3
    assert_equal([first.state()], [second.state()])


def test_a_state_does_not_change_with_later_steps(make):
    env = make(keys(2), 10)
    env.reset()
    state = env.state()
    before = {key: value.copy() for key, value in state.items()}
    for action in actions(env, 12):
        env.step(action)
    assert_equal([state], [before])


def test_who_rests_stays_as_it_is_and_goes_on_as_if_nothing_had_been(make):
    rests, reference = make(keys(3), 5), make(keys(3), 5)
    rests.reset(), reference.reset()
    moves = actions(rests, 9)
    for action in moves[:4]:
        rests.step(action), reference.step(action)
    # Environment 1 stands before its last step and rests longer than its episode lasts.
    active = np.array([True, False, True])
    before = {key: value[1] for key, value in rests.state().items()}
    for action in actions(rests, 8, seed=2):
        _, reward, terminated, truncated, _ = rests.step(action, active)
        assert (reward[1], terminated[1], truncated[1]) == (0.0, False, False)
    assert_equal([{key: value[1] for key, value in rests.state().items()}], [before])
    assert rests.episode.tolist() == [3, 1, 3]
    for action in moves[4:]:
        one, two = rests.step(action), reference.step(action)
        assert_equal([part[1] for part in one[:4]], [part[1] for part in two[:4]])
    assert rests.episode[1] == 2


def test_resting_all_is_a_step_of_nothing(make):
    env = make(keys(2), 5)
    obs, _ = env.reset()
    before = env.state()
    after, *_ = env.step(actions(env, 1)[0], np.zeros(2, bool))
    np.testing.assert_array_equal(obs, after)
    assert_equal([before], [env.state()])
