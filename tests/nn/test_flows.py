"""RealNVP: inverse, Jacobian, density, likelihood, and a run that does not depend on its company."""

import pytest
import torch
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from o2okit.nn import Adam, RealNVP

SEEDS, B = (4, 0, 7), 11


def make(size=3, seeds=SEEDS, hidden=(16, 16), disturbed=0.2, **kind) -> RealNVP:
    """A flow that is no longer the identity; what disturbs a run depends on its seed alone."""
    flow = RealNVP(seeds, size, size, hidden=hidden, name="test", **kind)
    for part in flow.parts:
        for run, seed in enumerate(seeds):
            rng = torch.Generator().manual_seed(seed)
            for view in part.weights:
                view[run] += disturbed * torch.randn(view[run].shape, generator=rng)
    return flow


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def jacobian(flow, x, condition, wanted):
    """log |det ∂z/∂wanted| ``[R, B]``, a row of it at a time, as rows depend on nothing but themselves."""
    rows = []
    for dimension in range(x.shape[-1]):
        z, _ = flow.to_noise(x, condition)
        rows.append(torch.autograd.grad(z[..., dimension].sum(), wanted, retain_graph=True)[0])
    return torch.linalg.slogdet(torch.stack(rows, dim=-2))[1]


# --- the bijection --------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_the_inverse_is_exact(size):
    flow, x, condition = make(size), normal(3, B, size), normal(3, B, size, seed=1)
    with torch.no_grad():
        z, _ = flow.to_noise(x, condition)
        assert torch.allclose(flow.from_noise(z, condition), x, atol=1e-4)
        back, _ = flow.to_noise(flow.from_noise(x, condition), condition)
    assert torch.allclose(back, x, atol=1e-4)
    assert ((z - x).abs().amax((0, 1)) > 0.1).all(), "every dimension is transformed"


@pytest.mark.parametrize("size", [1, 3])
def test_the_log_determinant_is_that_of_autograds_jacobian(size):
    flow, x, condition = make(size), normal(3, B, size), normal(3, B, size, seed=1)
    log_det = flow.to_noise(x, condition)[1]
    assert torch.allclose(log_det, jacobian(flow, x.requires_grad_(), condition, x), atol=1e-4)


def test_an_action_depends_on_the_condition_and_on_its_own_row_alone():
    flow, x, condition = make(), normal(3, B, 3), normal(3, B, 3, seed=1)
    before = flow.sample(x, condition)
    condition[1, 4] += 1
    moved = (flow.sample(x, condition) != before).any(-1)
    assert moved.nonzero().tolist() == [[1, 4]]


# --- the density ----------------------------------------------------------------------------------
def test_at_first_it_is_the_squashed_normal():
    flow = RealNVP(SEEDS, 2, 2, name="test")
    action, noise = torch.tanh(normal(3, B, 2)), normal(3, B, 2, seed=1)
    squashed = TransformedDistribution(Normal(0.0, 1.0), TanhTransform())
    expected = squashed.log_prob(action).sum(-1)
    assert torch.allclose(flow.log_prob(action, noise), expected, atol=1e-4)
    assert torch.equal(flow.sample(noise, action), torch.tanh(noise))


def test_the_density_of_an_action_is_a_change_of_variables():
    """log p(a) = log N(z) + log |det ∂z/∂a|, with the whole Jacobian from autograd."""
    flow, action = make(), torch.tanh(normal(3, B, 3)).requires_grad_()
    condition = normal(3, B, 3, seed=1)
    x = torch.atanh(action)
    log_det = jacobian(flow, x, condition, action)
    expected = Normal(0.0, 1.0).log_prob(flow.to_noise(x, condition)[0]).sum(-1) + log_det
    assert torch.allclose(flow.log_prob(action, condition), expected, atol=1e-3)


@pytest.mark.parametrize("size", [1, 2])
def test_the_density_integrates_to_one_over_the_actions(size):
    flow = make(size, disturbed=0.1)
    line = torch.tanh(torch.linspace(-6, 6, 301))
    grid = torch.cartesian_prod(*[line] * size).view(-1, size).expand(3, -1, -1)
    condition = normal(3, 1, size, seed=1).expand_as(grid)
    with torch.no_grad():
        density = flow.log_prob(grid, condition).exp().view(3, *[len(line)] * size)
    for _ in range(size):
        density = torch.trapezoid(density, line, dim=-1)
    assert torch.allclose(density, torch.ones(3), atol=0.01)


