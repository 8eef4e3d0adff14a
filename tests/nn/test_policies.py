"""Policies: their divergences against specs/gde.md 6, copies of some runs, acting."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from o2okit.nn import (
    DeterministicPolicy,
    GaussianPolicy,
    Stacked,
    StackedMLP,
    TanhGaussianPolicy,
)
from o2okit.nn.distributions import normal_kl

RUNS, OBS, ACT = 3, 4, 2


def policy(kind: type, name: str = "actor"):
    width = 2 * ACT if kind is TanhGaussianPolicy else ACT
    actor = StackedMLP(range(RUNS), (OBS, 8, width), name=name)
    if kind is DeterministicPolicy:
        return kind(actor, torch.full((RUNS,), 0.1))
    if kind is GaussianPolicy:
        return kind(actor, Stacked([np.full((RUNS, 1, ACT), -0.3)]), bounded=True)
    return kind(actor, Stacked([np.tile([1.0, -1.0], (RUNS, 1))]))


KINDS = [DeterministicPolicy, GaussianPolicy, TanhGaussianPolicy]
OBSERVATIONS = torch.randn(RUNS, 5, OBS, generator=torch.Generator().manual_seed(0))


def test_the_divergence_and_its_gradient_are_the_specs():
    teacher = torch.tensor([0.2, -0.5]), torch.tensor([0.3, 0.5]).log()
    mean = torch.tensor([0.1, 0.0], requires_grad=True)
    log_std = torch.tensor([0.4, 0.25]).log().requires_grad_()
    kl = normal_kl(*teacher, mean, log_std)
    kl.backward()
    assert kl.item() == pytest.approx(2.907035, abs=1e-6)
    assert mean.grad.tolist() == pytest.approx([-0.625, 8], abs=1e-5)
    assert log_std.grad.tolist() == pytest.approx([0.375, -7], abs=1e-5)
    assert normal_kl(mean, log_std, *teacher).item() == pytest.approx(0.974910, abs=1e-6)
    fixed = torch.zeros(2)
    assert normal_kl(teacher[0], fixed, mean, fixed).item() == pytest.approx(0.13, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_divergence_of_two_policies_is_pytorchs(kind):
    one, other = policy(kind), policy(kind, "another")
    kl = one.kl(other, OBSERVATIONS)
    (mean, log_std), (mean_2, log_std_2) = one.gaussian(OBSERVATIONS), other.gaussian(OBSERVATIONS)
    expected = kl_divergence(Normal(mean, log_std.exp()), Normal(mean_2, log_std_2.exp())).sum(-1)
    assert kl.shape == (RUNS, 5)
    assert torch.allclose(kl, expected, atol=1e-5)
    assert (one.kl(one, OBSERVATIONS).abs() < 1e-6).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_takes_over_the_runs_asked_for_and_no_others(kind):
    one, other = policy(kind), policy(kind, "another")
    teacher = one.copy()
    assert not any(part.flat.requires_grad for part in teacher.parts)
    teacher.copy_from(other, torch.tensor([False, True, False]))
    ours, first, second = (p.mode(OBSERVATIONS) for p in (teacher, one, other))
    assert (ours[[0, 2]] == first[[0, 2]]).all()
    assert (ours[1] == second[1]).all()
    assert (first[1] != second[1]).any()
    teacher.copy_from(other)
    assert (teacher.mode(OBSERVATIONS) == second).all()
    again = one.copy()
    again.load_state(teacher.state())
    assert (again.mode(OBSERVATIONS) == second).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_trainable_copy_has_gradients_of_its_own(kind):
    teacher = policy(kind, "another").copy()
    learner = policy(kind).copy(trainable=True)
    teacher.kl(learner, OBSERVATIONS).sum().backward()
    gradients = [part.flat.grad for part in learner.parts]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
    assert all(part.flat.grad is None for part in teacher.parts)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_actions_around_the_mode(kind):
    acting = policy(kind)
    assert torch.allclose(
        acting.sample(OBSERVATIONS, torch.zeros(RUNS, 5, ACT)), acting.mode(OBSERVATIONS)
    )
    wild = acting.sample(OBSERVATIONS, torch.full((RUNS, 5, ACT), 100.0))
    assert (wild == 1).all()
