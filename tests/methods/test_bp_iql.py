"""BpIQL against specs/gde.md 3 and plain code: prior, mixing, acting, target, who needs a dataset."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from o2okit import experiment
from o2okit.backbones import BACKBONES
from o2okit.data import Batch, Dataset
from o2okit.errors import UserError
from o2okit.hyper import complete
from o2okit.methods import METHODS, BpIQL, Naive
from o2okit.methods.bp_iql import previous_actions
from o2okit.streams import Streams
from o2okit.tasks import task
from o2okit.training import RunSpec, protocol
from o2okit.training.capture import FixedDraws
from o2okit.training.cohort import Cohort

TASK, SEEDS, B = task("hopper"), (3, 8), 16
SMALL = {"hidden": (16, 16), "critic_hidden": (16, 16), "batch_size": B}
TINY = {"prior_hidden": (8, 8), "mixing_hidden": (8, 8), "epochs": 1, "prior_batch": 32}
BACKBONE = BACKBONES["iql"]


def make(seeds=SEEDS, step=0, **hyper) -> BpIQL:
    """Within an update of an agent that has learnt; a list gives each run a value of its own."""
    agent = BACKBONE(TASK, [complete(BACKBONE.Hyperparameters, SMALL)] * len(seeds), seeds)
    agent.updates = 1
    per_run = [
        {key: value[run] if isinstance(value, list) else value for key, value in hyper.items()}
        for run in range(len(seeds))
    ]
    own = [complete(BpIQL.Hyperparameters, TINY | values) for values in per_run]
    agent.method = method = BpIQL(agent, own, seeds)
    method.draws = Streams(seeds, "online").at(step)
    return method


def minibatch(step=0, terminated=0.0, runs=2) -> Batch:
    rng = torch.Generator().manual_seed(step)
    obs, next_obs = torch.randn(2, runs, B, TASK.obs_size, generator=rng)
    action = torch.rand(runs, B, TASK.act_size, generator=rng) * 2 - 1
    reward = torch.randn(runs, B, generator=rng)
    return Batch(obs, action, reward, next_obs, torch.full((runs, B), terminated))


def disturb(stacked, by=0.1) -> None:
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        stacked.flat.add_(by * torch.randn(stacked.flat.shape, generator=rng))


def dataset(n=200, seed=0) -> Dataset:
    """Episodes of 20; an action is close to the one before."""
    rng = np.random.default_rng(seed)
    actions = np.zeros((n, TASK.act_size), np.float32)
    for row in range(n):
        before = actions[row - 1] if row % 20 else rng.normal(size=3) / 2
        actions[row] = np.clip(0.95 * before + 0.05 * rng.normal(size=3), -1, 1)
    obs = rng.normal(size=(n, TASK.obs_size)).astype(np.float32)
    ends = np.arange(n) % 20 == 19
    columns = (obs, actions, np.zeros(n, np.float32), obs, ends & (np.arange(n) > 100))
    return Dataset("hopper", "test-hopper", "kit", *columns, ends & (np.arange(n) <= 100))


# --- the prior ------------------------------------------------------------------------------------
def test_previous_actions_stay_within_episodes():
    """Three episodes: one terminated, one cut off, one without an end."""
    actions = np.arange(1, 8, dtype=np.float32)[:, None]
    flags = np.zeros((2, 7), bool)
    flags[0, 2] = flags[1, 4] = True
    zeros = np.zeros((7, 1), np.float32)
    data = Dataset("hopper", "test", "kit", zeros, actions, zeros[:, 0], zeros, *flags)
    assert previous_actions(data)[:, 0].tolist() == [0, 1, 2, 0, 4, 0, 6]
    assert actions[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_the_prior_learns_which_action_follows_which(capsys):
    method, data = make(epochs=30, prior_lr=1e-2), dataset()
    pairs = [torch.as_tensor(x).expand(2, -1, -1) for x in (data.actions, previous_actions(data))]
    agent = {key: value.clone() for key, value in method.agent.state().items()}

    def likelihoods():
        with torch.no_grad():
            return [
                method.prior.log_prob(x, pairs[1]).mean(-1) for x in (pairs[0], pairs[0].flip(1))
            ]

    before, _ = likelihoods()
    method.prepare(data)
    after, of_others = likelihoods()
    assert (after > before + 2).all()
    assert (after > of_others + 2).all()
    assert capsys.readouterr().out == ""
    assert all((value == agent[key]).all() for key, value in method.agent.state().items())
    assert (method.prior.parts[0].weights[0][0] != method.prior.parts[0].weights[0][1]).any()


def test_the_prior_of_a_run_is_its_seeds():
    alone, among = make((8,), epochs=2), make((3, 8, *range(20, 29)), epochs=2)
    for method in (alone, among):  # minibatches that fill no vector register
        method.prepare(dataset(n=197))
        method.act(torch.ones(method.runs, TASK.obs_size), Streams(method.seeds, "online").at(0))
    ours, theirs = alone.state(), among.state()
    assert all((ours[key][0] == theirs[key][1]).all() for key in theirs)
    assert (theirs["prior.0.parameters"][0] != theirs["prior.0.parameters"][2]).any()


def test_every_pair_is_seen_once_per_epoch(monkeypatch):
    """The last minibatch is smaller; runs go through the pairs in orders of their own."""
    method, data, seen = make(epochs=2), dataset(n=70), []
    own = method.prior.log_prob

    def log_prob(action, condition):
        seen.append(torch.cat([action, condition], dim=-1))
        return own(action, condition)

    monkeypatch.setattr(method.prior, "log_prob", log_prob)
    method.prepare(data)
    assert [batch.shape[1] for batch in seen] == [32, 32, 6] * 2
    pairs = np.concatenate([data.actions, previous_actions(data)], axis=1)
    orders = []
    for batches in (seen[:3], seen[3:]):
        for rows in torch.cat(batches, dim=1).numpy():
            assert (np.sort(rows, axis=0) == np.sort(pairs, axis=0)).all()
            orders.append(rows)
    assert len({rows.tobytes() for rows in orders}) == 4


# --- mixing ---------------------------------------------------------------------------------------
def test_the_weight_starts_at_its_hyperparameter_everywhere():
    obs = 10 * minibatch().obs
    assert torch.allclose(make().weight(obs), torch.tensor(0.95))
    weight = make(mixing=[0.0, 0.3]).weight(obs)
    assert (weight[0] == 0).all()
    assert torch.allclose(weight[1], torch.tensor(0.3))


def constant(method: BpIQL, prior: float, own: float) -> None:
    """Critics for which the prior's action is worth one number and the policy's another."""
    size = TASK.act_size
    method.prior.sample = lambda noise, condition: torch.ones_like(condition)
    method.agent.policy.sample = lambda obs, noise: -torch.ones(*obs.shape[:2], size)
    method.agent.q = lambda critic, obs, action: torch.stack(
        [torch.where(action[..., 0] > 0, prior, own), torch.full(action.shape[:2], 100.0)], dim=1
    )


@pytest.mark.parametrize(("prior", "own"), [(2.0, -1.0), (-1.0, 2.0)])
def test_the_weight_rises_where_the_priors_action_is_worth_more(prior, own):
    method, batch = make(), minibatch()
    constant(method, prior, own)
    before = method.weight(batch.next_obs)
    loss, metrics = method.mixing_loss(batch)
    assert loss.tolist() == pytest.approx([-0.95 * (prior - own)] * 2)
    assert metrics["prior_gain"].tolist() == pytest.approx([prior - own] * 2)
    for _ in range(20):
        metrics = method.extra_updates(batch)
    after = method.weight(batch.next_obs)
    assert (torch.sign(after - before) == np.sign(prior - own)).all()
    assert metrics["mixing"].shape == (2,)


def test_terminal_states_do_not_train_the_weight():
    method, batch = make(), minibatch(terminated=1.0)
    constant(method, 2.0, -1.0)
    (gradient,) = method.adam.gradient(method.mixing_loss(batch)[0])
    assert (gradient == 0).all()


def test_the_mixing_loss_is_plain_codes_and_trains_the_weight_alone():
    """Λ(s') (min Q(s', ā) - min Q(s', a')) with the online critics; ā follows the transition's action."""
    method, batch = make(), minibatch()
    for part in (method.mixing, method.agent.critic, *method.prior.parts):
        disturb(part)
    before = {key: value.clone() for key, value in method.agent.state().items()}
    prior = [part.flat.clone() for part in method.prior.parts]
    loss, _ = method.mixing_loss(batch)
    draws, shape = method.draws, (B, TASK.act_size)
    with torch.no_grad():
        chosen = method.prior.sample(draws.normal("bp-iql/mixing", *shape), batch.action)
        mean, log_std = method.agent.policy.gaussian(batch.next_obs)
        own = (mean + log_std.exp() * draws.normal("bp-iql/policy", *shape)).clamp(-1, 1)
        q = [
            method.agent.critic(torch.cat([batch.next_obs, action], -1))[..., 0].amin(1)
            for action in (chosen, own)
        ]
        logit = method.mixing(batch.next_obs)[..., 0] + np.log(0.95 / 0.05)
        expected = -(torch.sigmoid(logit) * (q[0] - q[1])).mean(-1)
    assert torch.allclose(loss, expected, atol=1e-6)
    method.adam.step(loss)
    assert all((value == before[key]).all() for key, value in method.agent.state().items())
    assert all((p.flat == q).all() for p, q in zip(method.prior.parts, prior, strict=True))


