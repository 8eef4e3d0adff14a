"""Theirs and ours: every dataset at hand beside what is published of D4RL's real files.

    import o2okit.comparison
    comparison = o2okit.comparison.compare_datasets(rows=50_000)
    comparison.frame, comparison.markdown(), comparison.figure()

The kit's locomotion datasets are built where they are missing; its mazes, and D4RL's and Minari's files, are
taken where they are on the machine. What the kit's policies do not reach yet has its row, too, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from o2okit.data import kit, sources
from o2okit.data.sources import Place
from o2okit.data.statistics import describe
from o2okit.errors import UserError, whole
from o2okit.profiles import check_profile, default_profile
from o2okit.report import artefacts, datasets
from o2okit.tasks import TASKS
from o2okit.training.obtain import build_kit
from o2okit.training.run import environment
from o2okit.training.store import write_atomically

NAME = "datasets"  # of the files


@dataclass(frozen=True)
class Comparison:
    """All datasets, theirs and ours.

    Attributes:
        frame: one row per task and source, with the columns of ``report.datasets.COLUMNS``.
        made: per dataset where it is from: what its file says of itself.
        profile, rows, seed: of the kit's datasets.
    """

    frame: pd.DataFrame
    made: Mapping[str, Mapping[str, Any]]
    profile: str
    rows: int
    seed: int

    def markdown(self) -> str:
        """The table for a reader."""
        return datasets.markdown(self.frame)

    def figure(self) -> Figure:
        """Returns and distances of states, a line per dataset."""
        figure = datasets.draw(self.frame)
        artefacts.stamp(figure, self.label())
        return figure

    def label(self) -> str:
        """One line for the figure: sources, profile, seed."""
        return (
            f"D4RL: statistics published of its v2 files · kit: {self.rows:,} rows of each robot's, seed "
            f"{self.seed}; mazes as they were built (profile {self.profile}: {kit.ROWS[self.profile]:,})"
        )

    def save(self, folder: Path) -> list[Path]:
        """Writes the figure (PDF, PNG), the frame (CSV), the table (Markdown), the provenance (JSON)."""
        figure = self.figure()
        files = artefacts.save(folder, NAME, figure, self.frame)
        plt.close(figure)
        table, record = folder / f"{NAME}.md", folder / f"{NAME}.json"
        text = f"# Datasets: theirs and ours\n\n{self.label()}. {datasets.LEGEND}\n\n{self.markdown()}\n"
        write_atomically(table, text.encode())
        artefacts.write_record(
            record,
            {
                "profile": self.profile,
                "rows": self.rows,
                "seed": self.seed,
                "datasets": self.made,
                "environment": environment("cpu"),
            },
        )
        return [*files, table, record]


def compare_datasets(
    *, rows: int | None = None, seed: int = 0, profile: str | None = None
) -> Comparison:
    """Finds or builds every dataset that can be had and compares each with D4RL's.

    Args:
        rows: of each kit dataset; default: the profile's.
        seed: of the kit datasets.
        profile: ``smoke``, ``laptop`` or ``paper``; default: ``O2OKIT_PROFILE``, else ``laptop``.

    Raises:
        UserError: a value is wrong, a file is damaged, or a kit dataset is there with another seed.
    """
    profile = check_profile(profile or default_profile())
    rows = whole("rows", kit.ROWS[profile] if rows is None else rows, 2)
    found: list[dict[str, Any]] = []
    made: dict[str, Mapping[str, Any]] = {}
    for name, task in TASKS.items():
        if task.dataset_file is None:
            continue
        for place in _places(name, rows, seed):
            if not place.usable:
                status = "unusable" if place.found else "not reached"
                found.append(datasets.missing(name, place.source, status, place.note))
                continue
            stored = sources.load_rows(name, place.path)[1]
            found.append(datasets.compared(place.source, describe(stored, name)))
            made[f"{name} ({place.source})"] = {"file": place.path.name, **stored.provenance}
    frame = pd.DataFrame(found, columns=datasets.COLUMNS)
    return Comparison(frame, made, profile, rows, seed)


def _places(name: str, rows: int, seed: int) -> list[Place]:
    """What there is of a task's data, one place per source; the kit's is built where it can be."""
    places: dict[str, Place] = {}
    for place in sources.where(name):
        if place.found:
            places.setdefault(place.source, place)
    if TASKS[name].family == "locomotion":  # not the largest that was built, but the size asked for
        places["kit"] = _kit_place(name, rows, seed)
    return list(places.values())


def _kit_place(name: str, rows: int, seed: int) -> Place:
    path = sources.kit_file(name, rows)
    try:
        kit.plan(name)
    except UserError as error:
        return Place("kit", path, False, False, str(error).partition(". ")[0])
    build_kit(name, rows, seed=seed)
    return Place("kit", path, True, True, "")
