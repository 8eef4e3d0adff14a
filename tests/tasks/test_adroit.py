import warnings

import numpy as np
import pytest

from o2okit.streams import generator
from o2okit.tasks import Key, task
from o2okit.tasks.adroit import Door, Pen, Relocate

HORIZONS = {Pen: 100, Door: 200, Relocate: 200}
hands = pytest.mark.parametrize("hand", HORIZONS)


def make(hand, n=1, horizon=None, **kwargs):
    return hand([Key(seed, "adroit") for seed in range(n)], horizon or HORIZONS[hand], **kwargs)


def gymnasiums(hand):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from gymnasium_robotics.envs import adroit_hand

        return getattr(adroit_hand, f"adroit_{hand.__name__.lower()}").__dict__[
            f"AdroitHand{hand.__name__}Env"
        ]()


def staged(env, scene, qpos=None):
    """The environment with this scene, the hand at rest."""
    env.reset()
    for i in range(env.num_envs):
        env.scene[i] = scene
        env.place(i, env.init_qpos if qpos is None else qpos, env.init_qvel)
    return env


SCENES = {
    Pen: (1, 0, 0, 0),
    Door: (-0.25, 0.3, 0.3),
    Relocate: (0, 0, 0.1, 0.1, 0.25),
}


@pytest.mark.parametrize(
    ("hand", "first", "total"),
    [  # specs/tasks.md 8, D4RL's rewards
        (Pen, (0.000406, -0.000959, -0.003299), 12.215274),
        (Door, (-0.290002, -0.294647, -0.296750), -8.304285),
        (Relocate, (-0.022977, -0.022753, -0.022553), -0.600367),
    ],
)
def test_check_values_of_the_spec(hand, first, total):
    env, rewards = staged(make(hand), SCENES[hand]), []
    for step in range(30):
        action = 0.2 * np.sin(0.3 * step + np.arange(env.model.nu))
        _, reward, terminated, truncated, info = env.step(action[None])
        rewards.append(reward[0])
        assert not terminated.any()
        assert not truncated.any()
        assert info["outcome"].tolist() == [0]
    np.testing.assert_allclose(rewards[:3], first, atol=1e-6)
    assert sum(rewards) == pytest.approx(total, abs=1e-4)


@hands
def test_equal_to_gymnasium_robotics_but_for_the_corrections(hand):
    n, horizon = 2, 30
    env, singles = make(hand, n, horizon), [gymnasiums(hand) for _ in range(n)]
    for name in ("actuator_gainprm", "actuator_biasprm"):
        np.testing.assert_array_equal(getattr(env.model, name), getattr(singles[0].model, name))
    obs, _ = env.reset()
    episodes, ends = [0] * n, 0
    rng = np.random.default_rng(0)

    def restart(i):
        singles[i].np_random = generator(i, "adroit", episodes[i])
        episodes[i] += 1
        return singles[i].reset()[0]

    for i in range(n):
        np.testing.assert_allclose(obs[i], restart(i), rtol=1e-6, atol=1e-7)
    for _ in range(80):
        actions = rng.uniform(-1, 1, (n, env.model.nu))
        obs, reward, terminated, truncated, info = env.step(actions)
        for i, single in enumerate(singles):
            following, r, _, _, theirs = single.step(actions[i])
            np.testing.assert_allclose(info["final_obs"][i], following, rtol=1e-6, atol=1e-7)
            # The distance to the handle or the ball costs; there it pays.
            away = {Pen: 0.0, Door: following[35:38], Relocate: following[30:33]}[hand]
            assert reward[i] == pytest.approx(r - 0.2 * np.linalg.norm(away), abs=1e-12)
            assert bool(info["outcome"][i]) == theirs["success"]
            dropped = hand is Pen and following[26] < 0.075
            assert terminated[i] == dropped
            ends += terminated[i]
            if terminated[i] or truncated[i]:
                np.testing.assert_allclose(obs[i], restart(i), rtol=1e-6, atol=1e-7)
            else:
                np.testing.assert_array_equal(env.qpos[i], single.data.qpos)
                np.testing.assert_array_equal(env.qvel[i], single.data.qvel)
    assert sum(episodes) >= 3 * n
    assert (ends > 0) == (hand is Pen)


def test_a_dropped_pen_ends_the_dense_episode_and_not_the_binary_one():
    qpos = make(Pen).init_qpos.copy()
    qpos[-6:-3] = 0.5, 0.5, -0.3  # beside the hand, below it
    for binary in (False, True):
        env = staged(make(Pen, binary=binary), SCENES[Pen], qpos)
        _, reward, terminated, _, info = env.step(np.zeros((1, 24)))
        assert info["final_obs"][0, 26] < 0.075
        assert terminated[0] == (not binary)
        assert reward[0] == -1.0 if binary else reward[0] < -4