# --- the target -----------------------------------------------------------------------------------
@pytest.mark.parametrize("terminated", [0.0, 1.0])
def test_the_target_is_plain_codes(terminated):
    method, batch = make(mixing=[0.95, 0.4]), minibatch(terminated=terminated)
    for part in (method.mixing, method.agent.target_critic, *method.prior.parts):
        disturb(part)
    target = method.target(batch, lambda: pytest.fail("the backbone's is not asked for"))
    assert not target.requires_grad
    noise = method.draws.normal("bp-iql/target", B, TASK.act_size)
    with torch.no_grad():
        for run, start in enumerate((0.95, 0.4)):
            s = batch.next_obs[run]
            h = s
            layers = [(w[run], b[run, 0]) for w, b in method.mixing.layer_weights]
            for number, (weight, bias) in enumerate(layers):
                h = functional.linear(h, weight.T, bias)
                h = h.relu() if number < 2 else h
            mixing = torch.sigmoid(h[:, 0] + np.log(start / (1 - start)))
            following = torch.tanh(method.prior.from_noise(noise, batch.action))
            pair = torch.cat([batch.next_obs, following], dim=-1)
            q = method.agent.target_critic(pair)[run, ..., 0].amin(0)
            v = method.agent.value(batch.next_obs)[run, :, 0]
            expected = mixing * q + (1 - mixing) * v
            expected = batch.reward[run] + 0.99 * (1 - terminated) * expected
            assert torch.allclose(target[run], expected, atol=1e-5)


