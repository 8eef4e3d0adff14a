import hosts
import numpy as np
import pytest
import torch

from o2okit import hyper
from o2okit.backbones.dqn import DQN
from o2okit.data import Batch
from o2okit.methods.rnd import RND
from o2okit.tasks import task


def make(seeds=(0, 1), betas=(0.1, 0.1)) -> RND:
    values = [hyper.complete(RND.Hyperparameters, {"beta": beta}) for beta in betas]
    agent = DQN(task("toy-maze"), [hyper.complete(DQN.Hyperparameters, {})] * 2, seeds)
    return RND(agent, values, seeds)


def batch(seed: int, low: int = 0, high: int = 291) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    cells = torch.randint(low, high, (2, 32), generator=rng)
    return Batch(cells, cells % 4, -torch.ones(2, 32), cells, torch.zeros(2, 32))


def test_the_bonus_is_the_error_over_the_spread_of_all_errors():
    rnd, seen = make(betas=(0.1, 0.7)), []
    for step in range(4):
        b = batch(step)
        features, guess = (
            rnd.distillation.frozen(b.next_obs),
            rnd.distillation.predictor(b.next_obs),
        )
        error = (guess - features).square().sum(-1).detach().numpy()
        seen.append(error)
        reward = rnd.reward(b).numpy()
        for run, beta in enumerate((0.1, 0.7)):
            std = np.concatenate([e[run] for e in seen]).std()
            assert reward[run] == pytest.approx(-1 + beta * error[run] / std, rel=1e-4)
        rnd.extra_updates(b)


def test_visited_states_lose_their_bonus_and_the_frozen_network_rests():
    rnd = make()
    frozen = rnd.distillation.frozen.flat.clone()
    with torch.no_grad():
        before = rnd.distillation.error(torch.arange(291).expand(2, -1))
    for step in range(300):
        rnd.reward(batch(step, high=20))
        rnd.extra_updates(batch(step, high=20))
    with torch.no_grad():
        after = rnd.distillation.error(torch.arange(291).expand(2, -1))
    assert (after[:, :20].mean(1) < 0.2 * before[:, :20].mean(1)).all()
    assert (after[:, 20:].mean(1) > 2 * after[:, :20].mean(1)).all()
    assert (rnd.distillation.frozen.flat == frozen).all()


def test_zero_weight_changes_nothing_and_no_gradient_reaches_the_reward():
    reward = make(betas=(0.0, 1.0)).reward(batch(0))
    assert (reward[0] == -1).all()
    assert (reward[1] > -1).all()
    assert not reward.requires_grad


def test_state_continues_exactly():
    first, second = make(), make()
    for step in range(3):
        first.reward(batch(step))
        first.extra_updates(batch(step))
    second.load_state({key: value.clone() for key, value in first.state().items()})
    for step in range(3, 6):
        assert (first.reward(batch(step)) == second.reward(batch(step))).all()
        first.extra_updates(batch(step))
        second.extra_updates(batch(step))
    assert (first.distillation.predictor.flat == second.distillation.predictor.flat).all()


def test_raw_observations_are_standardised_by_what_was_seen():
    """CQL's come raw: a state of 40 must not be cut off at 5."""
    rnd, seen = hosts.make("rnd", "cql"), []
    for step in range(3):
        raw = hosts.minibatch(step)
        raw = raw._replace(next_obs=raw.next_obs * 30 + 40)
        rnd.reward(raw)
        seen.append(raw.next_obs)
    everything = torch.cat(seen, dim=1)
    mean, std = everything.mean(1), everything.std(1, unbiased=False)
    assert torch.allclose(rnd.distillation.seen.mean, mean, rtol=1e-4)
    assert torch.allclose(rnd.distillation.seen.std, std, rtol=1e-4)
    standard = ((raw.next_obs - mean[:, None]) / std[:, None]).clamp(-5, 5)
    expected = (
        (rnd.distillation.predictor(standard) - rnd.distillation.frozen(standard)).square().sum(-1)
    )
    assert torch.allclose(rnd.distillation.error(raw.next_obs), expected, rtol=1e-3, atol=1e-5)


def test_standardised_observations_are_taken_as_they_come():
    rnd, batch = hosts.make("rnd", "iql"), hosts.minibatch()
    before = rnd.distillation.error(batch.next_obs)
    rnd.reward(batch)
    assert rnd.distillation.seen is None
    assert torch.equal(rnd.distillation.error(batch.next_obs), before)