def test_samples_follow_the_density():
    """In one dimension, by the distribution function: P(a < .2) from samples and by integration."""
    flow, n = make(1), 20_000
    condition = normal(3, 1, 1, seed=1)
    drawn = flow.sample(normal(3, n, 1), condition.expand(-1, n, -1))[..., 0]
    line = torch.linspace(-1, 0.2, 4_001)[1:]
    with torch.no_grad():
        grid = line[None, :, None].expand(3, -1, -1)
        density = flow.log_prob(grid, condition.expand(-1, len(line), -1)).exp()
    below = torch.trapezoid(density, line, dim=-1)
    assert torch.allclose((drawn < 0.2).float().mean(-1), below, atol=0.02)


def test_actions_on_the_border_have_a_finite_density_and_gradient():
    flow, action = make(2), torch.tensor([[-1.0, 1.0], [1.0, 1.0], [0.0, -1.0]]).expand(3, -1, -1)
    density = flow.log_prob(action, action)
    assert density.isfinite().all()
    assert torch.equal(density, flow.log_prob(action.clamp(-1 + 1e-5, 1 - 1e-5), action))
    adam = Adam(flow.parts, 1e-3)
    assert all(gradient.isfinite().all() for gradient in adam.gradient(density.mean(-1)))
    extreme = flow.sample(1e4 * normal(3, B, 2), normal(3, B, 2))
    assert extreme.isfinite().all()
    assert (extreme.abs() <= 1).all()


# --- training -------------------------------------------------------------------------------------
def walk(runs: int):
    """Actions that keep close to the previous one, and these: ``[R, 256, 2]`` each."""
    previous = torch.tanh(normal(1, 256, 2))
    action = torch.tanh(torch.atanh(previous) + 0.2 * normal(1, 256, 2, seed=1))
    return action.expand(runs, -1, -1), previous.expand(runs, -1, -1)


def fit(flow: RealNVP, steps: int):
    """On full minibatches and on some that fill no vector register."""
    action, previous = walk(flow.parts[0].runs)
    adam, losses = Adam(flow.parts, 3e-3), []
    for step in range(steps):
        rows = slice(256 if step % 4 else 7)
        loss = -flow.log_prob(action[:, rows], previous[:, rows]).mean(-1)
        losses.append(loss.detach())
        adam.step(loss)
    return torch.stack(losses)


def test_the_likelihood_rises_where_actions_are_correlated():
    flow = RealNVP((0, 1), 2, 2, hidden=(32, 32), name="test")
    losses = fit(flow, 200)
    assert (losses[-1] < losses[1] - 1.5).all()
    action, condition = walk(2)
    drawn = flow.sample(normal(2, 256, 2, seed=5), condition)
    near = (drawn - condition).abs().mean((1, 2))
    assert (near < 0.25).all()
    with torch.no_grad():
        right = flow.log_prob(action, condition).mean(-1)
        wrong = flow.log_prob(action.flip(1), condition).mean(-1)
    assert (right > wrong + 2).all()


@pytest.mark.parametrize("runs", [2, 11])
def test_a_run_has_the_same_bits_in_every_cohort(runs):
    def trained(seeds):
        flow = make(2, seeds, hidden=(128, 128), disturbed=0.05)
        fit(flow, 10)
        noise = normal(1, 1, 2).repeat(len(seeds), 1, 1)
        one = flow.sample(noise, torch.zeros_like(noise))
        return [*(part.pack(part.flat)[0] for part in flow.parts), one[0]]

    alone, among = trained((3,)), trained((3, *range(10, 9 + runs)))
    assert all((a == b).all() for a, b in zip(alone, among, strict=True))
    assert (alone[0] != trained((4,))[0]).any()


def test_no_gradient_crosses_the_run_axis():
    flow = make()
    loss = flow.log_prob(torch.tanh(normal(3, B, 3)), normal(3, B, 3)).mean(-1)
    gradients = torch.autograd.grad(loss[1], [part.flat for part in flow.parts])
    for part, gradient in zip(flow.parts, gradients, strict=True):
        for view in part.views(gradient):
            assert (view[[0, 2]] == 0).all()


def test_state_is_restored_run_by_run():
    flow, other = make(), make(seeds=(5, 6, 8))
    other.load_state({key: value.clone() for key, value in flow.state().items()})
    x, condition = normal(3, B, 3), normal(3, B, 3, seed=1)
    assert torch.equal(flow.sample(x, condition), other.sample(x, condition))
    assert all(len(value) == 3 for value in flow.state().values())
