"""SUNG (Guo et al., 2023): acts where it knows little, and is careful there alone.

    U(s, a) = error of a VAE on (s, a) + β KL
    an action is one of 100 samples of the policy,   TD3+BC: of the 10 with the highest Q, by softmax(U)
                                                     CQL: of the 20 with the highest U, by softmax(Q)

What keeps the agent close to its data counts for the rows of a minibatch with high U alone: 5 % and 0.05 for
TD3+BC, 10 % (drawn by softmax(U)) and 0.1 for CQL. Minibatches are APL's.

Numbered departures from the paper (specs/samg.md 3):
    1. The constraint is its mean over the rows that are chosen, times its weight.
    2. Softmax at temperature 1, of raw values. halfcheetah-random has no weights of its own.
    3. Once online the VAE learns from the agent's minibatches, a step with each update.
    4. Where the agent sees raw states (CQL, Cal-QL), those of the VAE are standardised by the dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from o2okit.backbones.base import Normaliser
from o2okit.data import Batch, Dataset
from o2okit.errors import UserError
from o2okit.hyper import per_run, static
from o2okit.methods.apl import OORB, OORBHyperparameters
from o2okit.nn import VAE, Adam, DeterministicPolicy
from o2okit.streams import Draws, Streams


@dataclass(frozen=True)
class SUNGHyperparameters(OORBHyperparameters):
    """Defaults: specs/samg.md 3."""

    candidates: int = static(100, "", "spec 3: actions to choose from", low=2)
    vae_hidden: tuple[int, ...] = static((750, 750), "", "spec 3", low=1)
    vae_updates: int = static(100_000, "", "spec 3: on the dataset, before the first step")
    vae_lr: float = static(1e-3, "", "spec 3, Adam")
    beta: float = per_run(0.5, "β", "spec 3")


class Choice(NamedTuple):
    """What differs between the hosts: who is kept by what, which share is constrained how strongly."""

    finalists: int
    by_value: bool  # finalists by Q, then one by U; else the other way round
    share: float
    weight: float
    drawn: bool  # the constrained rows are drawn by softmax(U), not the top


DETERMINISTIC = Choice(10, True, 0.05, 0.05, False)  # TD3+BC
STOCHASTIC = Choice(20, False, 0.1, 0.1, True)  # CQL


class SUNG(OORB):
    """Uncertainty-guided exploration; arguments as for ``Naive``."""

    Hyperparameters = SUNGHyperparameters
    version = 2
    needs_dataset = True

    def build(self, seeds: Sequence[int]) -> None:
        """The VAE, and which host it is."""
        super().build(seeds)
        self.seeds, act = tuple(seeds), self.task.act_size
        kind = {"name": "sung/vae", "device": self.device}
        self.vae = VAE(seeds, self.task.obs_size + act, 2 * act, self.hyper.vae_hidden, **kind)
        self.adam = Adam(self.vae.parts, self.hyper.vae_lr)
        self.normaliser = Normaliser(len(seeds), self.task.obs_size, self.device)
        self.host = (
            DETERMINISTIC if isinstance(self.agent.policy, DeterministicPolicy) else STOCHASTIC
        )

    # --- the VAE ----------------------------------------------------------------------------------
    def uncertainty(self, obs: Tensor, action: Tensor, noise: Tensor) -> Tensor:
        """U ``[R, B]`` of actions in states as the networks see them; ``noise`` ``[R, B, Z]``."""
        x = torch.cat([self.normaliser(obs), action], dim=-1)
        error, divergence = self.vae.errors(x, noise)
        return error + self.hyper.beta[:, None] * divergence

    def prepare(self, dataset: Dataset | None) -> None:
        """Trains the VAE on the dataset. Raises ``UserError`` without one."""
        if dataset is None:
            raise UserError(
                "sung trains its VAE on a dataset, but none was given: pass the one that the agent was "
                "pre-trained on (RunSpec: dataset=...)."
            )
        if not self.agent.hyper.normalise:
            self.normaliser.fit(dataset.observations)
        obs, action = (
            torch.as_tensor(field, dtype=torch.float32, device=self.device)
            for field in (dataset.observations, dataset.actions)
        )
        streams, rows = Streams(self.seeds, "sung/vae", self.device), self.agent.hyper.batch_size
        for update in range(self.hyper.vae_updates):
            index = (streams.uniform("rows", update, rows) * len(obs)).long()
            noise = streams.normal("latent", update, rows, self.vae.latent)
            loss = self.uncertainty(self.agent.view(obs[index]), action[index], noise).mean(-1)
            self.adam.step(loss)

    # --- acting -----------------------------------------------------------------------------------
    @torch.no_grad()
    def act(self, obs: Tensor, draws: Draws) -> Tensor:
        """One of the candidates."""
        agent, n, host = self.agent, self.hyper.candidates, self.host
        obs = agent.view(obs[:, None]).expand(-1, n, -1).contiguous()
        actions = agent.policy.sample(obs, draws.normal("candidates", n, self.task.act_size))
        value = agent.q(agent.critic, obs, actions).amin(1)
        unknown = self.uncertainty(obs, actions, draws.normal("latent", n, self.vae.latent))
        first, second = (value, unknown) if host.by_value else (unknown, value)
        kept = first.topk(min(host.finalists, n), dim=1).indices
        shares = second.gather(1, kept).softmax(1).cumsum(1)
        place = (shares < draws.uniform("choice", 1)).sum(1, keepdim=True)
        chosen = kept.gather(1, place.clamp(max=kept.shape[1] - 1))
        return actions.gather(1, chosen[..., None].expand(-1, -1, actions.shape[-1]))[:, 0]

    # --- updates ----------------------------------------------------------------------------------
    @torch.no_grad()
    def constraint(self, batch: Batch) -> Tensor:
        """The weight of each row ``[R, B]``, 0 for those that are not chosen."""
        rows = batch.reward.shape[1]
        noise = self.draws.normal("constraint latent", rows, self.vae.latent)
        unknown = self.uncertainty(batch.obs, batch.action, noise)
        if self.host.drawn:  # the largest U + Gumbel noise: without replacement, by softmax(U)
            u = self.draws.uniform("constraint", rows).clamp(min=1e-12)
            unknown = unknown - (-u.log()).log().to(unknown)
        number = max(round(self.host.share * rows), 1)
        chosen = unknown.topk(number, dim=1).indices
        weight = self.host.weight * rows / number
        return torch.zeros_like(batch.reward).scatter_(1, chosen, weight)

    def extra_updates(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the VAE."""
        noise = self.draws.normal("vae latent", batch.reward.shape[1], self.vae.latent)
        loss = self.uncertainty(batch.obs, batch.action, noise).mean(-1)
        self.adam.step(loss)
        return {"vae_loss": loss.detach()}