@pytest.mark.parametrize(("hand", "bonus"), [(Pen, 61), (Door, 20), (Relocate, 30)])
def test_success_pays_and_ends_only_the_binary_episode(hand, bonus):
    for binary in (False, True):
        env = staged(make(hand, n=2, binary=binary), SCENES[hand])
        qpos = env.init_qpos.copy()
        if hand is Pen:  # the target as the pen lies: its axis along x
            env.scene[1] = np.sqrt(0.5), 0, np.sqrt(0.5), 0
        if hand is Door:
            qpos[-2] = 1.5
        if hand is Relocate:  # the target at the ball
            env.scene[1, 2:] = 0, 0, 0.035
        env.place(1, qpos, env.init_qvel)
        _, reward, terminated, truncated, info = env.step(np.zeros((2, env.model.nu)))
        assert info["outcome"].tolist() == [0, 1]
        assert not truncated.any()
        if binary:
            assert (reward.tolist(), terminated.tolist()) == ([-1.0, 0.0], [False, True])
        else:
            assert not terminated.any()
            assert reward[1] - reward[0] == pytest.approx(bonus, abs=1)
    assert task(f"{hand.__name__.lower()}-binary-v0").outcomes[1] == "success"


def test_a_pens_bonuses_begin_where_the_spec_says():
    # distance, cosine, height; -d + cos, +10 within 0.075 and above 0.9, +50 above 0.95, -5 below 0.075
    cases = [
        (0.0745, 0.951, 0.2, 60, True),
        (0.0755, 0.951, 0.2, 0, False),
        (0.0745, 0.949, 0.2, 10, False),
        (0.0745, 0.901, 0.2, 10, False),
        (0.0745, 0.899, 0.2, 0, False),
        (0.0745, 0.951, 0.0755, 60, True),
        (0.0745, 0.951, 0.0745, 55, True),
    ]
    distance, cosine, height, bonus, success = map(np.array, zip(*cases, strict=True))
    env, zero = make(Pen, len(cases)), np.zeros(len(cases))
    env.reset()
    env.lengths[:] = 1
    pen = np.stack([zero, zero, height], 1)
    wanted = pen + np.stack([distance, zero, zero], 1)
    axis = np.stack([cosine, np.sqrt(1 - cosine**2), zero], 1)
    target = np.tile([1.0, 0, 0], (len(cases), 1))
    points = [pen, wanted, axis, np.zeros_like(axis), target, np.zeros_like(axis)]
    env.extra[:] = np.concatenate(points, axis=1)
    reward, terminated, found = env.dense()
    np.testing.assert_allclose(reward, cosine - distance + bonus, atol=1e-9)
    np.testing.assert_array_equal(terminated, height < 0.075)
    np.testing.assert_array_equal(found, success)


def test_a_doors_bonuses_begin_where_the_spec_says():
    # -0.1 |palm - handle| - 0.1 (q - 1.57)² - 1e-5 Σv², +2 above 0.2, +8 above 1, +10 above 1.35
    angle = np.array([0.199, 0.201, 0.999, 1.001, 1.349, 1.351])
    bonus = np.array([0, 2, 2, 10, 10, 20])
    env = make(Door, len(angle))
    env.reset()
    env.qpos[:, -2], env.qvel[:] = angle, 3.0
    env.extra[:] = [0, 0, 0, 0, 0.3, 0.4]
    reward, terminated, success = env.dense()
    cost = 0.1 * 0.5 + 0.1 * (angle - 1.57) ** 2 + 1e-5 * 9 * env.qvel.shape[1]
    np.testing.assert_allclose(reward, bonus - cost, atol=1e-9)
    assert success.tolist() == [False] * 5 + [True]
    assert not terminated.any()


def test_a_relocations_bonuses_begin_where_the_spec_says():
    # -0.1 |palm - ball|, off the table +1 - 0.5 |palm - target| - 0.5 |ball - target|, +10 within 0.1,
    # +20 more within 0.05
    cases = [
        (0.101, 0.0405, 0, False),
        (0.099, 0.0405, 10, True),
        (0.051, 0.0405, 10, True),
        (0.049, 0.0405, 30, True),
        (0.049, 0.0395, 30, True),
    ]
    distance, height, bonus, success = map(np.array, zip(*cases, strict=True))
    env, zero = make(Relocate, len(cases)), np.zeros(len(cases))
    env.reset()
    ball = np.stack([zero, zero, height], 1)
    palm, target = ball + np.array([0, 0.2, 0]), ball + np.stack([distance, zero, zero], 1)
    env.extra[:] = np.concatenate([palm, ball, target], axis=1)
    lifted = 1 - 0.5 * np.hypot(distance, 0.2) - 0.5 * distance
    reward, terminated, found = env.dense()
    np.testing.assert_allclose(reward, -0.1 * 0.2 + lifted * (height > 0.04) + bonus, atol=1e-9)
    np.testing.assert_array_equal(found, success)
    assert not terminated.any()


def test_a_vector_keeps_every_scene_apart():
    # One model per thread serves all environments: each must be stepped within its own scene.
    many = make(Door, 9, threads=2)
    many.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 9, 28))
    for i in (0, 8):
        alone = Door([Key(i, "adroit")], 200)
        alone.reset()
        assert (many.scene[i] == alone.scene[0]).all()
        for action in actions:
            obs = alone.step(action[i : i + 1])[0]
        many.reset()
        for action in actions:
            together = many.step(action)[0]
        np.testing.assert_array_equal(together[i], obs[0])
    assert len(np.unique(many.scene, axis=0)) == 9
    assert not np.shares_memory(many.models[0].body_pos, make(Door).models[0].body_pos)
