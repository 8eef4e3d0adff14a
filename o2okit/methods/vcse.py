"""VCSE (Kim et al., 2023): as QCSE, with the value of the state alone as its condition.

    c = V(s):   the backbone's ``v``: IQL's value network, else min_j Q_j(s, a) of the policy's mean action

Numbered departures from the paper (specs/qcse.md 2):
    1. λ tanh, the reference set and k are QCSE's, so that the conditions alone differ. Originally β = 0.1,
       k = 12 and no tanh, with the switches of ``o2okit.methods.qcse.VCSE_CODE``.
    2. The value includes the bonus, as QCSE's does. With ``cond_net="extrinsic"`` it is that of critics which
       learn the task's reward alone, as in VCSE's code (whose SAC has their targets, its DrQv2 themselves).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from o2okit.data import Batch
from o2okit.hyper import choice
from o2okit.methods.intrinsic import Rows
from o2okit.methods.qcse import QCSE, QCSEHyperparameters


@dataclass(frozen=True)
class VCSEHyperparameters(QCSEHyperparameters):
    """Defaults: specs/qcse.md 2."""

    # QCSE's switch, kept for the ids of runs: the value of a state is always that of the policy's action.
    cond_action: str = choice("stored", source="spec 2: no choice")


class VCSE(QCSE):
    """Value conditional state entropy; arguments as for ``Naive``."""

    Hyperparameters = VCSEHyperparameters

    def condition(self, rows: Rows, batch: Batch) -> Tensor:
        """As ``QCSE.condition``."""
        if self.hyper.cond_net == "online":
            return self.agent.v(rows.obs)
        return self.value(rows._replace(action=self.agent.policy.mode(rows.obs)))
