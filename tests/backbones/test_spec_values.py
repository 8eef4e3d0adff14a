"""The numbers of the specs that no equation tests: defaults, what authors change per task, and bounds."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from o2okit.backbones import BACKBONES
from o2okit.backbones.settings import TABLE, authors, return_range
from o2okit.hyper import complete
from o2okit.nn import Stacked
from o2okit.nn.distributions import EDGE
from o2okit.nn.policies import GaussianPolicy, TanhGaussianPolicy
from o2okit.tasks import task

TWO, THREE, FOUR = (256,) * 2, (256,) * 3, (256,) * 4
# specs/qcse.md 3; TD3 and TD3+BC, whose rates QCSE changes, ocr_cft.md 2.8; IQL gde.md 2.4; SAC tasks.md 6.
# All: γ 0.99, τ 0.005, batch 256; rewards as they are.
ALL = {
    "batch_size": 256,
    "discount": 0.99,
    "target_rate": 0.005,
    "reward_scale": 1.0,
    "reward_bias": 0.0,
    "critic_norm": "none",
    "critic_lr": 3e-4,
}
PLAIN = ALL | {"hidden": TWO, "critic_hidden": TWO, "actor_lr": 3e-4, "normalise": True}
SAC = PLAIN | {"alpha_lr": 3e-4, "alpha": 1.0, "entropy_scale": 1.0}
TD3 = PLAIN | {"target_noise": 0.2, "noise_clip": 0.5, "actor_period": 2, "explore_noise": 0.1}
CQL = ALL | {
    "hidden": TWO,
    "critic_hidden": FOUR,
    "actor_lr": 1e-4,
    "alpha_lr": 1e-4,
    "normalise": False,
    "alpha": 1.0,
    "entropy_scale": 1.0,
    "weight": 5.0,
    "n_actions": 10,
    "max_backup": True,
    "gap": 0.0,  # Gym: a fixed weight
    "multiplier_lr": 3e-4,
}
DQN = {  # specs/gde.md 2.8
    "hidden": (128, 128),
    "batch_size": 128,
    "lr": 1e-3,
    "target_period": 500,
    "discount": 0.99,
    "huber_delta": 1.0,
    "td_weight": 1.0,
    "epsilon": 0.05,
    "epsilon_start": 0.05,
    "epsilon_steps": 10_000,
}
DEFAULTS = {
    "bc": PLAIN,
    "td3": TD3,
    "td3+bc": TD3 | {"alpha": 2.5},
    "awac": PLAIN | {"hidden": THREE, "critic_hidden": THREE, "temperature": 1.0},
    "iql": PLAIN | {"value_lr": 3e-4, "expectile": 0.7, "beta": 3.0, "cosine_steps": 1_000_000},
    "sac": SAC,
    "cql": CQL,
    "cal-ql": CQL | {"calibrate": True},
    "cql-ensemble": CQL | {"batch_size": 5 * 256, "members": 5, "together": False},
    "dqn": DQN,
    "cql-discrete": DQN | {"alpha": 3.0},
}
LAGRANGE = {"reward_scale": 10.0, "reward_bias": -5.0, "gap": 0.8}
BINARY = {
    "reward_scale": 10.0,
    "reward_bias": 5.0,
    "weight": 1.0,
    "hidden": (512,) * 2,
    "critic_hidden": (512,) * 3,
}
CHANGED = [
    *[(name, "antmaze-medium-play-v2", LAGRANGE) for name in ("cql", "cal-ql", "cql-ensemble")],
    *[(name, "pen-binary-v0", BINARY) for name in ("cql", "cal-ql", "cql-ensemble")],
    ("iql", "antmaze-umaze-v2", {"expectile": 0.9, "beta": 10.0, "reward_bias": -1.0}),
    ("iql", "pen-cloned-v1", {"expectile": 0.8}),
    ("iql", "door-binary-v0", {"expectile": 0.8}),
    ("iql", "hopper-medium-v2", {"reward_scale": return_range}),
    ("td3+bc", "antmaze-umaze-v2", {"reward_bias": -1.0}),
    ("awac", "antmaze-umaze-v2", {"temperature": 0.1}),
    ("awac", "relocate-expert-v1", {"temperature": 0.1}),
    ("awac", "pen-binary-v0", {"temperature": 0.1}),
    ("cql", "hopper-medium-v2", {}),
    ("awac", "ant-random-v2", {}),
    ("cal-ql", "pen-expert-v1", {}),
]


def test_every_backbone_and_every_change_is_compared():
    assert set(DEFAULTS) == set(BACKBONES)
    games = {key for key in TABLE if key[1] == "atari"}  # tests/backbones/test_dqn.py
    compared = {(name, task(where).family, task(where).scored) for name, where, _ in CHANGED}
    assert set(TABLE) - games <= compared


@pytest.mark.parametrize("backbone", DEFAULTS)
def test_defaults_are_the_specs(backbone):
    assert asdict(BACKBONES[backbone].Hyperparameters()) == DEFAULTS[backbone]


@pytest.mark.parametrize(("backbone", "where", "changes"), CHANGED)
def test_what_the_authors_change_per_task(backbone, where, changes):
    assert authors(backbone, task(where)) == changes


def test_log_std_lies_between_minus_20_and_2():
    def actor(_):
        return torch.tensor([[[0.5, -300.0], [0.5, 300.0]]])  # [R, B, mean and raw]

    ends = torch.tensor([-20.0, 2.0])
    policy = TanhGaussianPolicy(actor, Stacked([np.array([[1.0, -1.0]])]))
    torch.testing.assert_close(policy.gaussian(None)[1].flatten(), ends)
    for raw, end in zip((-300.0, 300.0), ends, strict=True):
        policy = GaussianPolicy(actor, Stacked([np.full((1, 1, 1), raw)]), bounded=False)
        assert policy.gaussian(None)[1].item() == end


def test_where_cql_starts():
    cls = BACKBONES["cql"]
    agent = cls(task("hopper-medium-v2"), [complete(cls.Hyperparameters, {})], [0])
    assert agent.spread.weights[0].flatten().tolist() == [1.0, -1.0]  # log σ = m raw + b
    assert agent.log_multiplier.values().item() == 1.0
    assert math.isclose(EDGE, 0.99999)
