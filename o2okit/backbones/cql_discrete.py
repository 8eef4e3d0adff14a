"""Discrete CQL(H) (Kumar et al., 2020): DQN whose critic prefers the dataset's actions.

    L(θ) = L_TD(θ) + α · mean_B[ logsumexp_a Q_θ(s, a) - Q_θ(s, a_data) ]         (CQL, Eq. 4)

With α = 0 it is DQN, which is how the GDE paper's Fig. 2 switches the constraint off.

Numbered departures from the paper:
    1. α is fixed, not tuned by a Lagrange multiplier (GDE, B.4: α = 3 offline).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from o2okit.backbones.dqn import DQN, DQNHyperparameters
from o2okit.hyper import per_run


@dataclass(frozen=True)
class DiscreteCQLHyperparameters(DQNHyperparameters):
    """DQN's, and the weight of the penalty."""

    alpha: float = per_run(3.0, "α", "GDE paper, B.4")


class DiscreteCQL(DQN):
    """A cohort of discrete CQL agents; arguments as for ``DQN``."""

    Hyperparameters = DiscreteCQLHyperparameters
    version = 1

    def penalty(self, q: Tensor, q_taken: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """α · E[logsumexp Q - Q(a_data)] ``[R]`` from ``q`` ``[R, B, A]`` and ``q_taken`` ``[R, B]``."""
        gap = (torch.logsumexp(q, -1) - q_taken).mean(-1)
        return self.hyper.alpha * gap, {"cql_gap": gap.detach()}
