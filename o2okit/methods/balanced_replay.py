"""Balanced replay (Lee et al., 2021): dataset rows that look like online ones are drawn more often.

    w(s, a) ≥ 0 minimises  E_off[-log(2 / (w + 1))] - E_on[log(2 w / (w + 1))],   so that w → d_on / d_off
    priority = clip(w^(1/T) / mean_off(w^(1/T)), .001, 1000)

The dataset's rows start at 1, new rows at M f / ((1 - f) 1000) for a dataset of M rows: after 1,000 steps
they make up the share f of a minibatch. What is drawn for an update gets its priority anew.

This is the replay of Off2OnRL. Its five agents are the backbone ``cql-ensemble``; one agent of any other
continuous backbone may draw from it, too (GDE's tables: IQL, specs/gde.md 3).

Numbered departures from the paper and the authors' code:
    1. No more updates at the start than later.
    2. Observations are the agent's: standardised where it standardises them.
    3. A new row's priority stays that of the start; in the code it rises to the largest one given to any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from o2okit.data import Batch, Replay
from o2okit.errors import UserError
from o2okit.hyper import per_run, static
from o2okit.methods.base import Naive
from o2okit.nn import Adam, StackedMLP, mean_per_run

EPSILON = 1e-10  # a weight can be 0: log(0) has no gradient (authors' code)
LOW, HIGH = 0.001, 1000.0  # of the priorities (spec 3)
FIRST_STEPS = 1_000  # after which online rows have their first share (spec 3)


@dataclass(frozen=True)
class BalancedReplayHyperparameters:
    """Defaults: specs/gde.md 3."""

    hidden: tuple[int, ...] = static((256, 256), "", "spec 3", low=1)
    lr: float = static(3e-4, "", "spec 3, Adam")
    temperature: float = per_run(5.0, "T", "spec 3", low=1e-6)
    first_share: float = per_run(0.5, "f", "spec 3", high=0.999)


def density_ratio_loss(offline: Tensor, online: Tensor) -> Tensor:
    """Loss ``[R]`` of weights ``[R, B]`` of offline and of online transitions."""
    pulled_down = -(2 / (offline + 1) + EPSILON).log()
    pulled_up = (2 * online / (online + 1) + EPSILON).log()
    return pulled_down.mean(-1) - pulled_up.mean(-1)


def balanced(weight: Tensor, offline: Tensor, temperature: Tensor) -> Tensor:
    """Priorities ``[R, B]`` of weights ``[R, B]``, by those ``[R, n]`` of offline transitions; T ``[R]``.

    Roots by logarithms, because PyTorch's ``pow`` rounds the end of a tensor differently, and where that is
    depends on the number of runs.
    """
    root, normaliser = ((w.log() / temperature[:, None]).exp() for w in (weight, offline))
    return (root / (mean_per_run(normaliser)[:, None] + EPSILON)).clamp(LOW, HIGH)


class BalancedReplay(Naive):
    """Minibatches by an estimated density ratio; arguments as for ``Naive``."""

    Hyperparameters = BalancedReplayHyperparameters
    version = 1
    replay = "mixed"
    backbones = ("iql", "td3+bc", "awac", "cql", "cal-ql", "cql-ensemble")

    def build(self, seeds: Sequence[int]) -> None:
        """The weight network; at first all weights are near 1."""
        sizes = (self.task.obs_size + self.task.act_size, *self.hyper.hidden, 1)
        self.network = StackedMLP(seeds, sizes, name="balanced-replay/weight", device=self.device)
        self.network.weights[-1].fill_(1)
        self.adam = Adam([self.network], self.hyper.lr)

    def attach(self, replay: Replay) -> None:
        """The first priorities; the replay saves and restores them.

        Raises ``UserError`` for a replay without dataset rows.
        """
        if not replay.offline:
            raise UserError(
                "balanced replay weighs the dataset against online transitions: it needs "
                f"replay='mixed'; got {replay.kind!r}."
            )
        self.held, self.priorities = replay, replay.prioritise()
        share = self.hyper.first_share
        self.priorities.fresh.copy_(replay.offline * share / ((1 - share) * FIRST_STEPS))

    def weight(self, batch: Batch) -> Tensor:
        """w(s, a) ``[R, B]`` of a prepared minibatch."""
        return self.network(torch.cat([batch.obs, batch.action], dim=-1))[..., 0].relu()

    # --- updates ----------------------------------------------------------------------------------
    def sample(self, replay: Replay) -> Batch:
        """The minibatch, drawn by priority."""
        u = self.draws.uniform("minibatch", self.agent.hyper.batch_size)
        self.places, _ = self.priorities.draw(u)
        return replay.take(self.places)

    def extra_updates(self, batch: Batch) -> dict[str, Tensor]:
        """The minibatch's new priorities, then one step of the weight network on two other minibatches."""
        if not self.held.online:
            return {}
        u = self.draws.uniform("weight minibatches", 2, self.agent.hyper.batch_size)
        places = self.held.offline_places(u[:, 0]), self.held.online_places(u[:, 1])
        offline, online = (self.weight(self.agent.prepare(self.held.take(p))) for p in places)
        loss = density_ratio_loss(offline, online)
        with torch.no_grad():
            priority = balanced(self.weight(batch), offline, self.hyper.temperature)
        self.priorities.set(self.places, priority)
        self.adam.step(loss)
        return {
            "weight_loss": loss.detach(),
            "offline_weight": mean_per_run(offline.detach()),
            "online_weight": mean_per_run(online.detach()),
            "online_share": self.priorities.online_share(self.places),
        }
