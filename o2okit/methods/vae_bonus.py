"""QCSE's other form (its Eq. 15): a bonus for states that an autoencoder given Q finds unlikely.

    b = -1/d_s log mean_l [ p(s, z_l | Q̂) / q(z_l | s, Q̂) ],   z_l ~ q(·|s, Q̂)        (importance weighting)

p(s | z, Q̂) is a Gaussian with variance 1 about the decoder's output, p(z) = N(0, 1). The autoencoder learns
from the run's own rows, a step with each update, by the usual bound (one sample).

Numbered departures from the paper, which never evaluates it (specs/qcse.md 2):
    1. The numerator has z, which the paper omits.
    2. Per dimension of the state, as QCSE's other form is: the sum is far beyond where tanh is 1.
    3. Network, number of samples and learning rate are ours. Q̂ is standardised over the own rows, as QCSE's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from o2okit.data import Batch
from o2okit.hyper import static
from o2okit.methods.intrinsic import Intrinsic, IntrinsicHyperparameters
from o2okit.methods.neighbours import standardised
from o2okit.nn import VAE, Adam
from o2okit.nn.distributions import LOG_2PI


@dataclass(frozen=True)
class VAEBonusHyperparameters(IntrinsicHyperparameters):
    """Our decisions; specs/qcse.md 2 names none."""

    hidden: tuple[int, ...] = static((256, 256), "", "our decision", low=1)
    latent: int = static(16, "", "our decision", low=1)
    samples: int = static(8, "L", "our decision", low=1)
    lr: float = static(3e-4, "", "our decision, Adam")


class VAEBonus(Intrinsic):
    """Unlikely states; arguments as for ``Naive``."""

    Hyperparameters = VAEBonusHyperparameters

    def build(self, seeds: Sequence[int]) -> None:
        """The autoencoder."""
        h, kind = self.hyper, {"name": "vae-bonus", "device": self.device}
        self.vae = VAE(seeds, self.task.obs_size, h.latent, h.hidden, condition=1, **kind)
        self.adam = Adam(self.vae.parts, h.lr)

    @torch.no_grad()
    def condition(self, obs: Tensor, action: Tensor) -> Tensor:
        """Q̂ ``[R, Q, 1]`` of the queries, standardised over those that there are."""
        q = self.agent.q(self.agent.critic, obs, action).amin(1)
        return standardised(q, self.asked)[..., None]

    def log_likelihood(self, obs: Tensor, condition: Tensor, noise: Tensor) -> Tensor:
        """Log mean_l p(s, z_l | Q̂) / q(z_l | s, Q̂) ``[R, Q]``; ``noise`` ``[R, L Q, Z]`` is normal."""
        count = self.hyper.samples
        obs, condition = obs.repeat(1, count, 1), condition.repeat(1, count, 1)
        mean, log_std = self.vae.encode(obs, condition)
        z = mean + log_std.exp() * noise
        away = (obs - self.vae.decode(z, condition)).square().sum(-1)
        likelihood = -0.5 * (away + obs.shape[-1] * LOG_2PI)
        prior = -0.5 * z.square().sum(-1)
        posterior = -(0.5 * noise.square() + log_std).sum(-1)
        ratio = likelihood + prior - posterior
        return ratio.unflatten(1, (count, -1)).logsumexp(1) - math.log(count)

    def bonus(self, batch: Batch) -> Tensor:
        """As ``Intrinsic.bonus``."""
        obs, action = self.of_queries(batch.obs), self.of_queries(batch.action)
        count = self.hyper.samples
        noise = self.draws.normal("vae-bonus", count * batch.reward.shape[1], self.hyper.latent)
        noise = noise[:, : count * obs.shape[1]]
        return -self.log_likelihood(obs, self.condition(obs, action), noise) / obs.shape[-1]

    def extra_updates(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the autoencoder on the own rows; the metrics."""
        if self.started:
            obs, action = self.of_queries(batch.obs), self.of_queries(batch.action)
            noise = self.draws.normal("vae-bonus/learn", batch.reward.shape[1], self.hyper.latent)
            condition = self.condition(obs, action)
            error, divergence = self.vae.errors(obs, noise[:, : obs.shape[1]], condition)
            bound = 0.5 * obs.shape[-1] * error + self.hyper.latent * divergence
            loss = (bound * self.asked).sum(-1) / self.asked.sum(-1).clamp(min=1)
            self.adam.step(loss)
            self.log["vae_loss"] = loss.detach()
        return super().extra_updates(batch)
