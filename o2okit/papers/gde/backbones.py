"""GDE, Section 5.4: on TD3+BC and on CQL (Table 3).

Numbered departures from the paper:
    1. TD3+BC's policies have no spread: the divergence is that of Gaussians with σ = 1, and the exploring one
       acts with noise of 0.1 (specs/gde.md 2.2).
    2. "Strong performances" is judged by the locomotion total, against each of the other three.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from o2okit.papers.gde import entries as e
from o2okit.papers.grid import GridStudy, Panel

TD3_BC = e.others("td3+bc", "T-", "td3bc")
CQL = e.others("cql", "C-", "cql")


class BackboneStudy(GridStudy):
    """The study behind ``notebooks/gde/backbones.ipynb``."""

    key = "gde/backbones"
    title = "5.4 Performance with other backbone algorithms: TD3+BC and CQL"
    panels: ClassVar[Mapping[str, Panel]] = {
        "table_3": Panel("Table 3: other backbones", (*TD3_BC, *CQL)),
        "table_3_curves": Panel(
            "Ours: learning curves behind Table 3", (*TD3_BC[1:], *CQL[1:]), curves=True
        ),
    }
    amounts = e.amounts(
        laptop={"tasks": ("hopper-medium-v2",), **e.SHORT}, paper={"tasks": e.LOCOMOTION}
    )
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"locomotion": e.LOCOMOTION}
    statistics = e.STATISTICS

    def _judge(self) -> list[dict[str, Any]]:
        return [
            self.judge_total(claim_id, "locomotion", gde, *others)
            for claim_id, (*others, gde) in (("gde-14", TD3_BC), ("gde-15", CQL))
        ]
