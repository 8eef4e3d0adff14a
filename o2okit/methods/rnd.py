"""RND (Burda et al., 2019): a bonus for states whose random features are still hard to predict.

    e(s') = || g(s') - f(s') ||²,   f frozen and random, g trained;   r ← r + β · e / std(e)

Numbered departures from the paper:
    1. The bonus has no value head and no discount of its own: it is added to the reward (GDE, 4.1).
    2. Cells are one-hot and images between 0 and 1, not standardised. Other observations come standardised
       by the dataset where the backbone does so; where it does not (CQL, Cal-QL) they are standardised by
       the minibatches so far. Both are clipped at ±5.
    3. std(e) runs over every error seen so far, not over returns (specs/gde.md 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from o2okit.data import Batch
from o2okit.hyper import per_run, static
from o2okit.methods.base import Naive
from o2okit.nn import Adam, Parts, RunningMoments, StackedConvNet, StackedMLP, discrete_network
from o2okit.tasks import Task

CLIP = 5.0  # of standardised observations (specs/gde.md 3)
TINY = 1e-8  # the least standard deviation


@dataclass(frozen=True)
class RNDHyperparameters:
    """Defaults: specs/gde.md 3."""

    hidden: tuple[int, ...] = static((256, 256), "", "spec 3", low=1)
    features: int = static(64, "", "spec 3", low=1)
    lr: float = static(1e-4, "", "spec 3, Adam")
    beta: float = per_run(0.1, "β", "spec 3, our decision")


class Distillation(Parts):
    """f and g, and how far apart they are.

    Args:
        seeds: one per run.
        task: whose observations they see.
        sizes: of the hidden layers, and the number of features.
        raw: the observations do not come standardised.
        lr: g's learning rate.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        task: Task,
        sizes: tuple[int, ...],
        *,
        raw: bool,
        lr: float,
        device: torch.device | str,
    ) -> None:
        self.task = task

        def network(name: str, **options: bool) -> StackedMLP | StackedConvNet:
            options |= {"name": f"rnd/{name}", "device": device}
            if task.discrete:
                return discrete_network(seeds, task.obs_size, task.image, sizes, **options)
            return StackedMLP(seeds, (task.obs_size, *sizes), **options)

        self.frozen, self.predictor = network("target", trainable=False), network("predictor")
        self.adam = Adam([self.predictor], lr)
        self.errors = RunningMoments(len(seeds), device=device)
        self.seen = RunningMoments(len(seeds), (task.obs_size,), device) if raw else None
        self.parts = tuple(
            filter(None, (self.frozen, self.predictor, self.adam, self.errors, self.seen))
        )

    def error(self, obs: Tensor) -> Tensor:
        """Prediction error ``[R, B]`` of ``obs`` ``[R, B]``, with its gradient."""
        if self.seen:
            obs = (obs - self.seen.mean[:, None]) / self.seen.std[:, None].clamp(min=TINY)
        if not self.task.discrete:
            obs = obs.clamp(-CLIP, CLIP)
        with torch.no_grad():
            features = self.frozen(obs)
        return (self.predictor(obs) - features).square().sum(-1)

    @torch.no_grad()
    def novelty(self, obs: Tensor, counts: Tensor | None = None) -> Tensor:
        """E / std(e) ``[R, B]``. Updates the running moments first, by those that count ``[R, B]``."""
        if self.seen:
            self.seen.add(obs, counts)
        error = self.error(obs)
        self.errors.add(error, counts)
        return error / self.errors.std.clamp(min=TINY)[:, None]

    def learn(self, obs: Tensor, counts: Tensor | None = None) -> Tensor:
        """One step of g on those that count; returns the loss ``[R]``."""
        error = self.error(obs)
        weight = torch.ones_like(error) if counts is None else counts
        loss = (error * weight).sum(-1) / weight.sum(-1).clamp(min=1)
        self.adam.step(loss)
        return loss.detach()


class RND(Naive):
    """Random network distillation on the next observation; arguments as for ``Naive``."""

    Hyperparameters = RNDHyperparameters
    version = 1
    replay = "online"
    # All but BC, to whom rewards mean nothing.
    backbones = ("td3+bc", "awac", "iql", "cql", "cal-ql", "sac", "td3", "cql-discrete", "dqn")

    def build(self, seeds: Sequence[int]) -> None:
        """The frozen target and the predictor."""
        self.distillation = distillation(self, seeds)

    def reward(self, batch: Batch) -> Tensor:
        """The reward plus β · e / std(e), ``[R, B]``."""
        return batch.reward + self.hyper.beta[:, None] * self.distillation.novelty(batch.next_obs)

    def extra_updates(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the predictor."""
        return {"rnd_error": self.distillation.learn(batch.next_obs)}


def distillation(method: Naive, seeds: Sequence[int]) -> Distillation:
    """The networks of a method with ``RNDHyperparameters``' ``hidden``, ``features`` and ``lr``."""
    hyper, raw = method.hyper, not method.task.discrete and not method.agent.hyper.normalise
    sizes = (*hyper.hidden, hyper.features)
    return Distillation(seeds, method.task, sizes, raw=raw, lr=hyper.lr, device=method.device)
