"""How long training takes here: updates, environment steps and evaluations of a cohort, timed for a moment.

What is timed is the cohort itself, with its networks, its minibatches and its environments, but on a few rows
of its dataset. Nothing is stored, and no run is advanced.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from o2okit import hyper
from o2okit.backbones import BACKBONES
from o2okit.methods import METHODS
from o2okit.nn.products import release_buffers
from o2okit.tasks import task as find_task
from o2okit.training.cohort import Cohort, evaluate
from o2okit.training.obtain import STANDS_FOR
from o2okit.training.spec import RunSpec

ROWS = 2_000  # of the dataset, in the replay while the clock runs
WARM_UP = 10  # updates and steps before it starts, or fewer slow ones: the first are not recorded
SECONDS = 0.5  # for each thing that is timed
SHORT, LONG = 5, 25  # steps of two evaluations: what they differ by is what a step costs


def kind(specs: Sequence[RunSpec]) -> str:
    """Cohorts with equal keys are taken to be equally fast: they differ in robot or maze, seeds, amounts."""
    spec = specs[0]
    static = (
        hyper.split(cls.Hyperparameters, values)[1]
        for cls, values in (
            (BACKBONES[spec.backbone], spec.hyper),
            (METHODS[spec.method], spec.method_hyper),
        )
    )
    family = find_task(spec.task).family
    names = (family, spec.ant_obs, spec.phase, spec.backbone, spec.method, spec.replay)
    amounts = (len(specs), spec.updates_per_step, spec.update_every, spec.eval_episodes)
    return json.dumps([*names, *amounts, *static], default=str)


@dataclass(frozen=True)
class Pace:
    """Seconds of a whole cohort.

    Attributes:
        update: one update of every run.
        step: one environment step of every run, with the choice of the actions; 0 offline.
        evaluation: one evaluation whose episodes last until the task's time limit.
        prepare: what the method learns from the dataset before the first step.
    """

    update: float
    step: float
    evaluation: float
    prepare: float


class Calibration:
    """A cohort like the one given, to be timed.

    Args:
        specs: the runs of a cohort.
        device: where their learner would run.

    Raises:
        UserError: as ``Cohort``.
    """

    def __init__(self, specs: Sequence[RunSpec], device: torch.device) -> None:
        data, self.device = specs[0].dataset, device
        few = data and data.select(np.arange(min(ROWS, len(data))), "first rows")
        brief = [replace(each, dataset=few, start=None, capacity=ROWS) for each in specs]
        self.cohort = Cohort(brief, device)
        began = self._now()
        self.cohort.begin()
        self._prepare = 0.0
        if self.cohort.method.needs_dataset:  # it goes through all rows, and here through few
            rows = data.provenance.get(STANDS_FOR, len(data))
            self._prepare = (self._now() - began) * rows / len(few)

    def updates(self, begin: int, end: int) -> int:
        """How many updates there are from step ``begin`` to step ``end``."""
        if not self.cohort.online:
            return end - begin
        return sum(map(self.cohort.updates_at, range(begin, end)))

    def pace(self) -> Pace:
        """Times everything; takes about two seconds, more where three updates take more."""
        cohort, step = self.cohort, 0.0
        if cohort.online:  # first, so that there is something to draw from
            step = self._seconds(cohort.interact)
        update = self._seconds(lambda: cohort.learn(cohort.streams.at(0)))
        evaluation = self._evaluation()
        release_buffers()
        return Pace(update, step, evaluation, self._prepare)

    def _evaluation(self) -> float:
        cohort, spec = self.cohort, self.cohort.specs[0]
        seeds = [each.seed for each in cohort.specs]

        def seconds(most: int) -> float:
            began = self._now()
            evaluate(cohort.method, cohort.task, seeds, spec.eval_episodes, "pace", most)
            return self._now() - began

        seconds(1)
        short = seconds(SHORT)
        each = max(seconds(LONG) - short, 0.0) / (LONG - SHORT)
        return short + (cohort.task.horizon - SHORT) * each

    def _seconds(self, act: Callable[[], object]) -> float:
        """Of one call, with one thread or with all of them: training takes what is faster."""
        most, best = torch.get_num_threads(), float("inf")
        self._repeat(act, WARM_UP)
        for threads in sorted({1, most}):
            torch.set_num_threads(threads)
            best = min(best, self._repeat(act))
        torch.set_num_threads(most)
        return best

    def _repeat(self, act: Callable[[], object], at_most: float = float("inf")) -> float:
        """Seconds of one call on average, over as many as fit in the time for it; one at least."""
        count, began = 0, self._now()
        while count == 0 or (count < at_most and self._now() - began < SECONDS / 2):
            act()
            count += 1
        return (self._now() - began) / count

    def _now(self) -> float:
        if self.device.type == "cuda":  # what was launched is not yet done
            torch.cuda.synchronize()
        return time.perf_counter()
