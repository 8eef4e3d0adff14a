"""Recompute every printed total, average and increase from the printed cells.

Of the 177 printed totals 24 do not follow from the cells beside them; they are listed below, so
that a replication compares with the number that is right. ``python -m o2okit.papers.totals``
prints one line per total and exits 1 when a total differs that is not on the list.

All arithmetic is exact (``Decimal``). A total matches when it is within half a unit of its last
printed digit of the recomputed number.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

import pandas as pd

from o2okit.errors import unknown
from o2okit.papers import values

FAMILIES = {
    "antmaze": {"antmaze"},
    "gym_mujoco": {"halfcheetah", "hopper", "walker2d", "ant"},
    "locomotion": {"halfcheetah", "hopper", "walker2d"},
    "binary": {"door", "pen", "relocate"},
    "antmaze+gym_mujoco": {"antmaze", "halfcheetah", "hopper", "walker2d", "ant"},
    "all": {"antmaze", "halfcheetah", "hopper", "walker2d", "ant", "door", "pen", "relocate"},
}
"""Group of a total -> the first words of the names of its tasks."""


class Key(NamedTuple):
    """What identifies a printed total."""

    paper: str
    artefact: str
    group: str
    method: str


class Mismatch(NamedTuple):
    """A printed total that its cells contradict: both numbers, and what seems to have happened."""

    printed: Decimal
    from_cells: Decimal
    remark: str


_SUM_AS_AVERAGE = "the row is labelled Avg but prints the sum of the five tasks"
_OF_O2TD3 = "the printed total is that of the O2TD3 cells"
_UNDER_O2SAC = "the total of these cells is printed under O2SAC"

# Paper, table, group, method, printed, from the cells, remark.
_KNOWN = [
    ("qcse", 1, "antmaze", "cal_ql", "352.2", "362.2", "10 too low for its cells"),
    ("qcse", 1, "antmaze+gym_mujoco", "iql", "82.2", "82.0", "(296 + 688) / 12 is 82.0"),
    ("qcse", 1, "antmaze+gym_mujoco", "cal_ql", "65.6", "66.4", "uses the low antmaze total"),
    ("qcse", 3, "antmaze", "cql+qcse", "182.3", "182.4", "off by 0.1"),
    ("qcse", 3, "antmaze+gym_mujoco", "cql", "497.7", "99.5", _SUM_AS_AVERAGE),
    ("qcse", 3, "antmaze+gym_mujoco", "cql+qcse", "537.1", "107.4", _SUM_AS_AVERAGE + " (537.2)"),
    ("qcse", 3, "antmaze+gym_mujoco", "cql+vcse", "458.0", "91.6", _SUM_AS_AVERAGE),
    ("qcse", 3, "antmaze+gym_mujoco", "cql+rnd", "478.7", "95.7", _SUM_AS_AVERAGE),
    ("qcse", 3, "antmaze+gym_mujoco", "cal_ql", "391.9", "78.4", _SUM_AS_AVERAGE),
    ("qcse", 3, "antmaze+gym_mujoco", "cal_ql+qcse", "430.6", "86.1", _SUM_AS_AVERAGE),
    ("qcse", 3, "antmaze+gym_mujoco", "cal_ql+vcse", "398.5", "79.7", _SUM_AS_AVERAGE),
    ("qcse", 3, "antmaze+gym_mujoco", "cal_ql+rnd", "371.1", "74.2", _SUM_AS_AVERAGE),
    ("ocr_cft", 1, "antmaze (offline)", "o2td3", "128.6", "131.2", _UNDER_O2SAC),
    ("ocr_cft", 1, "antmaze", "o2td3", "142.0", "148.0", _UNDER_O2SAC),
    ("ocr_cft", 1, "antmaze (offline)", "o2sac", "131.2", "136.6", _OF_O2TD3),
    ("ocr_cft", 1, "antmaze", "o2sac", "148.0", "173.4", _OF_O2TD3),
    ("ocr_cft", 2, "all (increase)", "off2on", "182.93", "182.92", "off by 0.01"),
    ("ocr_cft", 2, "all", "cal_ql", "1099.73", "1099.72", "off by 0.01"),
    ("ocr_cft", 2, "all", "aca", "1112.22", "1112.21", "off by 0.01"),
    ("ocr_cft", 2, "all (increase)", "awac", "31.44", "32.44", "1.00 too low"),
    ("ocr_cft", 4, "antmaze (increase)", "o2ppo", "77.16", "77.13", "off by 0.03"),
    ("gde", 8, "locomotion", "sac (from_scratch)", "569.7", "569.4",
     "needs 47.7 on walker2d-random (as in Table 2), the cell prints 47.4"),
    ("gde", 9, "locomotion", "iql+gde (1m)", "904.7", "894.7", "10 too high for its cells"),
    ("gde", 10, "antmaze", "iql+gde (n=1)", "461.3", "461.4", "off by 0.1"),
]  # fmt: skip
KNOWN_MISMATCHES = {
    Key(paper, f"table_{table}", group, method): Mismatch(Decimal(shown), Decimal(ours), remark)
    for paper, table, group, method, shown, ours, remark in _KNOWN
}
"""The printed totals that do not follow from the printed cells."""

NO_CELLS = {
    Key("ocr_cft", "table_6", "all (increase)", f"o2sac (buffer_{buffer})")
    for buffer in ("all", "part", "null")
}
"""Totals of an experiment whose cells the paper does not print."""

CELLS_ELSEWHERE = {
    Key("ocr_cft", "table_6", "all (increase)", "o2sac (buffer_half)"): ("table_2", "o2sac"),
}
"""Totals whose cells stand in another table: where, and under which method."""


class Status(StrEnum):
    """How a printed total compares with its cells."""

    MATCH = "match"
    KNOWN = "known mismatch"
    UNEXPECTED = "UNEXPECTED"
    NO_CELLS = "no cells"


@dataclass(frozen=True)
class Recomputed:
    """One printed total beside the number its cells give (None without cells)."""

    key: Key
    total_kind: str
    printed: Decimal
    from_cells: Decimal | None
    n_cells: int
    status: Status
    remark: str

    def __str__(self) -> str:
        """One line of the listing."""
        paper, artefact, group, method = self.key
        ours = "-"
        if self.from_cells is not None:  # Two digits more than printed show how far off it is.
            digit = Decimal(1).scaleb(int(self.printed.as_tuple().exponent) - 2)
            ours = str(self.from_cells.quantize(digit))
        line = f"{paper:8} {artefact:9} {group:20} {method:22} {self.total_kind:8}"
        line += f" printed {self.printed!s:8} from {self.n_cells:2} cells {ours:11} {self.status}"
        return line + (f": {self.remark}" if self.remark else "")


def recompute(
    scores: pd.DataFrame | None = None, totals: pd.DataFrame | None = None
) -> list[Recomputed]:
    """Every printed total beside the number that follows from the cells, in the file's order.

    Args:
        scores: cells as text, columns of ``scores.csv``; by default the published ones.
        totals: totals as text, columns of ``totals.csv``; by default the published ones.
    """
    scores = values.printed("scores") if scores is None else scores
    totals = values.printed("totals") if totals is None else totals
    # Hours and steps share tables with the scores; only scores are totalled.
    scores = scores[scores["metric"].isin(["normalized_score", "score"])]
    by_column = {key: cells for key, cells in scores.groupby(["paper", "artefact", "method"])}
    return [_recompute(row._asdict(), by_column) for row in totals.itertuples(index=False)]


def _recompute(total: dict[str, str], by_column: dict[tuple, pd.DataFrame]) -> Recomputed:
    key = Key(*(total[field] for field in Key._fields))
    printed = Decimal(total["value"])
    artefact, method = CELLS_ELSEWHERE.get(key, (key.artefact, key.method))
    cells = by_column.get((key.paper, artefact, method))
    family, _, which = key.group.partition(" ")
    if family not in FAMILIES or which not in ("", "(offline)", "(increase)"):
        raise unknown("group of tasks", key.group, FAMILIES, "(offline) or (increase) may follow.")
    if cells is not None:
        cells = cells[cells["task"].str.split("-").str[0].isin(FAMILIES[family])]
        cells = cells[cells["offline_value"] != ""] if which else cells
    if cells is None or cells.empty:
        status = Status.NO_CELLS if key in NO_CELLS else Status.UNEXPECTED
        return Recomputed(key, total["total_kind"], printed, None, 0, status, "no cells printed")

    from_cells = _total(cells, which)
    if total["total_kind"] == "average":
        from_cells /= len(cells)
    status, remark = _compare(key, printed, from_cells)
    return Recomputed(key, total["total_kind"], printed, from_cells, len(cells), status, remark)


def _total(cells: pd.DataFrame, which: str) -> Decimal:
    """Sum of the online scores, of those before fine-tuning, or of the differences."""
    online = sum(map(Decimal, cells["value"]), Decimal(0))
    if which == "":
        return online
    offline = sum(map(Decimal, cells["offline_value"]), Decimal(0))
    return offline if which == "(offline)" else online - offline


def _compare(key: Key, printed: Decimal, from_cells: Decimal) -> tuple[Status, str]:
    known = KNOWN_MISMATCHES.get(key)
    if _agree(printed, from_cells):
        # A mismatch that has vanished means that the files changed, or the list is wrong.
        return (Status.UNEXPECTED, "listed as a mismatch") if known else (Status.MATCH, "")
    if known and known.printed == printed and _agree(known.from_cells, from_cells):
        return Status.KNOWN, known.remark
    return Status.UNEXPECTED, "not on the list of known mismatches"


def _agree(printed: Decimal, exact: Decimal) -> bool:
    """Whether the two differ by at most half a unit of the last printed digit."""
    return abs(printed - exact) <= Decimal(1).scaleb(int(printed.as_tuple().exponent)) / 2


def main() -> int:
    """Print one line per total and a summary; 1 when a mismatch is not on the list, else 0."""
    results = recompute()
    print(*results, sep="\n")
    counts = Counter(result.status for result in results)
    print(f"{len(results)} printed totals:", end=" ")
    print(*(f"{counts[status]} {status}" for status in Status), sep=", ")
    return int(counts[Status.UNEXPECTED] > 0)


if __name__ == "__main__":
    sys.exit(main())
