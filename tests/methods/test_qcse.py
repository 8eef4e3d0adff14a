"""QCSE and its companions on a real cohort: which rows get a bonus, by whom, and how large it is."""

import itertools

import hosts
import numpy as np
import pytest
import torch
from recorded import assert_same
from scipy.special import digamma

from o2okit.errors import UserError
from o2okit.methods import METHODS, intrinsic
from o2okit.methods.neighbours import conditional_bonus, neighbours, standardised
from o2okit.methods.qcse import VCSE_CODE
from o2okit.tasks import task
from o2okit.training import RunSpec
from o2okit.training.cohort import Cohort
from o2okit.training.recording import FLAG

START, STEPS, M = 20, 60, 12


@pytest.fixture(scope="module")
def data():
    return hosts.hopper_data()


def cohort(
    data,
    method="qcse",
    backbone="td3+bc",
    replay="half",
    steps=STEPS,
    seeds=(0, 1),
    settings=None,
    **hyper,
) -> Cohort:
    """Two runs that have made ``steps`` steps; lists give each run its own value."""
    small = hosts.SMALL | hosts.FEW.get(backbone, {}) | (settings or {})
    near = {} if method in ("const", "vae-bonus", "rnd-bonus") else {"size": M, "k": 3}
    own = {"start": START} | near | hyper
    specs = [
        RunSpec(
            *("hopper", backbone, "online", 1_000, seed),
            hyper=small,
            method=method,
            method_hyper={k: v[index] if isinstance(v, list) else v for k, v in own.items()},
            dataset=data,
            replay=replay,
            eval_episodes=1,
        )
        for index, seed in enumerate(seeds)
    ]
    made = Cohort(specs)
    made.begin()
    while made.step < steps:
        made.advance()
    return made


def rewards(method, batch):
    """What an update learns from."""
    reward, _ = method.shape(batch._replace(reward=method.reward(batch)))
    return reward


def draw(made: Cohort):
    """The next minibatch as the losses see it, and its rewards with the bonus."""
    made.method.draws = made.streams.at(made.step)
    batch = made.agent.prepare(made.method.sample(made.replay))
    return batch, rewards(made.method, batch)


def by_hand(made: Cohort, batch, k: int, run: int, lam: float = 1.0) -> dict[int, float]:
    """λ tanh(b) of the own rows of a minibatch, row by row, in NumPy (specs/qcse.md 2)."""
    method, agent, h = made.method, made.agent, made.method.hyper
    places = method.places[run].tolist()
    base = int(made.replay._base[run])
    own = [i for i, place in enumerate(places) if place >= made.replay.offline]
    rows, seen = [], set()  # the reference set: distinct own rows, then drawn ones up to M
    least, _ = made.replay.own_rows(len(places))
    u = method.draws.uniform("reference", M)[run].numpy()
    more = [base + int(x * made.replay.online) for x in u[: max(M - least, 0)]]
    for place in [places[i] for i in own] + more[: max(M - len(own), 0)]:
        if place not in seen:
            seen.add(place)
            rows.append(place)
    stored = agent.prepare(made.replay.take(torch.tensor([rows] * 2)))  # the run's own base matters
    s = stored.obs[run].numpy() / made.task.obs_size
    q = agent.q(agent.critic, stored.obs, stored.action).amin(1)[run].detach().numpy().astype(float)
    if h.q_norm:
        q = (q - q.mean()) / np.sqrt(q.var() + 1e-5)
    bonus = {}
    for i in own:
        me = rows.index(places[i])
        others = [j for j in range(len(rows)) if j != me]
        ds = {j: np.linalg.norm(s[me] - s[j]) for j in others}
        dq = {j: abs(q[me] - q[j]) for j in others}
        first = [0.0] if h.self_inclusive else []
        radius = sorted(first + [max(ds[j], dq[j]) for j in others])[k - 1]
        if not h.joint:
            radius = max(sorted(d.values())[k - 1] for d in (ds, dq))
        n = sum(dq[j] < radius for j in others) + h.count_self
        b = digamma(n + 1) / made.task.obs_size + np.log(2 * radius + 1e-5)
        bonus[i] = lam * np.tanh(b)
    return bonus


