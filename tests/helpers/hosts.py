"""What tests stand on: a few real transitions, a cohort of two agents of hopper's sizes, minibatches."""

import numpy as np
import torch

from o2okit.backbones import BACKBONES
from o2okit.data import Batch, Dataset
from o2okit.hyper import complete
from o2okit.methods import METHODS
from o2okit.tasks import Key, task

TASK, SEEDS, B = task("hopper"), (3, 8), 16
SMALL = {"hidden": (16, 16), "critic_hidden": (16, 16), "batch_size": B}
FEW = {
    "cql": {"n_actions": 2},
    "cal-ql": {"n_actions": 2},
    "cql-ensemble": {"n_actions": 2, "members": 2},
}


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
