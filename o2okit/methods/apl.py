"""APL, adaptive policy learning (Zheng et al., 2023): careful on old transitions, free on the newest.

    a minibatch: 90 % of the newest 20,000 own transitions, 10 % of everything;
    what keeps the agent close to its data (TD3+BC's imitation, CQL's penalty) counts for the latter alone

Numbered departures from the paper (specs/samg.md 3):
    1. Twin critics: the ensemble of its form for CQL was not found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from o2okit.data import Batch, Replay
from o2okit.hyper import static
from o2okit.methods.base import Naive


@dataclass(frozen=True)
class OORBHyperparameters:
    """Of the replay that APL and SUNG draw from. Defaults: specs/samg.md 3."""

    newest: int = static(20_000, "", "spec 3: own transitions of the small buffer", low=1)
    share: float = static(0.9, "", "spec 3: of a minibatch from it", high=1)


class OORB(Naive):
    """Minibatches from the newest own transitions and from everything; arguments as for ``Naive``."""

    Hyperparameters = OORBHyperparameters
    replay = "mixed"
    backbones = ("td3+bc", "cql", "cal-ql")

    def build(self, seeds: Sequence[int]) -> None:
        """How many rows of a minibatch are the newest's."""
        self.recent = round(self.agent.hyper.batch_size * self.hyper.share)

    def sample(self, replay: Replay) -> Batch:
        """The newest first, then those of everything."""
        u = self.draws.uniform("minibatch", self.agent.hyper.batch_size)
        newest = replay.newest_places(u[:, : self.recent], self.hyper.newest)
        return replay.take(torch.cat([newest, replay.places(u[:, self.recent :])], dim=1))


class APL(OORB):
    """Adaptive policy learning; arguments as for ``Naive``."""

    version = 2  # 2: the gap of CQL's multiplier counts as much as its rows

    def constraint(self, batch: Batch) -> Tensor:
        """0 for the newest, 1 for the others ``[R, B]``."""
        rows = torch.arange(batch.reward.shape[1], device=self.device) >= self.recent
        return rows.to(batch.reward).expand_as(batch.reward)