@pytest.mark.parametrize(
    ("replay", "switches"),
    [
        ("half", {}),
        ("mixed", {}),
        ("online", {}),
        ("half", {"joint": False}),
        ("half", {"self_inclusive": True}),
        ("half", {"count_self": True}),
        ("half", {"q_norm": False}),
        ("half", VCSE_CODE),
    ],
)
def test_own_rows_get_the_bonus_and_the_datasets_keep_their_rewards(data, replay, switches):
    made = cohort(data, replay=replay, k=[3, 5], weight=[1.0, 0.5], **switches)
    batch, reward = draw(made)
    for run, (k, lam) in enumerate(((3, 1.0), (5, 0.5))):
        expected = by_hand(made, batch, k, run, lam)
        added = (reward - batch.reward)[run]
        assert {i for i in range(len(added)) if added[i] != 0} <= set(expected)
        assert expected
        for i, value in expected.items():
            assert added[i].item() == pytest.approx(value, abs=2e-4)
    assert not reward.requires_grad


def test_the_bonus_is_added_to_scaled_rewards_and_to_terminal_rows_but_not_to_returns(data):
    """specs/qcse.md 2, bootstrapping. Cal-QL bounds its Q from below by the returns of its episodes."""
    settings = {"reward_scale": 10.0, "reward_bias": -5.0, "batch_size": 64}
    made = cohort(data, backbone="cal-ql", settings=settings)
    batch, reward = draw(made)
    stored = made.replay.take(made.method.places)
    assert torch.allclose(batch.reward, 10 * stored.reward - 5)
    ended = 0
    for run in range(2):
        added = (reward - batch.reward)[run]
        for i, value in by_hand(made, batch, 3, run).items():
            assert added[i].item() == pytest.approx(value, abs=2e-4)
            ended += int(batch.terminated[run, i])
    assert ended
    known = 0
    for run in range(2):
        own = made.replay.take(torch.arange(STEPS)[None].expand(2, -1) + made.replay._base[:, None])
        reward, last = own.reward[run].tolist(), own.terminated[run].tolist()
        for start in range(STEPS):
            if end := next((i for i in range(start, STEPS) if last[i]), 0):
                expected = sum(
                    0.99**power * (10 * reward[i] - 5)
                    for power, i in enumerate(range(start, end + 1))
                )
                assert own.mc_return[run, start].item() == pytest.approx(expected, rel=1e-4)
                known += 1
    assert known > STEPS


def test_metrics_say_what_the_bonus_is(data):
    made = cohort(data)
    made.agent.updates = 50  # they are not computed every time
    batch, reward = draw(made)
    log = made.method.extra_updates(batch)
    own = made.method.places >= made.replay.offline
    added = reward - batch.reward
    for run in range(2):
        values = added[run][own[run]]
        assert log["bonus_mean"][run].item() == pytest.approx(values.mean().item(), abs=1e-5)
        assert log["bonus_std"][run].item() == pytest.approx(
            values.std(unbiased=False).item(), abs=1e-5
        )
    assert (log["bonus_raw_mean"] != log["bonus_mean"]).all()
    assert ((log["by_condition_mean"] >= 0) & (log["by_condition_mean"] <= 1)).all()


def test_of_the_m_rows_of_the_reference_set_none_counts_twice(data):
    for replay, kind in (("half", {}), ("mixed", {}), ("mixed", {"reference": "buffer"})):
        made = cohort(data, replay=replay, steps=STEPS, **kind)
        batch, _ = draw(made)
        rows = made.method.look(batch)
        assert (rows.present.sum(1) <= max(M, made.method.asked.sum(1).max())).all()
        assert (rows.present.sum(1) >= M - 5).all()  # of 60 rows some are drawn twice
        asked = rows.first.shape[1]
        if kind:
            assert not rows.present[:, :asked].any()
        places = made.method.of_queries(made.method.places)
        for run, i in itertools.product(range(2), range(asked)):
            if (first := rows.first[run, i]) >= 0:
                assert rows.present[run, first]
                if first < asked:
                    assert places[run, i] == places[run, first]


@pytest.mark.parametrize("change", [{"weight": 0.0}, {"k": 0}])
def test_without_weight_or_neighbour_it_is_plain_fine_tuning(data, change):
    ours = cohort(data, **change).agent.state()
    spec = RunSpec(
        *("hopper", "td3+bc", "online", 1_000, 0),
        hyper=hosts.SMALL,
        dataset=data,
        replay="half",
        eval_episodes=1,
    )
    naive = Cohort([spec])
    naive.begin()
    while naive.step < STEPS:
        naive.advance()
    theirs = naive.agent.state()
    assert all(torch.equal(ours[key][0], theirs[key][0]) for key in theirs)


def test_no_bonus_before_there_are_enough_rows(data):
    made = cohort(data, start=STEPS + 1)
    batch, reward = draw(made)
    assert torch.equal(reward, batch.reward)
    made.advance()
    batch, reward = draw(made)
    assert (reward != batch.reward).any()