def test_without_the_prior_it_is_iql_on_its_own_transitions():
    """The agents are equal to the last bit after updates of both."""
    method, naive = make(mixing=0.0), make(mixing=0.0)
    naive.agent.method = Naive(naive.agent, [{}] * 2, SEEDS)
    streams = Streams(SEEDS, "online")
    for step in range(4):
        method.draws = streams.at(step)
        for each in (method, naive):
            each.agent.update(minibatch(step), streams.at(step))
        method.extra_updates(minibatch(step))
    ours, theirs = method.agent.state(), naive.agent.state()
    assert all((ours[key] == theirs[key]).all() for key in ours)


def test_draws_in_fixed_memory_give_the_same_updates():
    """As a CUDA graph wants them: ``CapturedUpdate`` puts them in the place of the step's own."""
    plain, fixed, draws, streams = make(), make(), FixedDraws(), Streams(SEEDS, "online")
    for step in range(4):
        draws.load(streams.at(step))
        plain.draws, fixed.draws = streams.at(step), draws
        for method in (plain, fixed):
            method.agent.update(minibatch(step), method.draws)
            method.extra_updates(minibatch(step))
    for part in ("agent", "state"):
        ours, theirs = (m.agent.state() if part == "agent" else m.state() for m in (plain, fixed))
        assert all((ours[key] == theirs[key]).all() for key in ours)


# --- acting ---------------------------------------------------------------------------------------
def test_the_prior_acts_with_the_probability_of_the_weight():
    method = make(mixing=[0.95, 0.2])
    obs, streams, chosen = torch.randn(2, TASK.obs_size), Streams(SEEDS, "online"), []
    for step in range(400):
        draws = streams.at(step)
        previous = method.previous.clone()
        action = method.act(obs, draws)
        own = method.agent.act(obs, draws)
        noise = draws.normal("bp-iql/act", 1, TASK.act_size)
        prior = method.prior.sample(noise, previous[:, None])[:, 0]
        is_prior, is_own = ((action == other).all(-1) for other in (prior, own))
        assert (is_prior ^ is_own).all()
        chosen.append(is_prior)
        assert (method.previous == action).all()
    share = torch.stack(chosen).float().mean(0)
    assert share.tolist() == pytest.approx([0.95, 0.2], abs=0.06)


def test_the_prior_follows_the_action_that_was_taken():
    """Whoever chose it; a trained prior then stays close to it."""
    method, obs = make(epochs=30, prior_lr=1e-2, mixing=[1.0, 0.0]), torch.randn(2, TASK.obs_size)
    method.prepare(dataset())
    steps, streams = [], Streams(SEEDS, "online")
    for step in range(50):
        before = method.previous.clone()
        action = method.act(obs, streams.at(step))
        method.observe(torch.zeros(2), torch.tensor([False, False]))
        steps.append((action - before).abs().mean(-1))
    close, far = torch.stack(steps[1:]).mean(0)
    assert close < 0.5 * far


