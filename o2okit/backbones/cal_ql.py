"""Cal-QL (Nakamoto et al., 2023): CQL that never pushes a value below what the data returned.

    In CQL's logsumexp, Q_j(s, a') and Q_j(s, ã) become max(Q_j, G(s)), G(s) the Monte-Carlo return.

Numbered departures from the paper:
    1. Online rows of an episode that has not ended have no return yet and are not calibrated (the authors
       store whole episodes).
    2. ``calibrate=False`` switches it off online (CORL; specs/ocr_cft.md 3, specs/samg.md 2.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from o2okit.backbones.cql import CQL, CQLHyperparameters
from o2okit.data import Batch
from o2okit.data.returns import return_to_go
from o2okit.errors import UserError
from o2okit.hyper import static


@dataclass(frozen=True)
class CalQLHyperparameters(CQLHyperparameters):
    """CQL's, and the switch."""

    calibrate: bool = static(True, "", "spec 3, offline and online")


class CalQL(CQL):
    """A cohort of Cal-QL agents; arguments as for ``Agent``."""

    Hyperparameters = CalQLHyperparameters
    version = 1
    # Of the returns, which are computed once for all runs.
    shared = ("discount", "reward_scale", "reward_bias")
    needs_returns = True
    replay = "half"

    def build(self, seeds: Sequence[int]) -> None:
        """As ``Agent.build``."""
        super().build(seeds)
        values = {tuple(run[name] for name in self.shared) for run in self.hypers}
        if len(values) > 1:
            raise UserError(
                f"Cal-QL's returns are computed once for all runs of a cohort: {', '.join(self.shared)} must "
                f"agree between them; got {sorted(values)}. Train these settings one after the other."
            )
        (self.discount, self.scale, self.bias) = values.pop()
        self.failure = self.task.failure_reward

    def returns(self, rewards: np.ndarray, terminals: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """G ``[N]`` of raw rewards; an episode ends where ``ends``, and bootstraps nothing."""
        failure = None if self.failure is None else self.scale * self.failure + self.bias
        scaled = self.scale * rewards + self.bias
        return return_to_go(
            scaled, terminals, ends & ~terminals, self.discount, failure_reward=failure
        )

    def calibrate(self, q: Tensor, batch: Batch) -> Tensor:
        """max(Q, G(s)) of the values ``[R, E, B, n]`` of the policy's actions."""
        if not self.hyper.calibrate:
            return q
        return torch.maximum(q, batch.mc_return[:, None, :, None])