def test_between_two_bonuses_there_is_none(data):
    made = cohort(data, every=4)
    while made.agent.updates % 4:
        made.advance()
    batch, reward = draw(made)
    assert (reward != batch.reward).any()
    made.agent.updates += 1
    batch, reward = draw(made)
    assert torch.equal(reward, batch.reward)


def test_or_the_rows_last(data):
    """A row that never had one has none."""
    made = cohort(data, every=4, reuse=True)
    while made.agent.updates % 4:
        made.advance()
    made.method.last.zero_()
    batch, reward = draw(made)
    number, own = (
        made.replay.own_index(made.method.places),
        made.method.places >= made.replay.offline,
    )
    rows = [(run, int(number[run, i])) for run in range(2) for i in range(hosts.B) if own[run, i]]
    assert {tuple(place) for place in made.method.last.nonzero().tolist()} == set(rows)
    made.agent.updates += 1
    batch, again = draw(made)  # the same rows: the step is the same
    assert torch.allclose(again, reward, atol=1e-6)
    made.method.last.zero_()
    assert torch.equal(draw(made)[1], batch.reward)


def test_a_row_that_is_overwritten_loses_its_bonus(data):
    made = cohort(data, reuse=True)
    made.method.last.fill_(1.0)
    place = made.replay.next_row
    made.interact()
    assert (made.method.last[:, place] == 0).all()
    assert (made.method.last.sum(1) == made.replay.capacity - 1).all()


@pytest.mark.parametrize("kind", ["target", "extrinsic", "random", "frozen"])
def test_whose_q_the_condition_is(data, kind):
    made = cohort(data, cond_net=kind)
    batch, _ = draw(made)
    rows = made.method.look(batch)
    critic = made.agent.target_critic if kind == "target" else made.method.critic
    expected = made.agent.q(critic, rows.obs, rows.action).amin(1)
    assert torch.equal(made.method.condition(rows, batch), expected)
    if kind == "target":
        return
    fresh = cohort(data, cond_net=kind, steps=0)
    same = torch.equal(fresh.method.critic.flat, made.method.critic.flat)
    assert same == (kind == "frozen")
    started = torch.equal(fresh.method.critic.flat, fresh.agent.critic.flat)
    assert started == (kind == "extrinsic")


def test_own_critics_learn_the_tasks_reward_without_bonus(data):
    made = cohort(data, cond_net="extrinsic", weight=5.0)
    batch, reward = draw(made)
    method, agent = made.method, made.agent
    noise = method.draws.normal("condition", agent.hyper.batch_size, made.task.act_size)
    with torch.no_grad():
        action = agent.policy.sample(batch.next_obs, noise)
        following = agent.q(method.target_critic, batch.next_obs, action).amin(1)
        target = batch.reward + 0.99 * (1 - batch.terminated) * following
    q = agent.q(method.critic, batch.obs, batch.action)
    loss = (q - target[:, None]).square().mean(-1).sum(-1)
    (gradient,) = torch.autograd.grad(loss.sum(), method.critic.flat)
    seen = []
    method.adam.step = lambda loss: seen.append(
        torch.autograd.grad(loss.sum(), method.critic.flat)[0]
    )
    method.extra_updates(batch._replace(reward=reward))
    assert torch.allclose(seen[0], gradient, atol=1e-6)


def test_vcse_is_conditioned_on_the_states_value(data):
    for backbone in ("iql", "td3+bc"):
        made = cohort(data, method="vcse", backbone=backbone)
        batch, _ = draw(made)
        rows = made.method.look(batch)
        if backbone == "iql":
            expected = made.agent.value(rows.obs)[..., 0]
        else:
            mean = made.agent.policy.mode(rows.obs)
            expected = made.agent.q(made.agent.critic, rows.obs, mean).amin(1)
        assert torch.equal(made.method.condition(rows, batch), expected)


@pytest.mark.parametrize("kind", ["target", "extrinsic"])
def test_vcse_may_take_other_critics(data, kind):
    made = cohort(data, method="vcse", cond_net=kind)
    batch, _ = draw(made)
    rows = made.method.look(batch)
    critic = made.agent.target_critic if kind == "target" else made.method.critic
    expected = made.agent.q(critic, rows.obs, made.agent.policy.mode(rows.obs)).amin(1)
    assert torch.equal(made.method.condition(rows, batch), expected)


def test_qcse_may_look_at_the_policys_action(data):
    made = cohort(data, cond_action="policy")
    batch, _ = draw(made)
    rows = made.method.look(batch)
    mean = made.agent.policy.mode(rows.obs)
    expected = made.agent.q(made.agent.critic, rows.obs, mean).amin(1)
    assert torch.equal(made.method.condition(rows, batch), expected)


