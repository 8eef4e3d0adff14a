"""Five agents of CQL, apart and together: against CQL itself, and against plain code of one run."""

import copy

import pytest
import torch
from hosts import SEEDS, TASK, hopper_data
from reference import flat, networks

from o2okit.backbones import BACKBONES
from o2okit.backbones.cql_ensemble import MemberDraws
from o2okit.data import Batch
from o2okit.errors import UserError
from o2okit.hyper import complete
from o2okit.streams import Streams
from o2okit.training import RunSpec, RunStore, protocol, train

N, B = 3, 16
SMALL = {"hidden": (24, 24), "critic_hidden": (24, 24), "n_actions": 2}


def make(name="cql-ensemble", seeds=SEEDS, **hyper):
    cls = BACKBONES[name]
    own = {"members": N, "batch_size": N * B} if name == "cql-ensemble" else {"batch_size": B}
    return cls(TASK, [complete(cls.Hyperparameters, SMALL | own | hyper)] * len(seeds), seeds)


def together(seeds=SEEDS, **hyper):
    """Members that differ, as after a pre-training."""
    agent = make(seeds=seeds, together=True, batch_size=B, **hyper)
    with torch.no_grad():
        for member, value in enumerate((0.5, -1.0, 0.2)):
            agent.own.log_alpha.weights[0].view(-1, N)[:, member] = value
            agent.own.spread.weights[0].view(-1, N, 2)[:, member, 1] = -0.5 * member
            last = agent.own.actor.layer_weights[-1][1].view(-1, N, 2 * TASK.act_size)
            last[:, member] += 0.3 * member
    return agent


def minibatch(rows, step=0, runs=2) -> Batch:
    rng = torch.Generator().manual_seed(step)
    obs, next_obs = torch.randn(2, runs, rows, TASK.obs_size, generator=rng)
    action = torch.rand(runs, rows, TASK.act_size, generator=rng) * 2 - 1
    reward = torch.randn(runs, rows, generator=rng)
    ends = (torch.rand(runs, rows, generator=rng) < 0.2).float()
    return Batch(obs, action, reward, next_obs, ends, None)


def test_apart_each_member_is_an_agent_of_cql_with_its_own_rows():
    ensemble, members = make(), make("cql", [seed * N + i for seed in SEEDS for i in range(N)])
    for step in range(4):
        batch, draws = minibatch(N * B, step), Streams(SEEDS, "offline").at(step)
        metrics = ensemble.update(batch, draws)
        rows = [
            Batch(*(x if x is None else x[run, i * B : (i + 1) * B] for x in batch))
            for run in range(2)
            for i in range(N)
        ]
        dealt = Batch(
            *(None if xs[0] is None else torch.stack(xs) for xs in zip(*rows, strict=True))
        )
        plain = members.update(dealt, MemberDraws(draws, N))
    ours, theirs = ensemble.own.state(), members.state()
    for key in theirs.keys() - {"updates"}:
        assert torch.equal(ours[key], theirs[key]), key
    assert metrics["q"].tolist() == pytest.approx(plain["q"].view(2, N).mean(1).tolist())
    first, second = ensemble.own.actor.state()["parameters"][:2]
    assert (first != second).any()


def test_the_policy_has_the_moments_of_the_members_mixture():
    agent, obs = together(), torch.randn(2, 5, TASK.obs_size)
    mean, log_std = agent.policy.gaussian(obs)
    for run in range(2):
        means, stds = [], []
        for i in range(N):
            part = obs[run].expand(2 * N, -1, -1)
            one = [x[run * N + i].double() for x in agent.own.policy.gaussian(part)]
            means.append(one[0])
            stds.append(one[1].exp())
        m, s = torch.stack(means), torch.stack(stds)
        assert torch.allclose(mean[run].double(), m.mean(0), atol=1e-6)
        variance = (s**2 + m**2).mean(0) - m.mean(0) ** 2
        assert torch.allclose(log_std[run].double(), variance.log() / 2, atol=1e-5)
    assert torch.equal(agent.greedy(obs), torch.tanh(mean))


