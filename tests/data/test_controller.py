"""What acts on ants, and how its hops are counted."""

import numpy as np
import pytest
import torch

from o2okit.data import controller
from o2okit.data.controller import Controller, hop_scores
from o2okit.data.policies import Snapshot


def snapshot():
    """Mean and log σ do not depend on the posture: the first two actions follow the direction."""
    weight = torch.zeros(16, 29)
    weight[0, 27] = weight[1, 28] = 1.0
    bias = torch.cat([torch.zeros(8), torch.full((8,), -1.0)])
    return Snapshot(7, ((weight, bias),), {})


def test_actions_are_the_mean_with_noise_and_stay_within_the_limits():
    n = 4000
    posture, directions = np.zeros((n, 27)), np.tile([0.6, -0.8], (n, 1))
    actions = Controller(snapshot(), np.random.default_rng(0)).act(posture, directions)
    assert actions.shape == (n, 8)
    assert np.abs(actions).max() <= 1
    mean = np.tanh([0.6, -0.8, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(actions.mean(0), mean, atol=0.02)
    np.testing.assert_allclose(actions.std(0)[2:], 0.2, rtol=0.05)
    sampled = Controller(snapshot(), np.random.default_rng(0), sampled=True)
    spread = sampled.act(posture, directions).std(0)[2:]
    # tanh of N(0, e⁻²) and the noise.
    assert (spread > 0.35).all()


class Sledge:
    """Goes where the first two actions point, ``speed`` metres per step; ant 0 falls now and then."""

    def __init__(self, keys, speed=0.24, fall_every=10**9):
        self.n, self.speed, self.fall_every = len(keys), speed, fall_every
        self.qpos, self.steps = np.zeros((self.n, 15)), 0

    def observations(self):
        return np.zeros((self.n, 29), dtype=np.float32)

    def reset(self):
        return self.observations(), {}

    def step(self, actions, active):
        self.steps += 1
        way = np.arctanh(np.clip(actions[:, :2], -0.999, 0.999))
        self.qpos[active, :2] += self.speed * way[active]
        fell = (np.arange(self.n) == 0) & (self.steps % self.fall_every == 0) & active
        self.qpos[fell] = 0
        return self.observations(), np.zeros(self.n), fell, np.zeros(self.n, bool), {}


@pytest.fixture
def sledges(monkeypatch):
    monkeypatch.setattr(controller, "NOISE", 0.0)
    monkeypatch.setattr(controller, "ANTS", 20)

    def use(**kwargs):
        class Found:
            @staticmethod
            def vector(keys):
                return Sledge(keys, **kwargs)

        monkeypatch.setattr(controller, "task", lambda name: Found)

    return use


def test_a_hop_is_covered_when_its_end_is_near(sledges):
    sledges()
    # 4 m, less the radius of 0.5 m, at 0.24 m per step.
    assert hop_scores("x", snapshot()) == {"hops": 1.0, "steps": 15.0, "falls": 0.0, "tried": 100}


def test_who_is_too_slow_covers_nothing(sledges):
    sledges(speed=0.034)  # 3.4 of the 3.5 m in 100 steps
    assert hop_scores("x", snapshot()) == {"hops": 0.0, "steps": 0.0, "falls": 0.0, "tried": 100}
    sledges(speed=0.036)
    assert hop_scores("x", snapshot())["hops"] == 1.0


def test_a_fall_is_a_hop_that_failed(sledges):
    sledges(fall_every=10)  # ant 0 never gets 15 steps far
    scores = hop_scores("x", snapshot())
    assert scores == {"hops": 0.95, "steps": 15.0, "falls": 0.05, "tried": 100}


def test_hops_of_the_real_ant_are_the_same_for_the_same_seed(monkeypatch):
    for name, value in (("ANTS", 4), ("HOPS", 1), ("LIMIT", 20)):
        monkeypatch.setattr(controller, name, value)
    first = hop_scores("ant-controller", snapshot())
    assert first == hop_scores("ant-controller", snapshot())
    assert (first["hops"], first["tried"]) == (0.0, 4)
