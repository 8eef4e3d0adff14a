"""DQN (Mnih et al., 2015): on one-hot observations for the toy maze, on images for Atari.

    L_TD(θ) = w · mean_B huber_δ( Q_θ(s, a) - y ),   y = r + γ (1 - terminated) max_a' Q_θ'(s', a')

Numbered departures from Mnih et al.:
    1. In the maze one-hot cells and two hidden layers of 128 (specs/gde.md 2.8); games have the
       authors' three convolutions.
    2. Adam instead of RMSProp (specs/gde.md 2.8).
    3. A time-out is not a termination: the target bootstraps through it.
    4. δ and w are hyper-parameters: δ = 1, w = 1 is the Huber loss, δ = inf, w = 2 the squared error.
       The GDE paper does not name its loss. It matters beside a penalty of fixed weight: halving the
       TD loss is the same as doubling α.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from o2okit.backbones.base import Agent
from o2okit.data import Batch
from o2okit.hyper import per_run, static
from o2okit.nn import Adam, Policy, SoftmaxPolicy, discrete_network
from o2okit.streams import Draws


@dataclass(frozen=True)
class DQNHyperparameters:
    """Defaults: specs/gde.md 2.8 unless another source is named."""

    hidden: tuple[int, ...] = static((128, 128), "", "spec 2.8; after convolutions 512", low=1)
    batch_size: int = static(128, "B", "spec 2.8", low=1)
    lr: float = static(1e-3, "", "spec 2.8, Adam")
    target_period: int = static(500, "", "spec 2.8, updates between copies", low=1)
    discount: float = per_run(0.99, "γ", "spec 2.8", high=1)
    huber_delta: float = per_run(1.0, "δ", "spec 2.8; inf: ½ error²", low=1e-6, infinite=True)
    td_weight: float = per_run(1.0, "", "our decision; 2 with δ = inf: error²")
    epsilon: float = per_run(0.05, "ε", "spec 2.8, online", high=1)
    epsilon_start: float = per_run(0.05, "", "our decision; 1 when training from scratch", high=1)
    epsilon_steps: int = per_run(10_000, "", "our decision, length of the linear schedule", low=1)


def huber(error: Tensor, delta: Tensor) -> Tensor:
    """Huber loss of ``error`` ``[R, B]`` with one ``delta`` per run ``[R]``; ``inf`` is ½ error²."""
    size = error.abs()
    quadratic = torch.minimum(size, delta[:, None])
    # As a product: the usual sum of two parts would multiply δ = inf by 0, forwards and backwards.
    return quadratic * (size - 0.5 * quadratic)


class DQN(Agent):
    """A cohort of DQN agents; arguments as for ``Agent``."""

    Hyperparameters = DQNHyperparameters
    version = 1
    asks = ("actor_loss",)
    discrete = True

    def build(self, seeds: Sequence[int]) -> None:
        """As ``Agent.build``."""
        sizes = (*self.hyper.hidden, self.act_size)
        self.q = discrete_network(
            seeds, self.obs_size, self.task.image, sizes, name="q", device=self.device
        )
        self.target_q = self.q.copy()
        self.policy = SoftmaxPolicy(self.q)
        if not self.task.image:
            self._every_obs = torch.arange(self.obs_size, device=self.device).expand(len(seeds), -1)
            self._best = torch.empty(len(seeds), self.obs_size, device=self.device)
        self.adam = Adam([self.q], self.hyper.lr)
        self._tabulate()

    def prepare(self, batch: Batch) -> Batch:
        """The minibatch with its rewards clipped, where the task says so; n-step sums are of such rewards."""
        clip = self.task.reward_clip
        if clip is None or batch.steps is not None:
            return batch
        return batch._replace(reward=batch.reward.clamp(-clip, clip))

    # --- losses -----------------------------------------------------------------------------------
    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """Bootstrap target ``y`` ``[R, B]``."""
        if self.task.image:
            return self.backup(batch, self.target_q(batch.next_obs).amax(-1))
        return self.backup(batch, self._best.gather(1, batch.next_obs))

    @torch.no_grad()
    def _tabulate(self) -> None:
        """max_a Q_θ' of every observation, ``[R, S]``: the target network rests between copies.

        Images are too many: they are asked for one by one.
        In place: a CUDA graph goes on reading where it was recorded.
        """
        if not self.task.image:
            self._best.copy_(self.target_q(self._every_obs).amax(-1))

    def critic_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """TD loss ``[R]`` and its metrics ``[R]``."""
        q = self.q(batch.obs)
        q_taken = q.gather(-1, batch.action[..., None])[..., 0]
        error = q_taken - self.target(batch)
        loss = self.hyper.td_weight * huber(error, self.hyper.huber_delta).mean(-1)
        penalty, extra = self.penalty(q, q_taken)
        metrics = {"td_loss": loss.detach(), "q": q_taken.detach().mean(-1), **extra}
        return loss + penalty, metrics

    def penalty(self, q: Tensor, q_taken: Tensor) -> tuple[Tensor | float, dict[str, Tensor]]:
        """Added to the TD loss, ``[R]``, with its metrics. DQN adds nothing."""
        return 0.0, {}

    # --- update -----------------------------------------------------------------------------------
    def schedule(self) -> None:
        """Copies the network to the target from time to time."""
        if self.updates % self.hyper.target_period == 0:
            self.target_q.copy_from(self.q)
            self._tabulate()

    def learn(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """One gradient step for every run; returns metrics ``[R]``."""
        loss, metrics = self.method.actor_loss(batch, lambda: self.critic_loss(batch))
        self.adam.step(loss)
        return {"loss": loss.detach(), **metrics}

    # --- acting -----------------------------------------------------------------------------------
    @torch.no_grad()
    def greedy(self, obs: Tensor) -> Tensor:
        """Best actions ``[R, B]`` for ``obs`` ``[R, B]`` (images have three more axes)."""
        return self.policy.mode(obs)

    def act(self, obs: Tensor, draws: Draws, policy: Policy | None = None) -> Tensor:
        """ε-greedy actions ``[R]`` for ``obs`` ``[R]`` at environment step ``draws.step``."""
        h = self.hyper
        progress = (draws.step / h.epsilon_steps).clamp(max=1)
        epsilon = h.epsilon_start + progress * (h.epsilon - h.epsilon_start)
        u = draws.uniform("explore", 2)
        random = (u[:, 1] * self.act_size).long()
        with torch.no_grad():
            best = (policy or self.policy).mode(obs[:, None])[:, 0]
        return torch.where(u[:, 0] < epsilon, random, best)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what ``state`` returned."""
        super().load_state(state)
        self._tabulate()
