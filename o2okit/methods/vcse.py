"""VCSE (Kim et al., 2023): as QCSE, with the value of the state alone as its condition.

    c = V(s):   the backbone's ``v``: IQL's value network, else min_j Q_j(s, a) of the policy's mean action

Numbered departures from the paper (specs/qcse.md 2):
    1. λ tanh, the reference set and k are QCSE's, so that the conditions alone differ. Originally β = 0.1,
       k = 12 and no tanh, with the switches of ``o2okit.methods.qcse.VCSE_CODE``.
"""

from __future__ import annotations

from torch import Tensor

from o2okit.data import Batch
from o2okit.methods.intrinsic import Rows
from o2okit.methods.qcse import QCSE


class VCSE(QCSE):
    """Value conditional state entropy; arguments as for ``Naive``."""

    def condition(self, rows: Rows, batch: Batch) -> Tensor:
        """As ``QCSE.condition``."""
        return self.agent.v(rows.obs)