def test_equal_members_are_one_agent_of_sac():
    """Where all members are the same network, the ensemble's losses are SAC's."""
    cls = BACKBONES["sac"]
    own = {"hidden": (24, 24), "critic_hidden": (24, 24), "batch_size": B, "normalise": False}
    own |= {"actor_lr": 1e-4, "alpha_lr": 1e-4}
    sac = cls(TASK, [complete(cls.Hyperparameters, own)] * 2, SEEDS)
    agent = make(together=True, batch_size=B)
    for part in ("actor", "critic", "target_critic", "spread", "log_alpha"):
        state = getattr(sac, part).state()
        repeated = {key: value.repeat_interleave(N, 0) for key, value in state.items()}
        getattr(agent.own, part).load_state(repeated)
    batch, draws = minibatch(B), Streams(SEEDS, "online").at(0)
    ours = agent.update(batch, draws)
    noise = draws.normal("together", 2, B, TASK.act_size)
    target = sac.target(batch, noise[:, 0])
    _, theirs = sac.critic_loss(batch, target)
    _, actor = sac.actor_loss(batch.obs, sac.policy.gaussian(batch.obs), noise[:, 1])
    for key, value in (theirs | actor).items():
        assert torch.allclose(ours[key], value, rtol=1e-4), key


def test_together_they_learn_as_plain_code_does():
    agent, streams = together(), Streams(SEEDS, "online")
    plain = [Plain(agent, run) for run in range(2)]
    for step in range(5):
        batch, draws = minibatch(B, step), streams.at(step)
        agent.update(batch, draws)
        noise = draws.normal("together", 2, B, TASK.act_size)
        for run, single in enumerate(plain):
            single.update(Batch(*(x if x is None else x[run] for x in batch)), noise[run])
    for run, single in enumerate(plain):
        for i in range(N):
            for part, modules in single.parts(i).items():
                stack = getattr(agent.own, part)
                difference = (stack.pack(stack.flat)[run * N + i] - flat(modules)).abs()
                assert difference.max() < 2e-5, (part, i)
        ours = agent.own.log_alpha.weights[0].view(2, N)[run]
        assert ours.tolist() == pytest.approx(single.log_alphas.tolist(), abs=1e-5)


