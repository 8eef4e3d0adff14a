import warnings

import gymnasium as gym
import numpy as np
import pytest

from o2okit.errors import UserError
from o2okit.streams import generator
from o2okit.tasks import Key, task
from o2okit.tasks.locomotion import Ant, HalfCheetah, Hopper, Walker2d

# specs/tasks.md 8: r_0..r_4, obs_4[0:6], sum of obs_4, length, whether terminated, return, mass.
CHECKS = {
    HalfCheetah: (
        (-0.0534425, -0.0337750, -0.1044045, -0.0574606, 0.1633273),
        (-0.2916754, 0.0576196, 0.2890493, 0.3688012, -0.0687039, -0.4016315),
        -8.7215129,
        -0.930009,
        14.0,
    ),
    Hopper: (
        (1.0115879, 1.0268453, 1.0344034, 1.0376270, 1.0371206),
        (1.2411357, 0.0031605, 0.0011740, 0.0014449, 0.0470282, 0.0362997),
        2.6447006,
        10.168331,
        15.820013,
    ),
    Walker2d: (
        (0.9783975, 0.9018824, 0.8057082, 0.7061326, 0.6112783),
        (1.2428395, -0.0373377, -0.0352947, 0.0040211, 0.3917114, 0.0035082),
        5.1528082,
        6.414600,
        23.677137,
    ),
    Ant: (
        (0.5827157, 0.5684335, 0.4640754, 0.3193113, -0.4723485),
        (0.6237213, 0.9980266, 0.0025346, -0.0174762, -0.0602575, 0.5091289),
        5.6628161,
        -0.646897,
        0.910880,
    ),
}
# Length, whether terminated, return where the spec gives one. Ant's length is a loose one there.
ENDS = {
    HalfCheetah: (1000, False, None),
    Hopper: (20, True, 13.925578),
    Walker2d: (37, True, 7.936983),
    Ant: (382, True, None),
}
robots = pytest.mark.parametrize("robot", CHECKS)


def at_rest(robot, n=1, horizon=1000):
    env = robot([Key(0, f"{i}") for i in range(n)], horizon)
    env.reset()
    for i in range(n):
        env.place(i, env.init_qpos, np.zeros(env.model.nv))
    return env


def wave(env, step):
    action = 0.5 * np.sin(0.3 * step + np.arange(env.model.nu))
    return np.tile(action, (env.num_envs, 1))


def gymnasiums(robot):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*out of date")
        return gym.make(f"{robot.__name__}-v4")


@robots
def test_check_values_of_the_spec(robot):
    rewards, first, total, ten, mass = CHECKS[robot]
    env = at_rest(robot)
    assert env.model.body_mass.sum() == pytest.approx(mass, abs=1e-6)
    steps = [env.step(wave(env, step)) for step in range(10)]
    found = np.array([step[1][0] for step in steps])
    np.testing.assert_allclose(found[:5], rewards, atol=1e-6)
    obs = steps[4][0][0]
    np.testing.assert_allclose(obs[:6], first, atol=1e-6)
    assert obs.sum() == pytest.approx(total, abs=1e-5)
    assert found.sum() == pytest.approx(ten, abs=1e-4)


@robots
def test_where_the_specs_episode_ends(robot):
    env, rewards, over = at_rest(robot), [], False
    while not over:
        _, reward, terminated, truncated, _ = env.step(wave(env, len(rewards)))
        rewards.append(reward[0])
        over = terminated[0] or truncated[0]
    length, falls, total = ENDS[robot]
    assert (terminated[0], truncated[0]) == (falls, not falls)
    assert len(rewards) == pytest.approx(length, rel=0.2 if robot is Ant else 0)
    if total is not None:
        assert sum(rewards) == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize(
    ("robot", "mean", "std"),  # specs/tasks.md 3: of 40 episodes of random actions
    [(HalfCheetah, -275.9, 13.6), (Hopper, 20.1, 3.3), (Walker2d, 2.6, 1.2), (Ant, -47.3, 11.6)],
)
def test_what_random_actions_return(robot, mean, std):
    n = 40
    env = robot([Key(seed, "random") for seed in range(n)], 1000)
    env.reset()
    rng, returns, alive = np.random.default_rng(0), np.zeros(n), np.ones(n, dtype=bool)
    while alive.any():
        _, reward, terminated, truncated, _ = env.step(rng.uniform(-1, 1, (n, env.model.nu)), alive)
        returns[alive] += reward[alive]
        alive &= ~(terminated | truncated)
    error = returns.std() / np.sqrt(n)
    assert returns.mean() == pytest.approx(mean, abs=3 * np.hypot(std, error)), returns.mean()


def test_actions_beyond_one_count_as_one():
    # Unclipped, gymnasium's reward of 2 is -1.481909.
    for action in (1.0, 2.0):
        env = at_rest(HalfCheetah)
        reward = env.step(np.full((1, 6), action))[1]
        assert reward[0] == pytest.approx(0.318091, abs=1e-6)


