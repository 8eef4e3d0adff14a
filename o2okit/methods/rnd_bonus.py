"""RND as QCSE's paper is read here: λ tanh(e(s') / std(e)) for the run's own rows (specs/qcse.md 2).

    e(s') = || g(s') - f(s') ||²      (``o2okit.methods.rnd``; g learns from own rows alone)

Numbered departures from the paper, which says nothing about its RND:
    1. λ tanh is QCSE's, so that the signals alone differ. GDE's RND has neither tanh nor the restriction to
       own rows.
    2. Until there are enough own rows for a bonus g does not learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from o2okit.data import Batch
from o2okit.hyper import static
from o2okit.methods.intrinsic import Intrinsic, IntrinsicHyperparameters
from o2okit.methods.rnd import distillation


@dataclass(frozen=True)
class RNDBonusHyperparameters(IntrinsicHyperparameters):
    """Defaults: specs/qcse.md 2."""

    hidden: tuple[int, ...] = static((256, 256), "", "spec 2", low=1)
    features: int = static(64, "", "spec 2", low=1)
    lr: float = static(1e-4, "", "spec 2, Adam")


class RNDBonus(Intrinsic):
    """Random network distillation on own rows; arguments as for ``Naive``."""

    Hyperparameters = RNDBonusHyperparameters

    def build(self, seeds: Sequence[int]) -> None:
        """The frozen target and the predictor."""
        self.distillation = distillation(self, seeds)

    def bonus(self, batch: Batch) -> Tensor:
        """As ``Intrinsic.bonus``."""
        return self.distillation.novelty(self.of_queries(batch.next_obs), self.asked)

    def extra_updates(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the predictor on the own rows; the metrics."""
        if self.started:
            self.log["rnd_error"] = self.distillation.learn(
                self.of_queries(batch.next_obs), self.asked
            )
        return super().extra_updates(batch)