class Plain:
    """One ensemble, network by network; the equations of the module's docstring."""

    def __init__(self, agent, run):
        own, h = agent.own, agent.hyper
        place = [run * N + i for i in range(N)]
        self.actors = [networks(own.actor, r)[0] for r in place]
        self.critics = [networks(own.critic, r) for r in place]
        self.targets = copy.deepcopy(self.critics)
        self.spreads = [own.spread.weights[0][r].clone().requires_grad_() for r in place]
        self.log_alphas = own.log_alpha.weights[0][place, 0].clone().requires_grad_()
        self.rate, self.discount = h.target_rate, h.discount[run]
        adam = torch.optim.Adam
        parameters = [p for a in self.actors for p in a.parameters()] + self.spreads
        self.actor_opt = adam(parameters, h.actor_lr)
        self.critic_opt = adam(
            [p for twins in self.critics for c in twins for p in c.parameters()], h.critic_lr
        )
        self.alpha_opt = adam([self.log_alphas], h.alpha_lr)

    def parts(self, i):
        return {
            "actor": [self.actors[i]],
            "critic": self.critics[i],
            "target_critic": self.targets[i],
        }

    def sample(self, obs, noise):
        means, variances = [], []
        for actor, spread in zip(self.actors, self.spreads, strict=True):
            mean, raw = actor(obs).double().chunk(2, -1)
            means.append(mean)
            variances.append((spread[0] * raw + spread[1]).clamp(-20, 2).exp() ** 2)
        mean = sum(means) / N
        std = (sum(v + m**2 for v, m in zip(variances, means, strict=True)) / N - mean**2).sqrt()
        u = mean + std * noise
        log_prob = torch.distributions.Normal(mean, std).log_prob(u)
        log_prob = (log_prob - torch.log(1 - torch.tanh(u) ** 2)).sum(-1)
        return torch.tanh(u).float(), log_prob.float()

    def least(self, critics, obs, action):
        x = torch.cat([obs, action], -1)
        return torch.min(critics[0](x), critics[1](x)).squeeze(-1)

    def update(self, batch, noise):
        alpha = self.log_alphas.mean().exp().detach()
        with torch.no_grad():
            action, log_prob = self.sample(batch.next_obs, noise[0])
            ys = []
            for targets in self.targets:
                soft = self.least(targets, batch.next_obs, action) - alpha * log_prob
                ys.append(batch.reward + self.discount * (1 - batch.terminated) * soft)
        x = torch.cat([batch.obs, batch.action], -1)
        pairs = [(c, y) for twins, y in zip(self.critics, ys, strict=True) for c in twins]
        critic_loss = sum(((c(x).squeeze(-1) - y) ** 2).mean() for c, y in pairs)
        action, log_prob = self.sample(batch.obs, noise[1])
        values = [self.least(twins, batch.obs, action) for twins in self.critics]
        actor_loss = (alpha * log_prob - sum(values) / N).mean()
        alpha_loss = -self.log_alphas.mean() * (log_prob.detach() - TASK.act_size).mean()
        losses = (self.actor_opt, actor_loss), (self.critic_opt, critic_loss)
        gradients = [
            (opt, torch.autograd.grad(loss, opt.param_groups[0]["params"], retain_graph=True))
            for opt, loss in (*losses, (self.alpha_opt, alpha_loss))
        ]
        for opt, values in gradients:
            for parameter, value in zip(opt.param_groups[0]["params"], values, strict=True):
                parameter.grad = value
            opt.step()
        with torch.no_grad():
            for twins, critics in zip(self.targets, self.critics, strict=True):
                for target, critic in zip(twins, critics, strict=True):
                    for t, p in zip(target.parameters(), critic.parameters(), strict=True):
                        t.mul_(1 - self.rate).add_(self.rate * p)


@pytest.mark.parametrize("hyper", [{}, {"together": True, "batch_size": B}])
def test_a_run_is_the_same_alone_among_others_and_resumed(hyper):
    rows = hyper.get("batch_size", N * B)

    def trained(seeds, resume_at=None):
        agent, streams = make(seeds=seeds, **hyper), Streams(seeds, "offline")
        for step in range(6):
            if step == resume_at:
                state = {key: value.clone() for key, value in agent.state().items()}
                agent, streams = make(seeds=seeds, **hyper), Streams(seeds, "offline")
                agent.load_state(state)
            one = minibatch(rows, step, runs=1)
            many = (x if x is None else x.expand(len(seeds), *x.shape[1:]) for x in one)
            agent.update(Batch(*many), streams.at(step))
        return agent.state()

    alone, among, resumed = trained((3,)), trained((0, 3, 7)), trained((3, 9), resume_at=3)
    for key, value in alone.items():
        assert (value[0] == among[key][1]).all(), key
        assert (value[0] == resumed[key][0]).all(), key


def test_pre_trained_apart_it_is_fine_tuned_together(tmp_path):
    data, store = hopper_data(), RunStore(tmp_path)
    hyper = SMALL | {"members": N, "batch_size": N * B}
    start = RunSpec("hopper", "cql-ensemble", "offline", 4, 0, hyper=hyper, dataset=data)
    spec = protocol.online(start, "balanced-replay", 12, eval_every=6, hyper={"batch_size": B})
    assert (spec.hyper["together"], spec.replay) == (True, "mixed")
    offline, online = train([start, spec], store=store, device="cpu")
    assert "cql_difference" in offline.metrics()
    assert "cql_difference" not in online.metrics()
    assert online.metrics()["online_share"].notna().any()
    agent = online.agent()
    assert agent.updates == 16
    assert agent.own.critic_adam.steps.item() == 16, "optimisers go on"


def test_members_share_a_minibatch_evenly():
    with pytest.raises(UserError, match="must be a multiple of 3; got 16"):
        make(batch_size=16)
