"""What is left to do and about how long it takes: counted from the specs, timed by a short calibration."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tabulate import tabulate

from o2okit.errors import UserError
from o2okit.papers import parameters_of, study_class
from o2okit.papers.study import Study
from o2okit.training import RunSpec, RunStore
from o2okit.training.obtain import STAND_IN
from o2okit.training.pace import Calibration, Pace, kind
from o2okit.training.train import cohorts, resolve_device, steps_done, to_train


@dataclass
class Left:
    """What a section still has to do; what an earlier one shares with it counts there.

    Attributes:
        key: ``paper/section``.
        runs: to be trained, and ``of`` how many that the section stands on.
        cohorts: of them.
        updates: gradient updates, summed over runs.
        steps: environment steps of training, summed over runs.
        hours: estimated.
        unbuilt: datasets that have to be collected first; all of their runs are to do.
        left_out: tasks for which there are no data.
        refused: why the section can't be run at all.
    """

    key: str
    runs: int = 0
    of: int = 0
    cohorts: int = 0
    updates: int = 0
    steps: int = 0
    hours: float = 0.0
    unbuilt: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    refused: str = ""


def plan(
    keys: Sequence[str],
    values: Mapping[str, Any],
    *,
    tell: Callable[[str], Any] = lambda text: None,
) -> list[Left]:
    """What is left of some sections. Trains nothing, builds no dataset, stores nothing.

    Args:
        keys: ``paper/section``, in the order in which they would run.
        values: parameters of all of them.
        tell: called with a line before each measurement.

    Raises:
        UserError: a section or a parameter does not exist, or a value is not allowed.
    """
    given = parameters_of(keys, values)
    store, seen = RunStore(), set[str]()
    paces: dict[str, Pace] = {}
    updates: dict[tuple[Any, ...], int] = {}
    found = []
    for key in keys:
        left = Left(key)
        found.append(left)
        try:
            study = study_class(key)(**given[key])
        except UserError as error:  # for instance no data for any of its tasks
            left.refused = str(error)
            continue
        left.left_out = list(getattr(study, "left_out", ()))
        to_do, left.of, left.unbuilt = _to_do(study, store)
        mine = [spec for spec in to_do if spec.id not in seen]
        seen |= {spec.id for spec in mine}
        left.runs = len(mine)
        device = resolve_device(study.device)
        for specs in cohorts(mine, store):
            left.cohorts, done = left.cohorts + 1, steps_done(specs[0], store)
            _add(left, specs, done, _measured(specs, done, device, paces, updates, tell))
    return found


def _to_do(study: Study, store: RunStore) -> tuple[list[RunSpec], int, list[str]]:
    """Unfinished runs, with those they start from; how many there are in all; what is not built."""
    study.building = False
    wanted = study.specs()
    every = {spec.id: spec for run in wanted for spec in run.lineage()}
    to_do, ends = list[RunSpec](), to_train(wanted, store)
    while ends:  # nobody asks for the start of a run that is finished
        to_do = [*ends, *to_do]
        ends = to_train((spec.start for spec in ends if spec.start), store, agents=True)
    to_do = list({spec.id: spec for spec in to_do}.values())
    data = [spec.dataset for spec in every.values() if spec.dataset]
    return to_do, len(every), sorted({d.task for d in data if d.source == STAND_IN})


def _measured(
    specs: list[RunSpec],
    done: int,
    device: torch.device,
    paces: dict[str, Pace],
    updates: dict[tuple[Any, ...], int],
    tell: Callable[[str], Any],
) -> tuple[Pace, int]:
    """The pace of a cohort and the updates left of each of its runs; equal kinds are measured once."""
    spec, like = specs[0], kind(specs)
    count = (like, done, spec.steps, spec.learning_starts)
    if like not in paces or count not in updates:
        calibration = Calibration(specs, device)
        updates[count] = calibration.updates(done, spec.steps)
        if like not in paces:
            tell(f"timing {spec.phase} {spec.backbone} {spec.method} x{len(specs)}, {spec.task}")
            paces[like] = calibration.pace()
    return paces[like], updates[count]


def _add(left: Left, specs: list[RunSpec], done: int, measured: tuple[Pace, int]) -> None:
    (pace, updates), spec = measured, specs[0]
    steps = spec.steps - done if spec.phase == "online" else 0
    evaluations = -(-spec.steps // spec.eval_every) - done // spec.eval_every + (done == 0)
    seconds = updates * pace.update + steps * pace.step + evaluations * pace.evaluation
    seconds += pace.prepare if done == 0 else 0.0
    left.updates += updates * len(specs)
    left.steps += steps * len(specs)
    left.hours += seconds / 3600


# --- in words -------------------------------------------------------------------------------------
def text(found: Sequence[Left], profile: str) -> str:
    """The plan as a table, and what the estimate assumes."""
    names = ("runs", "of", "cohorts", "updates", "steps")
    listed = [left for left in found if not left.refused]
    rows = [
        [left.key, *(f"{getattr(left, name):,}" for name in names), _hours(left.hours)]
        for left in listed
    ]
    sums = [f"{sum(getattr(left, name) for left in listed):,}" for name in names]
    sums[names.index("of")] = ""  # sections share runs
    rows.append(["together", *sums, _hours(sum(left.hours for left in listed))])
    table = tabulate(
        rows,
        ("section", "runs", "of", "cohorts", "updates", "env steps", "hours"),
        tablefmt="plain",
        disable_numparse=True,
        colalign=("left", *["right"] * 6),
    )
    lines = [f"still to do at profile {profile}:", table]
    for left in found:
        if left.refused:
            lines.append(f"{left.key} can't be run: {left.refused}")
        if left.left_out:
            lines.append(f"{left.key} leaves out, for want of data: {', '.join(left.left_out)}")
    if unbuilt := sorted({name for left in found for name in left.unbuilt}):
        lines.append(
            f"To be collected first (`o2okit run` does it): {', '.join(unbuilt)}. Therefore all runs on them "
            "count as to do, and the time for collecting is not in the hours."
        )
    if any(left.runs for left in found):
        lines.append(
            f"The hours are an estimate: one worker, this machine ({os.cpu_count()} cores) as busy as it was "
            "just now. Each kind of cohort was timed for a moment, on one task of its family; evaluations "
            "count with episodes of full length, figures do not count."
        )
    return "\n".join(lines)


def _hours(hours: float) -> str:
    return f"{hours:.2f}" if hours < 10 else f"{hours:,.0f}"
