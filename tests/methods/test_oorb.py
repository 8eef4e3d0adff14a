"""APL and SUNG: what they draw, what they choose, and which rows are kept close to the data."""

from dataclasses import replace

import hosts
import pytest
import torch

from o2okit.backbones import BACKBONES
from o2okit.errors import UserError
from o2okit.methods.sung import DETERMINISTIC, STOCHASTIC
from o2okit.nn import VAE
from o2okit.training import RunSpec
from o2okit.training.cohort import Cohort

VAE_SMALL = {"vae_updates": 3, "vae_hidden": (16, 16), "candidates": 40}


@pytest.fixture(scope="module")
def data():
    return hosts.hopper_data()


def cohort(data, method, backbone="td3+bc", steps=30, **hyper) -> Cohort:
    small = hosts.SMALL | hosts.FEW.get(backbone, {})
    own = (VAE_SMALL if method == "sung" else {}) | hyper
    specs = [
        RunSpec(
            *("hopper", backbone, "online", 1_000, seed),
            hyper=small,
            method=method,
            method_hyper=own,
            dataset=data,
            replay="mixed",
            eval_episodes=1,
        )
        for seed in (0, 1)
    ]
    made = Cohort(specs)
    made.begin(())
    while made.step < steps:
        made.advance()
    made.method.draws = made.streams.at(made.step)
    return made


# --- the replay -----------------------------------------------------------------------------------
def test_nine_tenths_are_the_newest_own_rows(data):
    made = cohort(data, "apl", newest=5)
    batch = made.method.sample(made.replay)
    recent = round(0.9 * hosts.B)
    assert made.method.recent == recent
    last = [made.replay._base[run] + torch.arange(25, 30) for run in range(2)]
    own = [{tuple(row) for row in made.replay.rows[places].tolist()} for places in last]
    width = made.task.obs_size
    for run in range(2):
        newest = {row[:width] for row in own[run]}
        assert {tuple(obs) for obs in batch.obs[run, :recent].tolist()} <= newest
    rest = batch.obs[:, recent:].flatten(0, 1).tolist()
    assert any(tuple(obs) not in {row[:width] for rows in own for row in rows} for obs in rest)


def test_newest_rows_when_the_oldest_are_overwritten(data):
    made = cohort(data, "apl")
    replay = made.replay
    replay.capacity, replay._next, replay.online = 30, 4, 30
    places = replay.newest_places(torch.linspace(0, 0.999, 50).expand(2, -1), 6)
    index = (places - replay._base[:, None])[0]
    assert index.unique().tolist() == [0, 1, 2, 3, 28, 29]


# --- the constraint -------------------------------------------------------------------------------
@pytest.mark.parametrize("backbone", ["td3+bc", "cql", "cal-ql"])
def test_rows_of_the_constraint(backbone, data):
    """None: all rows; weights of 1: the same; of 0: the constraint is gone."""
    made = cohort(data, "naive", backbone)
    agent, batch = made.agent, made.agent.prepare(made.method.sample(made.replay))
    action = batch.action[:, :, None].expand(-1, -1, 6, -1) * 0.5

    def loss(rows):
        agent.method.constraint = lambda batch: rows
        if backbone == "td3+bc":
            return agent.actor_loss(batch)[1]["bc_loss"]
        zeros = torch.zeros(2, hosts.B, 6)
        return agent.conservative_loss(batch, batch.reward, action, zeros)[1]

    ones = torch.ones(2, hosts.B)
    plain = loss(None)
    assert torch.allclose(loss(ones), plain)
    assert (loss(0 * ones) == 0).all()
    first = torch.zeros(2, hosts.B)
    first[:, :4] = hosts.B / 4
    assert not torch.allclose(loss(first), plain)
    others = hosts.B * ones / (hosts.B - 4) - first * 4 / (hosts.B - 4)
    both = (4 * loss(first) + (hosts.B - 4) * loss(others)) / hosts.B
    assert torch.allclose(both, plain, atol=1e-4)


def test_the_gap_counts_as_much_as_its_rows(data):
    """With all rows at a tenth, the multiplier sees a tenth of difference and gap."""
    made = cohort(data, "naive", "cql")
    made.agent.hyper = replace(made.agent.hyper, gap=torch.tensor([0.8, 0.8]))
    agent, batch = made.agent, made.agent.prepare(made.method.sample(made.replay))
    action = batch.action[:, :, None].expand(-1, -1, 6, -1) * 0.5
    zeros, found = torch.zeros(2, hosts.B, 6), []
    for share in (1.0, 0.1):
        agent.method.constraint = lambda batch, share=share: torch.full((2, hosts.B), share)
        found.append(agent.conservative_loss(batch, batch.reward, action, zeros)[1])
    assert torch.allclose(found[1], 0.1 * found[0], atol=1e-6)
    plain = cohort(data, "naive", "cql").agent
    plain.method.constraint = lambda batch: None
    difference = plain.conservative_loss(batch, batch.reward, action, zeros)[1]
    assert torch.allclose(found[0], difference - 0.8, atol=1e-5)