@robots
def test_equal_to_gymnasiums_v4_to_the_last_bit(robot):
    n, horizon = 3, 100
    env = robot([Key(seed, "fidelity") for seed in range(n)], horizon)
    singles = [gymnasiums(robot) for _ in range(n)]
    episodes = [0] * n

    def restart(i):
        # Gymnasium draws its start from the generator that ours is drawn from.
        singles[i].unwrapped.np_random = generator(i, "fidelity", episodes[i])
        episodes[i] += 1
        return singles[i].reset()[0].astype(np.float32)

    size = singles[0].observation_space.shape[0]
    obs, _ = env.reset()
    for i in range(n):
        np.testing.assert_array_equal(obs[i, :size], restart(i))
    rng, terminations = np.random.default_rng(0), 0
    for _ in range(210):
        actions = rng.uniform(-1, 1, (n, env.model.nu))
        obs, reward, terminated, truncated, info = env.step(actions)
        for i, single in enumerate(singles):
            following, r, term, _, _ = single.step(actions[i])
            np.testing.assert_array_equal(info["final_obs"][i, :size], following.astype(np.float32))
            assert (reward[i], terminated[i]) == (r, term)
            terminations += term
            if terminated[i] or truncated[i]:
                np.testing.assert_array_equal(obs[i, :size], restart(i))
    assert sum(episodes) > n
    # A half-cheetah never terminates, and ants seldom do.
    assert (terminations > 10) == (robot in (Hopper, Walker2d))


@pytest.mark.parametrize(
    ("robot", "qpos", "qvel", "fallen"),
    [
        (Ant, {2: 0.4}, {}, False),
        (Ant, {2: 0.8}, {2: -20}, True),
        (Ant, {2: 0.9}, {}, False),
        (Ant, {2: 1.3}, {}, True),
        (Hopper, {1: 2.5}, {0: 90}, False),
        (Hopper, {1: 2.5}, {0: 110}, True),
        (Hopper, {1: 0.6}, {}, True),
        (Hopper, {1: 1.5, 2: 0.19}, {}, False),
        (Hopper, {1: 1.5, 2: -0.21}, {}, True),
        (Walker2d, {1: 1.9, 2: 0.9}, {0: 110}, False),
        (Walker2d, {1: 2.1}, {}, True),
        (Walker2d, {1: 0.7}, {}, True),
        (Walker2d, {1: 1.5, 2: -1.1}, {}, True),
        (HalfCheetah, {1: -5, 2: 3}, {0: 110}, False),
    ],
)
def test_what_counts_as_fallen_is_gymnasiums(robot, qpos, qvel, fallen):
    env, single = at_rest(robot), gymnasiums(robot)
    state = env.init_qpos.copy(), np.zeros(env.model.nv)
    for part, changes in zip(state, (qpos, qvel), strict=True):
        part[list(changes)] = list(changes.values())
    env.place(0, *state)
    single.reset(seed=0)
    single.unwrapped.set_state(*state)
    actions = np.zeros((1, env.model.nu))
    _, reward, terminated, truncated, _ = env.step(actions)
    _, theirs, expected, _, _ = single.step(actions[0])
    assert (terminated[0], truncated[0], expected) == (fallen, False, fallen)
    # The bonus is paid at the end, too. (gymnasium's set_state leaves a trace in the solver's start.)
    assert reward[0] == pytest.approx(theirs, abs=1e-3)


def test_ants_last_84_observations_are_zero():
    env = Ant([Key(0, "a")], 1000)
    obs, _ = env.reset()
    for step in range(20):
        assert obs.shape == (1, 111)
        assert (obs[:, 27:] == 0).all()
        assert (obs[:, :27] != 0).all()
        obs = env.step(wave(env, step))[0]


def test_ant_without_its_padding_is_the_same_ant():
    whole, narrow = (
        found.vector([Key(5, "test")]) for found in (task("ant"), task("ant-medium-v2", ant_obs=27))
    )
    pair = [env.reset()[0] for env in (whole, narrow)]
    for step in range(60):
        assert (pair[0][:, :27] == pair[1]).all()
        action = wave(whole, step)
        (a, *rest_a, info_a), (b, *rest_b, info_b) = (env.step(action) for env in (whole, narrow))
        pair = [a, b]
        assert all((x == y).all() for x, y in zip(rest_a, rest_b, strict=True))
        assert (info_a["final_obs"][:, :27] == info_b["final_obs"]).all()
    assert narrow.single_observation_space.shape == (27,)
    assert task("ant", ant_obs=27).obs_size == 27
    with pytest.raises(UserError, match=r"27 for ant's tasks.* got 27 for 'hopper'"):
        task("hopper", ant_obs=27)
