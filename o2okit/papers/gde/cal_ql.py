"""GDE, Section C.2: on a Cal-QL agent (Fig. 10).

Numbered departures from the paper:
    1. "Effective" is judged by the AntMaze total: GDE on Cal-QL against Cal-QL's own fine-tuning.
    2. The figure has no numbers that could be compared; ``figure_10_scores`` shows our final scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from o2okit.papers.gde import entries as e
from o2okit.papers.grid import Entry, GridStudy, Panel

CAL_QL = Entry("Cal-QL", backbone="cal-ql", replay="half")  # spec 2.5
GDE = Entry("GDE on Cal-QL", backbone="cal-ql", method="gde")


class CalQLStudy(GridStudy):
    """The study behind ``notebooks/gde/cal_ql.ipynb``."""

    key = "gde/cal_ql"
    title = "C.2 Comparison with Cal-QL"
    panels: ClassVar[Mapping[str, Panel]] = {
        "figure_10": Panel("Fig. 10: fine-tuning a Cal-QL agent", (CAL_QL, GDE), curves=True),
        "figure_10_scores": Panel("Ours: final scores behind Fig. 10", (CAL_QL, GDE)),
    }
    amounts = e.amounts(laptop={"tasks": e.ANTMAZE[:1], **e.SHORT}, paper={"tasks": e.ANTMAZE})
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"antmaze": e.ANTMAZE}
    statistics = e.STATISTICS
    stand_in = e.STAND_IN

    def _judge(self) -> list[dict[str, Any]]:
        return [self.judge_total("gde-30", "antmaze", GDE, CAL_QL)]
