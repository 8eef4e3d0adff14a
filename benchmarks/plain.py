"""Single-run updates as they are commonly written in PyTorch: the baseline of ``updates.py``.

One ``nn.Linear`` per layer and network, ``torch.optim.Adam`` with its defaults, a Polyak loop over the
parameters. Written for the comparison; no claim about any particular repository.
"""

from __future__ import annotations

import copy
import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GAMMA, RATE = 0.99, 0.005


def mlp(size: int, out: int, hidden: int) -> nn.Sequential:
    sizes = (size, *(256,) * hidden)
    layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(256, out))


def polyak(target: nn.Module, source: nn.Module) -> None:
    for t, p in zip(target.parameters(), source.parameters(), strict=True):
        t.data.copy_((1 - RATE) * t.data + RATE * p.data)


class Plain:
    hidden = 2

    def __init__(self, obs: int, act: int) -> None:
        self.act = act
        self.actor = mlp(obs, self.actor_out(act), self.hidden)
        self.q1, self.q2 = (mlp(obs + act, 1, self.hidden) for _ in range(2))
        self.t1, self.t2 = copy.deepcopy(self.q1), copy.deepcopy(self.q2)
        self.actor_opt = torch.optim.Adam(self.actor.parameters(), lr=3e-4)
        self.q_opt = torch.optim.Adam([*self.q1.parameters(), *self.q2.parameters()], lr=3e-4)
        self.updates = 0

    def actor_out(self, act: int) -> int:
        return act

    def both(self, a: nn.Module, b: nn.Module, s: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([s, u], dim=-1)
        return a(x).squeeze(-1), b(x).squeeze(-1)

    def step(self, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def critic(self, s: Tensor, a: Tensor, y: Tensor) -> Tensor:
        q1, q2 = self.both(self.q1, self.q2, s, a)
        return F.mse_loss(q1, y) + F.mse_loss(q2, y)

    def targets(self) -> None:
        polyak(self.t1, self.q1)
        polyak(self.t2, self.q2)


class TD3BC(Plain):
    def __init__(self, obs: int, act: int) -> None:
        super().__init__(obs, act)
        self.target_actor = copy.deepcopy(self.actor)

    def update(self, s: Tensor, a: Tensor, r: Tensor, s2: Tensor, d: Tensor) -> None:
        with torch.no_grad():
            noise = (torch.randn_like(a) * 0.2).clamp(-0.5, 0.5)
            a2 = (torch.tanh(self.target_actor(s2)) + noise).clamp(-1, 1)
            y = r + GAMMA * (1 - d) * torch.min(*self.both(self.t1, self.t2, s2, a2))
        self.step(self.q_opt, self.critic(s, a, y))
        self.updates += 1
        if self.updates % 2 == 0:
            pi = torch.tanh(self.actor(s))
            q = self.q1(torch.cat([s, pi], dim=-1))
            self.step(self.actor_opt, -2.5 / q.abs().mean().detach() * q.mean() + F.mse_loss(pi, a))
            self.targets()
            polyak(self.target_actor, self.actor)


class Gaussian(Plain):
    def __init__(self, obs: int, act: int) -> None:
        super().__init__(obs, act)
        self.log_std = nn.Parameter(torch.zeros(act))
        self.actor_opt = torch.optim.Adam([*self.actor.parameters(), self.log_std], lr=3e-4)

    def imitate(self, s: Tensor, a: Tensor, exponent: Tensor) -> None:
        policy = torch.distributions.Normal(self.actor(s), self.log_std.clamp(-20, 2).exp())
        weight = exponent.exp().clamp(max=100)
        self.step(self.actor_opt, -(weight * policy.log_prob(a).sum(-1)).mean())

    def sample(self, s: Tensor) -> Tensor:
        with torch.no_grad():
            policy = torch.distributions.Normal(self.actor(s), self.log_std.clamp(-20, 2).exp())
            return policy.sample().clamp(-1, 1)


class AWAC(Gaussian):
    hidden = 3

    def update(self, s: Tensor, a: Tensor, r: Tensor, s2: Tensor, d: Tensor) -> None:
        with torch.no_grad():
            y = torch.min(*self.both(self.t1, self.t2, s2, self.sample(s2)))
            y = r + GAMMA * (1 - d) * y
        self.step(self.q_opt, self.critic(s, a, y))
        with torch.no_grad():
            v = torch.min(*self.both(self.q1, self.q2, s, self.sample(s)))
            advantage = torch.min(*self.both(self.q1, self.q2, s, a)) - v
        self.imitate(s, a, advantage)
        self.targets()


class IQL(Gaussian):
    def __init__(self, obs: int, act: int) -> None:
        super().__init__(obs, act)
        self.v = mlp(obs, 1, 2)
        self.v_opt = torch.optim.Adam(self.v.parameters(), lr=3e-4)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.actor_opt, 1_000_000)

    def update(self, s: Tensor, a: Tensor, r: Tensor, s2: Tensor, d: Tensor) -> None:
        with torch.no_grad():
            v2 = self.v(s2).squeeze(-1)
            q = torch.min(*self.both(self.t1, self.t2, s, a))
        u = q - self.v(s).squeeze(-1)
        self.step(self.v_opt, (torch.abs(0.7 - (u < 0).float()) * u**2).mean())
        self.step(self.q_opt, self.critic(s, a, r + GAMMA * (1 - d) * v2) / 2)
        self.targets()
        self.imitate(s, a, 3 * u.detach())
        self.schedule.step()


class CQL(Plain):
    hidden = 3
    n = 10

    def __init__(self, obs: int, act: int) -> None:
        super().__init__(obs, act)
        self.log_alpha = nn.Parameter(torch.zeros(1))
        self.alpha_opt = torch.optim.Adam([self.log_alpha], lr=3e-4)

    def actor_out(self, act: int) -> int:
        return 2 * act

    def sample(self, s: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actor(s).chunk(2, dim=-1)
        policy = torch.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
        u = policy.rsample()
        log_prob = policy.log_prob(u) - 2 * (math.log(2) - u - F.softplus(-2 * u))
        return torch.tanh(u), log_prob.sum(-1)

    def many(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s = s.repeat_interleave(self.n, 0)
        return s, *self.sample(s)

    def update(self, s: Tensor, a: Tensor, r: Tensor, s2: Tensor, d: Tensor) -> None:
        pi, log_pi = self.sample(s)
        alpha_loss = -(self.log_alpha * (log_pi - self.act).detach()).mean()
        self.step(self.alpha_opt, alpha_loss)
        alpha = self.log_alpha.exp().detach()
        q = torch.min(*self.both(self.q1, self.q2, s, pi))
        self.step(self.actor_opt, (alpha * log_pi - q).mean())
        with torch.no_grad():
            repeated, a2, _ = self.many(s2)
            best = torch.min(*self.both(self.t1, self.t2, repeated, a2)).view(-1, self.n).amax(-1)
            y = r + GAMMA * (1 - d) * best
            repeated, now, log_now = self.many(s)
            _, following, log_following = self.many(s2)
            uniform = torch.rand_like(now) * 2 - 1
        loss = self.critic(s, a, y)
        for critic in (self.q1, self.q2):
            terms = []
            for action, log_prob in (
                (uniform, -self.act * math.log(2)),
                (following, log_following),
                (now, log_now),
            ):
                q = critic(torch.cat([repeated, action], dim=-1)).squeeze(-1) - log_prob
                terms.append(q.view(-1, self.n))
            taken = critic(torch.cat([s, a], dim=-1)).squeeze(-1)
            loss = loss + 5 * (torch.cat(terms, 1).logsumexp(1) - taken).mean()
        self.step(self.q_opt, loss)
        self.targets()


PLAIN = {"td3+bc": TD3BC, "iql": IQL, "awac": AWAC, "cql": CQL}