def test_no_action_precedes_an_episodes_first(monkeypatch):
    method, obs, streams = make(), torch.randn(2, TASK.obs_size), Streams(SEEDS, "online")
    assert (method.previous == 0).all()
    action = method.act(obs, streams.at(0))
    method.observe(torch.zeros(2), torch.tensor([False, True]))
    assert (method.previous[0] == action[0]).all()
    assert (method.previous[1] == 0).all()
    method.act(obs, streams.at(1))
    monkeypatch.setattr(method, "cuts", lambda: True)
    method.observe(torch.zeros(2), torch.tensor([False, False]))
    assert (method.previous == 0).all()


def test_a_diverged_policy_leaves_no_trace_in_the_previous_action():
    method, draws = make(mixing=0.0), Streams(SEEDS, "online").at(0)
    method.agent.act = lambda obs, draws: torch.full((2, TASK.act_size), torch.nan)
    method.act(torch.randn(2, TASK.obs_size), draws)
    assert (method.previous == 0).all()
    method.previous.fill_(torch.nan)
    method.observe(torch.zeros(2), torch.tensor([True, True]))
    assert (method.previous == 0).all()


def test_what_is_evaluated_is_the_policys_mean():
    method, obs = make(), torch.randn(2, 4, TASK.obs_size)
    draws = Streams(SEEDS, "evaluation").at(0)
    assert (method.greedy(obs, draws) == method.agent.greedy(obs)).all()
    assert (method.previous == 0).all()


# --- in the training loop -------------------------------------------------------------------------
def spec(seed=3, **changes) -> RunSpec:
    given = {"hyper": SMALL, "method": "bp-iql", "method_hyper": TINY, "dataset": dataset()}
    given |= {"replay": "online", "eval_every": 100}
    return RunSpec("hopper", "iql", "online", 60, seed, **{**given, **changes})


def test_the_state_holds_everything_the_next_step_needs():
    whole = Cohort([spec(3), spec(8)])
    whole.begin()
    while whole.step < 30:
        whole.advance()
    state = {key: value.clone() for key, value in whole.state().items()}
    names = {f"method/prior.{block}.parameters" for block in range(6)}
    names |= {"method/mixing.parameters", "method/previous", "method/adam.first"}
    assert names <= set(state)
    resumed = Cohort([spec(8)])
    resumed.load_state([{key: value[1] for key, value in state.items()}], 30)
    assert (resumed.method.previous[0] == whole.method.previous[1]).all()
    for cohort in (whole, resumed):
        while cohort.step < 60:
            cohort.advance()
    ours, theirs = resumed.state(), whole.state()
    assert all((ours[key][0] == theirs[key][1]).all() for key in theirs)


def test_previous_actions_are_those_in_the_replay():
    """After each step: the row just stored, or 0 where its episode ended."""
    cohort = Cohort([spec(3), spec(8)])
    cohort.begin()
    ends = 0
    for _ in range(60):
        cohort.advance()
        for run in range(2):
            row = cohort.replay.take(cohort.replay.episode_rows(run, 1)[None])
            ended = cohort.episode["length"][run] == 0
            ends += ended
            expected = torch.zeros(TASK.act_size) if ended else row.action[0, 0]
            assert (cohort.method.previous[run] == expected).all()
    assert ends > 0


def test_it_draws_nothing_from_the_dataset_but_needs_it():
    cohort = Cohort([spec()])
    assert (cohort.replay.offline, cohort.replay.kind) == (0, "online")
    with pytest.raises(
        UserError, match=r"'bp-iql' learns from the dataset .*replay='online' as well"
    ):
        spec(dataset=None)
    with pytest.raises(UserError, match="trains its prior on the actions of a dataset"):
        make().prepare(None)
    with pytest.raises(UserError, match=r"not defined for backbone 'cql'\. Allowed: iql"):
        RunSpec(
            "hopper", "cql", "online", 10, 0, method="bp-iql", replay="online", dataset=dataset()
        )
    assert METHODS["bp-iql"] is BpIQL
    assert not Naive.needs_dataset
    assert spec(dataset=dataset(seed=1)).id != spec().id, "another prior"


def test_one_line_gives_it_the_dataset(monkeypatch):
    monkeypatch.setattr(experiment, "dataset", lambda *args, **kwargs: dataset())
    monkeypatch.setattr(protocol, "settings", lambda *args: SMALL)
    monkeypatch.setattr(experiment, "train", lambda specs, **kwargs: specs)
    monkeypatch.setattr(experiment, "Result", lambda specs, data, profile: specs)
    specs = experiment.finetune("hopper-medium-v2", "iql", ["bp-iql", "gde"], profile="smoke")
    given = {s.method: (s.replay, s.dataset is None) for s in specs if s.phase == "online"}
    assert given == {"bp-iql": ("online", False), "gde": ("online", True)}