def test_state_entropy_looks_at_states_alone(data):
    made = cohort(data, method="se")
    batch, reward = draw(made)
    rows = made.method.look(batch)
    s = rows.obs[0].numpy() / made.task.obs_size
    added = (reward - batch.reward)[0]
    for i, place in enumerate(range(hosts.B // 2, hosts.B)):
        others = [j for j in range(len(s)) if rows.present[0, j] and j != rows.first[0, i]]
        distances = [np.linalg.norm(s[i] - s[j]) for j in others]
        expected = np.tanh(np.log1p(sorted(distances)[2]))
        assert added[place].item() == pytest.approx(expected, abs=1e-5)


def test_rnd_pays_own_rows_for_what_its_predictor_has_not_learnt(data):
    """tanh(e / std e), e over all own rows seen since ``start``; before, the predictor rests."""
    made, fresh = (cohort(data, "rnd-bonus", start=STEPS + 1, steps=n) for n in (STEPS, 0))
    predictor, frozen = made.method.distillation.predictor, made.method.distillation.frozen
    batch, reward = draw(made)
    made.method.extra_updates(batch)
    assert torch.equal(reward, batch.reward)
    assert torch.equal(predictor.flat, fresh.method.distillation.predictor.flat)
    made.interact()
    half, seen = hosts.B // 2, []
    for made.step in range(STEPS, STEPS + 3):
        made.method.draws = made.streams.at(made.step)
        batch = made.agent.prepare(made.method.sample(made.replay))
        obs = batch.next_obs[:, half:].clamp(-5, 5)
        error = (predictor(obs) - frozen(obs)).square().sum(-1).detach().numpy()
        seen.append(error)
        added = (rewards(made.method, batch) - batch.reward).numpy()
        assert (added[:, :half] == 0).all()
        for run in range(2):
            spread = np.concatenate([each[run] for each in seen]).std()
            assert added[run, half:] == pytest.approx(np.tanh(error[run] / spread), abs=1e-5)
        before = predictor.flat.clone()
        made.method.extra_updates(batch)
        assert not torch.equal(predictor.flat, before)


def test_the_control_pays_lambda_for_every_own_row(data):
    made = cohort(data, method="const", weight=[0.3, 2.0])
    batch, reward = draw(made)
    own = made.method.places >= made.replay.offline
    expected = own * torch.tensor([[0.3], [2.0]])
    assert torch.allclose(reward - batch.reward, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "factor"), [("none", 1), ("root", 11**0.5), ("dimensions", 11), ("zscore", None)]
)
def test_scales_of_the_states(data, kind, factor):
    made = cohort(data, s_norm=kind)
    batch, _ = draw(made)
    rows = made.method.look(batch)
    states = rows.obs
    if factor is None:
        there = [states[run][rows.present[run]] for run in range(2)]
        mean, std = (
            torch.stack([f(each) for each in there])
            for f in (lambda x: x.mean(0), lambda x: x.std(0, unbiased=False))
        )
        states, factor = (states - mean[:, None]) / (std[:, None] + 1e-5), 1
    scaled, unit = made.method.scaled(rows)
    assert torch.allclose(scaled / unit, states / factor, atol=1e-5)
    # What is handed to the estimator, by the bonuses that come of it.
    value = made.method.condition(rows, batch)
    found = neighbours(
        *(states / factor, standardised(value, rows.present), rows.present, rows.first),
        made.method.up_to,
    )
    expected = conditional_bonus(found, made.task.obs_size)
    assert torch.allclose(made.method.bonus(batch), expected, atol=1e-4)


def test_squash(data):
    made = cohort(data, squash=False)
    batch, reward = draw(made)
    made.method.draws = made.streams.at(made.step)
    raw = made.method.bonus(batch)
    added = made.method.of_queries(reward - batch.reward)
    assert torch.allclose(added, torch.where(made.method.asked, raw, 0.0), atol=1e-5)


def test_k_goes_with_the_task():
    settings = METHODS["qcse"].settings
    k = {
        name: settings(task(name), 1_000)["k"]
        for name in (
            "walker2d-medium-v2",
            "hopper-medium-v2",
            "ant-medium-v2",
            "antmaze-large-diverse-v2",
            "pen-binary-v0",
        )
    }
    assert list(k.values()) == [20, 10, 15, 25, 15]


@pytest.mark.parametrize(
    ("method", "choice", "message"),
    [
        ("qcse", {"cond_net": "onlin"}, r"cond_net 'onlin'\. Did you mean 'online'"),
        ("vcse", {"cond_action": "policy"}, r"cond_action 'policy'.*stored"),
    ],
)
def test_choices_that_there_are_not_are_refused(method, choice, message):
    with pytest.raises(UserError, match=message):
        RunSpec(
            *("hopper", "td3+bc", "online", 1_000, 0),
            method=method,
            method_hyper=choice,
            replay="online",
        )


# --- recorded with the update ---------------------------------------------------------------------
@pytest.mark.parametrize(
    ("backbone", "method", "replay", "switches"),
    [
        *((backbone, "qcse", "half", {}) for backbone in ("td3+bc", "cql", "iql", "sac")),
        ("td3+bc", "qcse", "online", {"every": 3}),
        ("awac", "qcse", "half", {"every": 3, "reuse": True}),
        ("td3+bc", "qcse", "half", {"cond_net": "extrinsic", "joint": False}),
        ("sac", "vcse", "half", {}),
        ("td3+bc", "se", "half", {"s_norm": "zscore"}),
        ("td3+bc", "const", "half", {}),
        ("td3+bc", "rnd-bonus", "half", {"hidden": (8, 8)}),
        ("td3+bc", "vae-bonus", "online", {"hidden": (8, 8), "latent": 4, "samples": 3}),
    ],
)
def test_a_recorded_bonus_is_the_same(data, backbone, method, replay, switches, monkeypatch):
    monkeypatch.setattr(intrinsic, "NOTED", 4)
    if method in ("qcse", "vcse", "se"):
        switches = {"size": hosts.B // 2, **switches}
    seen = {}
    for flag in ("0", "1"):
        monkeypatch.setenv(FLAG, flag)
        made = cohort(data, method, backbone, replay, steps=STEPS, **switches)
        assert made.method.steady
        for _ in range(3):
            made.advance()
        seen[flag] = {**made.state(), **made._metrics}
    branches = {branch for _, branch in made.update.kinds.recorded}
    assert branches >= {(True, True), (True, False)} or "every" in switches
    assert_same(seen["0"], seen["1"], "cpu")


@pytest.mark.parametrize(
    ("replay", "switches"),
    [("mixed", {}), ("half", {}), ("online", {"size": 4, "reference": "buffer"})],
)
def test_a_bonus_for_which_rows_are_drawn_beside_the_minibatch_is_not_recorded(
    data, replay, switches
):
    made = cohort(data, replay=replay, **switches)
    made.advance()
    assert not made.method.steady
    assert made.update.kinds.recorded
    assert made.method.branch() is False
    assert "bonus_mean" in made._metrics


# --- the form with an autoencoder -----------------------------------------------------------------
SMALL_VAE = {"hidden": (32, 32), "latent": 3}


def test_the_likelihood_of_an_autoencoder_that_ignores_its_input(data):
    """A decoder that says 0 and an encoder that is the prior: log N(s | 0, 1), whatever the samples."""
    made = cohort(data, method="vae-bonus", samples=5, **SMALL_VAE)
    method = made.method
    for network in method.vae.parts:
        for weight in network.weights:
            weight.zero_()
    obs, condition = torch.randn(2, 7, 11), torch.randn(2, 7, 1)
    found = method.log_likelihood(obs, condition, torch.randn(2, 35, 3))
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(obs).sum(-1)
    assert torch.allclose(found, expected, atol=1e-4)


def test_more_samples_come_closer_to_the_likelihood_from_below(data):
    made = cohort(data, method="vae-bonus", samples=200, **SMALL_VAE)
    method, rng = made.method, torch.Generator().manual_seed(0)
    obs, condition = torch.randn(2, 9, 11, generator=rng), torch.randn(2, 9, 1, generator=rng)
    noise = torch.randn(2, 200, 9, 3, generator=rng)
    many = method.log_likelihood(obs, condition, noise.flatten(1, 2))
    fields = dict(vars(method.hyper)) | {"samples": 1}
    method.hyper = type(method.hyper)(**fields)
    each = [method.log_likelihood(obs, condition, noise[:, i]) for i in range(200)]
    assert torch.allclose(torch.stack(each).logsumexp(0) - np.log(200), many, atol=1e-3)
    assert (torch.stack(each).mean(0) < many).all()  # Jensen


def test_states_that_were_never_seen_are_unlikely(data):
    made = cohort(data, method="vae-bonus", steps=300, weight=0.0, samples=4, **SMALL_VAE)
    method = made.method
    batch, _ = draw(made)
    strange = batch._replace(obs=batch.obs + 4)
    usual, rare = (method.bonus(each)[method.asked] for each in (batch, strange))
    assert rare.mean() > usual.mean() + 1
    log = method.extra_updates(batch)
    assert log["vae_loss"].shape == (2,)
