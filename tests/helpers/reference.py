"""The backbones once more, as single-run code: one plain network per critic, PyTorch's own autograd.

Written from the specs' equations and independent of ``o2okit``'s losses; only the parameters are shared.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn


def networks(stack, run):
    """The members of one run as ``nn.Sequential``."""
    members = stack.members or 1
    made = []
    for member in range(members):
        layers = []
        for weight, bias in stack.layer_views(stack.flat):
            weight, bias = weight[run * members + member], bias[run * members + member, 0]
            linear = nn.Linear(*weight.shape)
            linear.weight.data = weight.T.detach().clone()
            linear.bias.data = bias.detach().clone()
            layers += [linear, nn.ReLU()]
        made.append(nn.Sequential(*layers[:-1]))
    return made


def flat(modules):
    """Parameters in the order of ``Stacked.pack`` for stacks of one run."""
    linears = [[layer for layer in module if isinstance(layer, nn.Linear)] for module in modules]
    parts = []
    for number in range(len(linears[0])):
        parts += [linear[number].weight.T.flatten() for linear in linears]
        parts += [linear[number].bias for linear in linears]
    return torch.cat(parts).detach()


class Single:
    """One run of one backbone."""

    def __init__(self, agent, run):
        self.h = {
            key: (value[run] if torch.is_tensor(value) else value)
            for key, value in vars(agent.hyper).items()
        }
        (self.actor,) = networks(agent.actor, run)
        self.parameters = {"actor": [self.actor]}
        extra = []
        if hasattr(agent, "critic"):
            self.critics = networks(agent.critic, run)
            self.targets = copy.deepcopy(self.critics)
            self.parameters |= {"critic": self.critics, "target_critic": self.targets}
            self.critic_opt = self.adam(self.critics, "critic_lr")
        if hasattr(agent, "spread"):
            self.spread = agent.spread.weights[0][run].clone().requires_grad_()
            self.log_alpha = agent.log_alpha.weights[0][run].clone().requires_grad_()
            self.alpha_opt = torch.optim.Adam([self.log_alpha], self.h["alpha_lr"])
            extra = [self.spread]
        if hasattr(agent, "log_std"):
            self.log_std = agent.log_std.weights[0][run, 0].clone().requires_grad_()
            extra = [self.log_std]
        self.actor_opt = self.adam([self.actor], "actor_lr", extra)
        self.target_actor = copy.deepcopy(self.actor)
        self.updates = 0

    def adam(self, modules, lr, extra=()):
        parameters = [p for module in modules for p in module.parameters()]
        return torch.optim.Adam([*parameters, *extra], self.h[lr])

    def step(self, optimiser, loss):
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def q(self, critics, obs, action):
        x = torch.cat([obs, action], -1)
        return [critic(x).squeeze(-1) for critic in critics]

    def y(self, batch, following):
        return batch.reward + self.h["discount"] * (1 - batch.terminated) * following

    def td(self, batch, y):
        return sum(F.mse_loss(q, y) for q in self.q(self.critics, batch.obs, batch.action))

    def polyak(self, targets, networks):
        rate = self.h["target_rate"]
        with torch.no_grad():
            for target, network in zip(targets, networks, strict=True):
                for t, p in zip(target.parameters(), network.parameters(), strict=True):
                    t.mul_(1 - rate).add_(rate * p)


class BC(Single):
    def update(self, batch, noise):
        self.step(self.actor_opt, F.mse_loss(torch.tanh(self.actor(batch.obs)), batch.action))


class TD3(Single):
    def actor_loss(self, batch):
        return -self.q(self.critics, batch.obs, torch.tanh(self.actor(batch.obs)))[0].mean()

    def update(self, batch, noise):
        with torch.no_grad():
            smoothing = (noise["update"] * self.h["target_noise"]).clamp(
                -self.h["noise_clip"], self.h["noise_clip"]
            )
            action = (torch.tanh(self.target_actor(batch.next_obs)) + smoothing).clamp(-1, 1)
            y = self.y(batch, torch.min(*self.q(self.targets, batch.next_obs, action)))
        self.step(self.critic_opt, self.td(batch, y))
        self.updates += 1
        if self.updates % self.h["actor_period"] == 0:
            self.step(self.actor_opt, self.actor_loss(batch))
            self.polyak(self.targets, self.critics)
            self.polyak([self.target_actor], [self.actor])


class TD3BC(TD3):
    def actor_loss(self, batch):
        action = torch.tanh(self.actor(batch.obs))
        q = self.q(self.critics, batch.obs, action)[0]
        weight = self.h["alpha"] / q.abs().mean().detach()
        return F.mse_loss(action, batch.action) - weight * q.mean()


class AWAC(Single):
    tanh_mean = False

    def normal(self, obs):
        mean = self.actor(obs)
        mean = torch.tanh(mean) if self.tanh_mean else mean
        return torch.distributions.Normal(mean, self.log_std.clamp(-20, 2).exp())

    def sample(self, obs, noise):
        with torch.no_grad():
            normal = self.normal(obs)
            return (normal.mean + normal.stddev * noise).clamp(-1, 1)

    def imitation(self, batch, exponent):
        log_prob = self.normal(batch.obs).log_prob(batch.action).sum(-1)
        return -(log_prob * exponent.exp().clamp(max=100)).mean()

    def update(self, batch, noise):
        with torch.no_grad():
            action = self.sample(batch.next_obs, noise["update"][0])
            y = self.y(batch, torch.min(*self.q(self.targets, batch.next_obs, action)))
        self.step(self.critic_opt, self.td(batch, y))
        with torch.no_grad():
            own = self.sample(batch.obs, noise["update"][1])
            taken = torch.min(*self.q(self.critics, batch.obs, batch.action))
            advantage = taken - torch.min(*self.q(self.critics, batch.obs, own))
        self.step(self.actor_opt, self.imitation(batch, advantage / self.h["temperature"]))
        self.polyak(self.targets, self.critics)


class IQL(AWAC):
    tanh_mean = True

    def __init__(self, agent, run):
        super().__init__(agent, run)
        self.values = networks(agent.value, run)
        self.parameters["value"] = self.values
        self.value_opt = self.adam(self.values, "value_lr")

    def v(self, obs):
        return self.values[0](obs).squeeze(-1)

    def update(self, batch, noise):
        with torch.no_grad():
            y = self.y(batch, self.v(batch.next_obs))
            q = torch.min(*self.q(self.targets, batch.obs, batch.action))
        u = q - self.v(batch.obs)
        weight = torch.where(u < 0, 1 - self.h["expectile"], self.h["expectile"])
        self.step(self.value_opt, (weight * u**2).mean())
        self.step(self.critic_opt, self.td(batch, y) / 2)
        self.polyak(self.targets, self.critics)
        cosine = 1 + math.cos(math.pi * self.updates / self.h["cosine_steps"])
        self.actor_opt.param_groups[0]["lr"] = self.h["actor_lr"] * cosine / 2
        self.step(self.actor_opt, self.imitation(batch, u.detach() * self.h["beta"]))
        self.updates += 1


class SAC(Single):
    def normal(self, obs):
        mean, raw = self.actor(obs).chunk(2, -1)
        log_std = (self.spread[0] * raw + self.spread[1]).clamp(-20, 2)
        return torch.distributions.Normal(mean, log_std.exp())

    def sample(self, normal, noise):
        """Actions and log-probabilities by the change of variables, in float64."""
        mean, std = normal.mean.double(), normal.stddev.double()
        u = mean + std * noise
        log_prob = torch.distributions.Normal(mean, std).log_prob(u)
        log_prob = (log_prob - torch.log(1 - torch.tanh(u) ** 2)).sum(-1)
        return torch.tanh(u).float(), log_prob.float()

    def finish(self, critic_loss, actor_loss, log_prob):
        target = -self.h["entropy_scale"] * self.actor[-1].out_features / 2
        alpha_loss = -(self.log_alpha * (log_prob.detach() + target).mean()).sum()
        losses = {
            self.critic_opt: (critic_loss, [p for c in self.critics for p in c.parameters()]),
            self.actor_opt: (actor_loss, [*self.actor.parameters(), self.spread]),
            self.alpha_opt: (alpha_loss, [self.log_alpha]),
        }
        gradients = {
            optimiser: torch.autograd.grad(loss, parameters, retain_graph=True)
            for optimiser, (loss, parameters) in losses.items()
        }
        for optimiser, (_, parameters) in losses.items():
            for parameter, gradient in zip(parameters, gradients[optimiser], strict=True):
                parameter.grad = gradient
            optimiser.step()
        self.polyak(self.targets, self.critics)

    def actor_loss(self, batch, noise):
        action, log_prob = self.sample(self.normal(batch.obs), noise)
        q = torch.min(*self.q(self.critics, batch.obs, action))
        return (self.log_alpha.exp().detach() * log_prob - q).mean(), log_prob

    def update(self, batch, noise):
        with torch.no_grad():
            action, log_prob = self.sample(self.normal(batch.next_obs), noise["update"][0])
            q = torch.min(*self.q(self.targets, batch.next_obs, action))
            y = self.y(batch, q - self.log_alpha.exp() * log_prob)
        self.finish(self.td(batch, y), *self.actor_loss(batch, noise["update"][1]))


class CQL(SAC):
    def __init__(self, agent, run):
        super().__init__(agent, run)
        self.log_multiplier = torch.ones(1, requires_grad=True)
        self.multiplier_opt = torch.optim.Adam([self.log_multiplier], 3e-4)

    def calibrated(self, q, batch):
        return q

    def penalty(self, differences):
        if self.h["gap"] == 0:
            return self.h["weight"] * sum(differences)
        beyond = self.h["weight"] * sum(each - self.h["gap"] for each in differences)
        multiplier = self.log_multiplier.exp().clamp(0, 1e6)[0]
        self.step(self.multiplier_opt, -0.5 * multiplier * beyond.detach())
        return multiplier.detach() * beyond

    def update(self, batch, noise):
        n, act = self.h["n_actions"], batch.action.shape[-1]
        backup = n if self.h["max_backup"] else 1
        single, now, following, targets = noise["update"].split([1, n, n, backup], dim=1)
        with torch.no_grad():
            best = []
            for i in range(backup):
                action, _ = self.sample(self.normal(batch.next_obs), targets[:, i])
                best.append(torch.min(*self.q(self.targets, batch.next_obs, action)))
            y = self.y(batch, torch.stack(best).amax(0))
            uniform = noise["update actions"] * 2 - 1
            others = []
            for i in range(n):
                others.append((uniform[:, i].float(), torch.tensor(act * math.log(0.5)), False))
                others.append((*self.sample(self.normal(batch.next_obs), following[:, i]), True))
                others.append((*self.sample(self.normal(batch.obs), now[:, i]), True))
        differences = []
        for j in range(2):
            terms = []
            for action, log_prob, own in others:
                q = self.q(self.critics, batch.obs, action)[j]
                terms.append((self.calibrated(q, batch) if own else q) - log_prob)
            taken = self.q(self.critics, batch.obs, batch.action)[j]
            differences.append((torch.stack(terms).logsumexp(0) - taken).mean())
        loss = self.td(batch, y) + self.penalty(differences)
        self.finish(loss, *self.actor_loss(batch, single[:, 0]))


class CalQL(CQL):
    def calibrated(self, q, batch):
        return torch.maximum(q, batch.mc_return)


REFERENCES = {
    "bc": BC,
    "td3": TD3,
    "td3+bc": TD3BC,
    "awac": AWAC,
    "iql": IQL,
    "sac": SAC,
    "cql": CQL,
    "cal-ql": CalQL,
}
