"""Curves from the first update on: the pre-training's before the fine-tuning's, scores or metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from o2okit.methods.neighbours import state_entropy
from o2okit.report import panels
from o2okit.streams import generator
from o2okit.training import Run, RunSpec

if TYPE_CHECKING:
    from o2okit.papers.grid import GridStudy
    from o2okit.papers.measuring import Measuring


STATES, NEAREST = 5_000, 5  # specs/qcse.md 2


def state_entropies(run: Run) -> pd.DataFrame:
    """Entropy of the run's own states at each evaluation (QCSE's Eq. 19): of 5,000 of those it had by then.

    Steps before there are enough states for it are left out. ``mean_log_radius`` is free of its constants.
    """
    states, rows = run.transitions().obs.numpy(), []
    rng = generator(run.spec.seed, "state entropy")
    for step in run.evaluations()["step"]:
        if step > NEAREST:
            drawn = rng.choice(step, size=min(step, STATES), replace=False)
            found = state_entropy(states[drawn], NEAREST)
            rows.append((step, *found))
    return pd.DataFrame(rows, columns=["step", "state_entropy", "mean_log_radius"])


def successes_per_step(run: Run) -> pd.DataFrame:
    """Training episodes with any reward since the evaluation before, by the steps since.

    Where reward is given at the goal alone (AntMaze), these are the attempts that reached it.
    """
    episodes, steps = run.episodes(), run.evaluations()["step"].to_numpy()
    ends = episodes.loc[episodes["return"] > 0, "step"].to_numpy() if len(episodes) else []
    counts, _ = np.histogram(ends, bins=[*steps[:-1] + 0.5, steps[-1] + 0.5])
    return pd.DataFrame({"step": steps[1:], "successes_per_step": counts / np.diff(steps)})


DERIVED: dict[str, Callable[[Run], pd.DataFrame]] = {
    "state_entropy": state_entropies,
    "successes_per_step": successes_per_step,
}


def specs(spec: RunSpec, before: bool) -> list[RunSpec]:
    """The runs that a curve is made of: with ``before`` the pre-training comes first."""
    return [spec.start, spec] if before and spec.start is not None else [spec]


def history(
    study: Measuring, spec: RunSpec, *, metric: str = "", before: bool = False
) -> pd.DataFrame:
    """Step and ``score`` of every evaluation, or step and ``metric``.

    The steps of the pre-training are negative; fine-tuning begins at 0, with its own evaluation there.
    """
    parts = []
    for each in specs(spec, before):
        run, column = study.result(each), metric or "score"
        kept = run.metrics if metric else run.curve
        table = DERIVED[metric](run) if metric in DERIVED else kept()
        shift = 0 if each is spec else each.steps
        parts.append(pd.DataFrame({"step": table["step"] - shift, column: table[column]}))
    return pd.concat(parts).drop_duplicates("step", keep="last").reset_index(drop=True)


def draw(study: GridStudy, artefact: str, caption: str) -> tuple[Figure, pd.DataFrame]:
    """The figure of a panel with ``before``, and the numbers in it."""
    panel, tasks = study.panels[artefact], study.tasks_of(artefact)
    frame = study.curves(artefact)
    found = {task: study.limit(artefact, task) for task in tasks}
    limits = {task: limit for task, limit in found.items() if limit is not None}
    figure = panels.histories(
        frame, caption, panel.metric or "score", before=panel.before, limits=limits
    )
    return figure, frame.assign(limit=frame["task"].map(limits)) if limits else frame
