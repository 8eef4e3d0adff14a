"""What a section declares: ways to come by an agent, tables and figures, amounts; what is printed of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from o2okit.papers import values


@dataclass(frozen=True)
class Entry:
    """One way to come by an agent: a column of a table, a line of a figure.

    Attributes:
        label: its name in tables and figures.
        published: its name among the published cells (column ``method``) of the artefact it is shown in;
            ``"artefact:name"`` where another one prints it; empty where none does.
        backbone: the offline algorithm.
        method: the fine-tuning method; ``None`` for the offline agent as it is.
        replay: what fine-tuning draws from, where that is not the method's own.
        online_hyper: hyper-parameters of the backbone that change when fine-tuning begins, or that
            training from scratch has.
        method_hyper: hyper-parameters of the method that are not its own; a function is called with the
            profile's ``Amounts``.
        pretrained: ``False`` for training from scratch.
        preloaded: from scratch with the dataset in the replay.
        family: the only family of tasks that it is run on; empty for all.
        length: online steps, as a multiple of the profile's.
        keep_replay: as ``RunSpec``'s, where a panel looks at the run's own transitions.
        online_backbone: whose losses fine-tune; empty for those of ``backbone``.
    """

    label: str
    published: str = ""
    backbone: str = "iql"
    method: str | None = "naive"
    replay: str | None = None
    online_hyper: Mapping[str, Any] = field(default_factory=dict)
    method_hyper: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = True
    preloaded: bool = False
    family: str = ""
    length: int = 1
    online_backbone: str = ""
    keep_replay: bool = False


@dataclass(frozen=True)
class Panel:
    """A table or figure: final scores beside the published ones, unless it says otherwise.

    Attributes:
        caption: what it shows.
        entries: its columns or lines.
        curves: learning curves instead.
        tasks: those it is about; empty for all of the study's.
        aggregate: one number over all of the panel's tasks instead: ``iqm``, ``median`` or ``mean``.
        hours: what the runs took, per run, not what they score.
        statistic: of the scores, where it is not the study's (``report.curves.CURVES``).
        printed: the artefact whose numbers stand beside ours, where that is not the panel's own name.
        unlike: tasks whose printed numbers are another statistic than ours: never judged.
        metric: of curves: the column of the runs' metrics that is drawn, not the score; or what
            ``histories.DERIVED`` has.
        per_seed: of curves: a line per seed, not their mean and range.
        window: of curves: evaluations that a running mean smooths over; the numbers stay as they are.
        before: of curves: with the pre-training's, at steps below 0.
    """

    caption: str
    entries: tuple[Entry, ...]
    curves: bool = False
    tasks: tuple[str, ...] = ()
    aggregate: str = ""
    hours: bool = False
    statistic: str = ""
    printed: str = ""
    unlike: tuple[str, ...] = ()
    metric: str = ""
    per_seed: bool = False
    window: int = 1
    before: bool = False


@dataclass(frozen=True)
class Amounts:
    """How much a profile runs.

    Attributes:
        tasks: of the study, as far as there are data for them.
        rows: of a kit dataset.
        offline_steps, online_steps: updates, environment steps.
        offline_evaluations: family of tasks -> updates between evaluations, episodes of one.
        evaluations: the same online, in environment steps.
        random_steps: before learning from scratch begins.
        seeds: how many.
        method_hyper: method -> hyper-parameters that are scaled with the budget.
        hyper: backbone -> the same, from the pre-training on.
        longer: task -> how many times as long its fine-tuning is.
    """

    tasks: tuple[str, ...]
    rows: int
    offline_steps: int
    online_steps: int
    offline_evaluations: Mapping[str, tuple[int, int]]
    evaluations: Mapping[str, tuple[int, int]]
    random_steps: int
    seeds: int
    method_hyper: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    hyper: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    longer: Mapping[str, int] = field(default_factory=dict)

    def resolved(self, hyper: Mapping[str, Any]) -> dict[str, Any]:
        """Hyper-parameters, those computed that depend on the amounts."""
        return {name: value(self) if callable(value) else value for name, value in hyper.items()}


def changed(amounts: Mapping[str, Amounts], **changes: Mapping[str, Any]) -> Mapping[str, Amounts]:
    """The amounts of each profile with other fields for some of them."""
    return amounts | {profile: replace(amounts[profile], **own) for profile, own in changes.items()}


def published(
    paper: str, artefact: str, task: str, entry: Entry, *, hours: bool = False
) -> tuple[float, float]:
    """The printed value and spread of an entry in an artefact; NaN where none is printed.

    Papers that leave D4RL's version off mean v2.
    """
    where, _, method = entry.published.rpartition(":")
    cells = values.scores(paper)
    fits = (cells["artefact"] == (where or artefact)) & (cells["method"] == method)
    fits &= cells["task"].isin([task, task.removesuffix("-v2")])
    fits &= (cells["metric"] == "hours") == hours
    if not fits.any():
        return math.nan, math.nan
    cell = cells[fits].iloc[0]
    return float(cell["value"]), float(cell["std"])
