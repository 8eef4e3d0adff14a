"""What tests stand on: a few real transitions, a cohort of two agents of hopper's sizes, minibatches."""

import numpy as np
import torch

from o2okit.backbones import BACKBONES
from o2okit.data import Batch, Dataset
from o2okit.hyper import complete
from o2okit.methods import METHODS
from o2okit.tasks import Key, task
from o2okit.training import RunSpec, protocol

TASK, SEEDS, B = task("hopper"), (3, 8), 16
SMALL = {"hidden": (16, 16), "critic_hidden": (16, 16), "batch_size": B}
FEW = {
    "cql": {"n_actions": 2},
    "cal-ql": {"n_actions": 2},
    "cql-ensemble": {"n_actions": 2, "members": 2},
}

STEPS = 40  # of a fine-tuning
SHORT = {
    "gde": {"fine_tune_steps": 15, "scoring_steps": 10, "total_steps": 40},
    "pex": {"warm_up": 10},
    "vae-bonus": {"start": 10, "hidden": (8, 8), "latent": 4, "samples": 3},
    "sung": {"vae_updates": 2, "vae_hidden": (8, 8), "candidates": 30},
    **{name: {"start": 10} for name in ("const", "qcse", "rnd-bonus", "se", "vcse")},
    "bp-iql": {"epochs": 2, "prior_hidden": (8, 8), "mixing_hidden": (8, 8), "prior_batch": 64},
}
PAIRS, DISCRETE = (
    [
        (backbone, name)
        for name, method in METHODS.items()
        for backbone, cls in BACKBONES.items()
        if cls.discrete == discrete and method.fits(backbone)
    ]
    for discrete in (False, True)
)


def make(name, backbone="iql", prepare=True, **hyper):
    """The method ready to fine-tune; lists give each of the two runs its own value."""
    cls, kind = BACKBONES[backbone], METHODS[name]
    own = complete(cls.Hyperparameters, SMALL | FEW.get(backbone, {}))
    agent = cls(TASK, [own] * 2, SEEDS)
    disturb(agent.policy, 0.05)  # as if it had learnt something
    per_run = [
        complete(
            kind.Hyperparameters, {k: v[i] if isinstance(v, list) else v for k, v in hyper.items()}
        )
        for i in range(2)
    ]
    agent.method = method = kind(agent, per_run, SEEDS)
    if prepare:
        method.prepare(None)
    return method


def minibatch(step=0) -> Batch:
    rng = torch.Generator().manual_seed(step)
    obs, next_obs = torch.randn(2, 2, B, TASK.obs_size, generator=rng)
    action = torch.rand(2, B, TASK.act_size, generator=rng) * 2 - 1
    reward, returns = torch.randn(2, 2, B, generator=rng)
    return Batch(obs, action, reward, next_obs, torch.zeros(2, B), returns)


def disturb(policy, by=0.1) -> None:
    """Moves a policy's parameters, the same way every time."""
    for number, part in enumerate(policy.parts):
        rng = torch.Generator().manual_seed(number)
        with torch.no_grad():
            part.flat.add_(by * torch.randn(part.flat.shape, generator=rng))


def hopper_data(steps=300) -> Dataset:
    """Uniform actions in the real environment: short episodes that end."""
    env, rng = TASK.vector([Key(0, "test")]), np.random.default_rng(0)
    obs, _ = env.reset()
    rows = []
    for _ in range(steps):
        action = rng.uniform(-1, 1, (1, TASK.act_size)).astype(np.float32)
        following, reward, terminated, truncated, info = env.step(action)
        rows.append((obs, action, reward, info["final_obs"], terminated, truncated))
        obs = following
    columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
    return Dataset("hopper", "test-hopper", "kit", *columns)


def fine_tuning(backbone, method, data) -> list[RunSpec]:
    """Pre-trained for a few updates, then fine-tuned; three seeds."""
    hyper = SMALL | FEW.get(backbone, {})
    return [
        protocol.online(
            RunSpec("hopper", backbone, "offline", 5, seed, hyper=hyper, dataset=data),
            method,
            STEPS,
            method_hyper=SHORT.get(method, {}),
            eval_every=20,
            eval_episodes=2,
        )
        for seed in (4, 1, 7)
    ]
