"""What a run is: everything that decides its result, and nothing else."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from o2okit import hyper, source
from o2okit.backbones import BACKBONES
from o2okit.backbones.base import HOOKS, Changes
from o2okit.data import REPLAYS, Dataset
from o2okit.errors import UserError, known, whole
from o2okit.methods import METHODS
from o2okit.tasks import Task, task

VERSION = 2  # of the training loop: raise it when a change to the loop alters results
PHASES = ("offline", "online")
# What a run draws from: the replay's kinds, and ``part``: mixed with the dataset's best episodes alone.
DRAWN = (*REPLAYS, "part")
EVAL_STARTS = ("fresh", "fixed")
NETWORKS = ("hidden", "norm")  # how hyper-parameters end that say what an agent's networks are
# Fields that came after the first runs stand in a spec only where they differ from their default: so
# the runs that were trained before keep their ids. Such a default must never change.
LATER = ("eval_starts", "ant_obs", "update_every", "part_episodes")


@dataclass(frozen=True, eq=False)
class RunSpec:
    """One run: a task, a backbone, a method, a hyper-parameter setting, a seed, an amount.

    Args:
        task: name in ``TASKS``.
        backbone: name in ``BACKBONES``.
        phase: ``offline`` (updates on the dataset) or ``online`` (environment steps with updates).
        steps: gradient updates offline, environment steps online.
        seed: every random number of the run comes from it.
        hyper: the backbone's hyper-parameters; what is left out takes its default.
        method: name in ``METHODS``; ``method_hyper`` as ``hyper``.
        dataset: what ``replay`` draws from; may be ``None`` with replay ``online``, unless the method
            itself learns from it (``Naive.needs_dataset``).
        replay: name in ``DRAWN``.
        part_episodes: how many episodes of highest return ``part`` preloads (specs/ocr_cft.md 2.8).
        capacity: online transitions that are kept, the newest; 0 keeps all.
        start: the run whose agent this one continues with, optimiser included. Its backbone may also be
            one that derives from this one's: ``cql`` goes on as ``sac`` with SAC's losses.
        learning_starts: online steps before the one with the first update.
        updates_per_step: updates per environment step.
        update_every: environment steps per update, where updates are rarer than steps.
        eval_every: steps between evaluations; there is one at step 0 and one at the end.
        eval_episodes: greedy episodes per evaluation.
        eval_starts: ``fresh`` starts for every evaluation, or the same ``fixed`` ones for all of a run's
            (specs/ocr_cft.md 2.7): differences between evaluations are then the agent's alone.
        ant_obs: 111 observations of ant, as in D4RL's files, or 27 without the zeros (specs/tasks.md 3):
            the same functions with less memory and time. The first layer starts larger, as it has
            fewer inputs. The dataset must be that without them (``Dataset.without_padding``).
        keep_replay: whether the run's own transitions stay when it is finished.
        snapshot_every: steps between copies of the agent that are kept; 0 keeps none.

    Raises:
        UserError: a name does not exist or a value is out of range.
    """

    task: str
    backbone: str
    phase: str
    steps: int
    seed: int
    hyper: Mapping[str, Any] = field(default_factory=dict)
    method: str = "naive"
    method_hyper: Mapping[str, Any] = field(default_factory=dict)
    dataset: Dataset | None = None
    replay: str = "offline"
    start: RunSpec | None = None
    capacity: int = 0
    learning_starts: int = 0
    updates_per_step: int = 1
    update_every: int = 1
    eval_every: int = 500
    eval_episodes: int = 1
    eval_starts: str = "fresh"
    ant_obs: int = 111
    keep_replay: bool = False
    snapshot_every: int = 0
    part_episodes: int = 50

    def __post_init__(self) -> None:
        task(self.task)
        for kind, value, allowed in (
            ("backbone", self.backbone, BACKBONES),
            ("method", self.method, METHODS),
            ("phase", self.phase, PHASES),
            ("replay", self.replay, DRAWN),
            ("eval_starts", self.eval_starts, EVAL_STARTS),
        ):
            known(kind, value, allowed)
        for name, low in (
            ("steps", 1),
            ("seed", 0),
            ("eval_every", 1),
            ("eval_episodes", 1),
            ("snapshot_every", 0),
            ("learning_starts", 0),
            ("updates_per_step", 1),
            ("update_every", 1),
            ("capacity", 0),
            ("part_episodes", 1),
            ("ant_obs", 1),
        ):
            object.__setattr__(self, name, whole(name, getattr(self, name), low))
        self._check_observations()
        agent = BACKBONES[self.backbone]
        if agent.discrete != task(self.task).discrete:
            fit = sorted(key for key, b in BACKBONES.items() if b.discrete != agent.discrete)
            raise UserError(
                f"backbone {self.backbone!r} is not made for the actions of task {self.task!r}. "
                f"Allowed: {', '.join(fit)}."
            )
        if why_not := refusal(self.method, self.backbone):
            raise UserError(why_not)
        if self.phase == "offline" and self.method != "naive":
            raise UserError(
                f"method {self.method!r} is one of fine-tuning: an offline run has method='naive'. Give the "
                "method to an online run that continues it (start)."
            )
        if self.phase == "offline" and self.replay != "offline":
            raise UserError(f"an offline run draws from its dataset; got replay={self.replay!r}.")
        if self.phase == "online" and self.replay == "offline":
            raise UserError(
                "an online run that never draws its own transitions learns nothing from them; "
                "allowed: online, mixed, half, part."
            )
        if self.dataset is None and self.replay != "online":
            raise UserError(f"replay={self.replay!r} needs a dataset.")
        if self.dataset is None and METHODS[self.method].needs_dataset:
            raise UserError(
                f"method {self.method!r} learns from the dataset before the first step: give the run one, "
                f"with replay={self.replay!r} as well."
            )
        if self.phase == "offline" and not self.updates_per_step == self.update_every == 1:
            raise UserError(
                "an offline step is one update; updates_per_step and update_every are for online runs."
            )
        if 1 not in (self.updates_per_step, self.update_every):
            raise UserError(
                "updates are either more frequent than environment steps or rarer: one of updates_per_step "
                f"and update_every must be 1; got {self.updates_per_step} and {self.update_every}."
            )
        # Complete from here on, so that a later change of a default can't change an old run's id.
        backbone = agent.Hyperparameters
        object.__setattr__(self, "hyper", hyper.complete(backbone, self.hyper))
        method = METHODS[self.method].Hyperparameters
        object.__setattr__(self, "method_hyper", hyper.complete(method, self.method_hyper))
        if self.phase == "online":
            self._check_updates()
        if self.start is not None:
            self._check_start(self.start)

    def _check_updates(self) -> None:
        """That there is an update, and that the method has something to say in one."""
        method = METHODS[self.method]
        own = method.first_update(self.method_hyper)
        first, every = max(self.learning_starts, own), self.update_every
        last = (self.steps - 1) // every * every  # steps before the last update that is due
        if first > last:
            where = f"method {self.method!r}" if own > self.learning_starts else "learning_starts"
            rarely = f", then every {every}" if every > 1 else ""
            raise UserError(
                f"the run would end without an update: it has {self.steps} steps, and the first update comes "
                f"after {first} ({where}){rarely}. Give it more steps, or a shorter beginning"
                + (f" ({self._beginning(own)})." if own > self.learning_starts else ".")
            )
        needed, rows = method.first_effect(self.method_hyper), last + 1
        kept = min(rows, self.capacity or rows)
        if kept < needed:
            raise UserError(
                f"method {self.method!r} would change nothing: it begins with {needed} transitions of the "
                f"run's own in the replay, which holds {kept} at the last update. Give the run more steps or "
                f"capacity, or the method a shorter beginning ({self._beginning(needed)})."
            )

    def _beginning(self, number: int) -> str:
        """Where a method's beginning is set: which of its hyper-parameters is that number."""
        for name, value in self.method_hyper.items():
            if value == number and not isinstance(value, bool):
                return f"method_hyper={{{name!r}: ...}}"
        return "method_hyper"

    def _check_observations(self) -> None:
        seen, data = self.task_seen, self.dataset
        if data is None or seen.discrete or data.observations.shape[1] == seen.obs_size:
            return
        raise UserError(
            f"dataset {data.name!r} has {data.observations.shape[1]} observations, the run "
            f"{seen.obs_size}. With ant_obs=27 take dataset.without_padding({task(self.task).padding})."
        )

    @property
    def task_seen(self) -> Task:
        """The task as the run sees it: ant's without its padding where ``ant_obs`` is 27."""
        return task(self.task, self.ant_obs)

    def _check_start(self, start: RunSpec) -> None:
        fits = {
            "task": start.task == self.task,
            # An agent has all that those have which its backbone derives from.
            "backbone": issubclass(BACKBONES[start.backbone], BACKBONES[self.backbone]),
            "ant_obs": start.ant_obs == self.ant_obs,
        }
        for name, fit in fits.items():
            if not fit:
                raise UserError(
                    f"a run continues one of the same {name}: this one has {getattr(self, name)!r}, "
                    f"its start {getattr(start, name)!r}."
                )
        cls = BACKBONES[self.backbone].Hyperparameters
        ours, theirs = (
            {k: v for k, v in hyper.split(cls, run.hyper)[1].items() if k.endswith(NETWORKS)}
            for run in (self, start)
        )
        if ours != theirs:
            raise UserError(f"a run continues one with the same networks: {ours} against {theirs}.")
        for name in BACKBONES[self.backbone].carried:
            if self.hyper[name] != start.hyper[name]:
                raise UserError(
                    f"{name} can't change when a run goes on: its start has {start.hyper[name]!r}, and the "
                    f"agent's state holds it. Change it from the beginning; got {self.hyper[name]!r}."
                )

    def lineage(self) -> list[RunSpec]:
        """The run and those that it continues, the first one first."""
        return [*(self.start.lineage() if self.start else ()), self]

    def describe(self) -> dict[str, Any]:
        """The complete spec as plain JSON types; what ``spec.json`` holds and ``id`` hashes."""
        data = self.dataset
        return {
            "task": self.task,
            "backbone": self.backbone,
            "hyper": _described(BACKBONES[self.backbone], self.hyper),
            "method": self.method,
            "method_hyper": _described(METHODS[self.method], self.method_hyper),
            "phase": self.phase,
            "steps": self.steps,
            "seed": self.seed,
            "dataset": data and {"name": data.name, "source": data.source, "sha256": data.hash},
            "replay": self.replay,
            "capacity": self.capacity,
            "learning_starts": self.learning_starts,
            "updates_per_step": self.updates_per_step,
            "eval_every": self.eval_every,
            "eval_episodes": self.eval_episodes,
            "keep_replay": self.keep_replay,
            "snapshot_every": self.snapshot_every,
            "start": self.start and self.start.describe(),
            **{
                each.name: getattr(self, each.name)
                for each in fields(self)
                if each.name in LATER and getattr(self, each.name) != each.default
            },
            "versions": {
                "training": VERSION,
                "task": task(self.task).version,
                "backbone": source.version(BACKBONES[self.backbone]),
                "method": source.version(METHODS[self.method]),
            },
        }

    @cached_property
    def id(self) -> str:
        """Name of the run in the store: 16 hexadecimal digits of the spec's SHA-256."""
        return digest(self.describe())

    @cached_property
    def cohort(self) -> str:
        """Runs with equal keys can be trained together: they differ only on the run axis."""
        shared = self.describe()
        del shared["seed"]
        # Not the start itself but its kind: agents that differ in their counters can't be stacked.
        shared["start"] = self.start and self.start.cohort
        agent = BACKBONES[self.backbone]
        agreed = {name: shared["hyper"][name] for name in agent.shared}
        shared["hyper"] = hyper.split(agent.Hyperparameters, shared["hyper"])[1] | agreed
        method = METHODS[self.method].Hyperparameters
        shared["method_hyper"] = hyper.split(method, shared["method_hyper"])[1]
        return digest(shared)


def refusal(method: str, backbone: str) -> str:
    """Why a method can't fine-tune a backbone; empty where it can."""
    cls, agent = METHODS[method], BACKBONES[backbone]
    if not cls.fits(backbone):
        return (
            f"method {method!r} is not defined for backbone {backbone!r}. Allowed: "
            f"{', '.join(cls.backbones)}."
        )
    for hook in HOOKS:
        if hook not in agent.asks and getattr(cls, hook) is not getattr(Changes, hook):
            return (
                f"method {method!r} changes the {hook}, which {backbone!r} never asks for: it "
                f"asks for {', '.join(agent.asks) or 'nothing'} (Agent.asks)."
            )
    return ""


def _described(algorithm: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: it is written as a string, and tuples as lists."""
    plain = json.loads(json.dumps(hyper.described(algorithm.Hyperparameters, values)))
    return {
        key: str(value) if isinstance(value, float) and math.isinf(value) else value
        for key, value in plain.items()
    }


def digest(value: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of plain JSON types."""
    text = json.dumps(value, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