def test_who_asks_for_it():
    assert {name for name, cls in BACKBONES.items() if "constraint" in cls.asks} == {
        "td3+bc",
        "cql",
        "cal-ql",
    }
    with pytest.raises(UserError, match="not defined for backbone 'iql'"):
        RunSpec("hopper", "iql", "online", 1_000, 0, method="apl", replay="online")


def test_apls_newest_rows_are_free(data):
    made = cohort(data, "apl")
    batch = made.agent.prepare(made.method.sample(made.replay))
    rows = made.method.constraint(batch)
    assert rows.sum(1).tolist() == [hosts.B - made.method.recent] * 2
    assert (rows[:, : made.method.recent] == 0).all()


@pytest.mark.parametrize(("backbone", "host"), [("td3+bc", DETERMINISTIC), ("cql", STOCHASTIC)])
def test_sungs_uncertain_rows_are_constrained(backbone, host, data):
    made = cohort(data, "sung", backbone)
    method = made.method
    assert method.host == host
    batch = made.agent.prepare(method.sample(made.replay))
    rows = method.constraint(batch)
    number = max(round(host.share * hosts.B), 1)
    assert ((rows > 0).sum(1) == number).all()
    assert torch.allclose(rows.mean(1), torch.full((2,), host.weight))
    if not host.drawn:
        noise = method.draws.normal("constraint latent", hosts.B, method.vae.latent)
        top = method.uncertainty(batch.obs, batch.action, noise).topk(number, dim=1).indices
        assert (rows.gather(1, top) > 0).all()


# --- acting ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("backbone", ["td3+bc", "cql"])
def test_the_action_is_a_finalist(backbone, data):
    made = cohort(data, "sung", backbone)
    method, agent, n = made.method, made.agent, VAE_SMALL["candidates"]
    draws, raw = made.streams.at(made.step), torch.from_numpy(made.obs)
    obs = agent.view(raw[:, None]).expand(-1, n, -1).contiguous()
    actions = agent.policy.sample(obs, draws.normal("candidates", n, made.task.act_size))
    value = agent.q(agent.critic, obs, actions).amin(1)
    unknown = method.uncertainty(obs, actions, draws.normal("latent", n, method.vae.latent))
    by = value if backbone == "td3+bc" else unknown
    kept = by.topk(method.host.finalists, dim=1).indices
    chosen = method.act(raw, draws)
    for run in range(2):
        assert any(torch.equal(chosen[run], actions[run, i]) for i in kept[run])


def test_the_vae_learns_the_data_and_knows_what_it_has_not_seen(data):
    few, many = (cohort(data, "sung", steps=0, vae_updates=n) for n in (1, 400))
    obs, action = (
        torch.from_numpy(field)[:200].expand(2, -1, -1)
        for field in (data.observations, data.actions)
    )
    obs = many.agent.view(obs)
    noise = torch.zeros(2, 200, many.method.vae.latent)
    seen = many.method.uncertainty(obs, action, noise).mean(1)
    assert (seen < 0.8 * few.method.uncertainty(obs, action, noise).mean(1)).all()
    assert (many.method.uncertainty(obs + 5, -action, noise).mean(1) > 2 * seen).all()


@pytest.mark.parametrize("backbone", ["td3+bc", "cql"])
def test_the_vae_sees_standardised_states_whatever_the_agent_sees(backbone, data):
    made = cohort(data, "sung", backbone, steps=0)
    obs = torch.from_numpy(data.observations)[None].expand(2, -1, -1)
    seen = made.method.normaliser(made.agent.view(obs))
    assert torch.allclose(seen.mean(1), torch.zeros(()), atol=1e-3)
    assert torch.allclose(seen.std(1), torch.ones(()), atol=0.05)
    again = cohort(data, "sung", backbone, steps=0)
    again.method.normaliser.mean.zero_()
    again.method.load_state(made.method.state())
    assert torch.equal(again.method.normaliser.mean, made.method.normaliser.mean)


def test_sung_needs_a_dataset():
    with pytest.raises(UserError, match="learns from the dataset before the first step"):
        RunSpec("hopper", "td3+bc", "online", 1_000, 0, method="sung", replay="online")


def test_errors_of_an_autoencoder():
    """The divergence is that of torch's distributions; the latent's noise reaches the decoder."""
    vae = VAE((0, 1), 4, 3, (8,), condition=2, name="v")
    x, c = torch.randn(2, 5, 4), torch.randn(2, 5, 2)
    noise = torch.randn(2, 5, 3)
    error, divergence = vae.errors(x, noise, c)
    mean, log_std = vae.encode(x, c)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(mean, log_std.exp()), normal(0.0, 1.0)
    ).mean(-1)
    assert torch.allclose(divergence, expected, atol=1e-6)
    again = vae.decode(mean + log_std.exp() * noise, c)
    assert torch.allclose(error, (again - x).square().mean(-1), atol=1e-6)
    assert not torch.allclose(error, vae.errors(x, -noise, c)[0])
