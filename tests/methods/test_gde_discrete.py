"""Discrete GDE against specs/gde.md 6 and plain code."""

import pytest
import torch
import torch.nn.functional as F

from o2okit.backbones import BACKBONES
from o2okit.data import Batch
from o2okit.hyper import complete
from o2okit.methods import METHODS
from o2okit.nn import SoftmaxPolicy
from o2okit.tasks import task

MAZE, SEEDS, B = task("toy-maze"), (3, 8), 16


class Fixed(SoftmaxPolicy):
    """Given values, whatever is observed."""

    def __init__(self, values, temperature):
        self.parts, self.given, self.temperature = (), torch.tensor(values), temperature

    def values(self, obs):
        return self.given.expand(*obs.shape, -1)


@pytest.mark.parametrize(
    ("temperature", "forward", "back"), [(1.0, 0.416967, 0.516955), (0.1, 5.012886, None)]
)
def test_the_divergence_of_softmax_values_is_the_specs(temperature, forward, back):
    teacher, other = (Fixed(v, temperature) for v in ([1.0, 2.0, 0.0], [0.5, 0.5, 1.0]))
    obs = torch.zeros(2, 3, dtype=torch.long)
    assert teacher.kl(other, obs).shape == (2, 3)
    assert teacher.kl(other, obs)[1, 2].item() == pytest.approx(forward, abs=1e-5)
    if back is not None:
        assert other.kl(teacher, obs)[0, 0].item() == pytest.approx(back, abs=1e-5)


def make(**hyper):
    cls, kind = BACKBONES["cql-discrete"], METHODS["gde-discrete"]
    own = {"hidden": (16,), "batch_size": B, "target_period": 2}
    agent = cls(MAZE, [complete(cls.Hyperparameters, own)] * 2, SEEDS)
    agent.method = method = kind(agent, [complete(kind.Hyperparameters, hyper)] * 2, SEEDS)
    method.prepare(None)
    return method


def minibatch(step=0) -> Batch:
    rng = torch.Generator().manual_seed(step)
    obs, following = torch.randint(MAZE.obs_size, (2, 2, B), generator=rng)
    action = torch.randint(MAZE.act_size, (2, B), generator=rng)
    ends = (torch.rand(2, B, generator=rng) < 0.2).float()
    return Batch(obs, action, -torch.ones(2, B), following, ends)


def disturb(network) -> None:
    with torch.no_grad():
        network.flat.add_(
            0.3 * torch.randn(network.flat.shape, generator=torch.Generator().manual_seed(5))
        )


def test_the_exploring_network_has_no_conservatism_and_follows_the_teacher():
    method, batch = make(), minibatch()
    disturb(method.behaviour.parts[0])
    disturb(method.target_network.parts[0])
    disturb(method.target_network.parts[0])
    method.rho.fill_(0.3)
    loss, metrics = method.exploration_loss(batch)
    q = method.behaviour.values(batch.obs).gather(-1, batch.action[..., None])[..., 0]
    best = method.target_network.values(batch.next_obs).amax(-1)
    target = batch.reward + 0.99 * (1 - batch.terminated) * best
    td = torch.stack([F.smooth_l1_loss(q[run], target[run]) for run in range(2)])
    kl = method.teacher.kl(method.behaviour, batch.obs).mean(-1)
    assert torch.allclose(loss, td + 0.3 * kl, atol=1e-6)
    assert (metrics["guidance"] > 0).all()
    agent = {key: value.clone() for key, value in method.agent.state().items()}
    before = method.behaviour.parts[0].flat.clone()
    method.extra_updates(batch)
    assert all((method.agent.state()[key] == value).all() for key, value in agent.items())
    assert (method.behaviour.parts[0].flat != before).any()


def test_its_target_is_copied_when_the_backbones_is():
    method, same = make(), []
    for step in range(6):
        method.agent.updates = step + 1
        before = method.behaviour.parts[0].flat.clone()
        method.extra_updates(minibatch(step))
        same.append(bool((method.target_network.parts[0].flat == before).all()))
    assert same == [True, False, True, False, True, False]
