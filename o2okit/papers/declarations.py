"""What a section declares: ways to come by an agent, tables and figures, amounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from o2okit.errors import UserError
from o2okit.papers import parameters as p


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
        online_hyper: hyper-parameters of the backbone that change when fine-tuning begins.
        method_hyper: hyper-parameters of the method that are not its own.
        pretrained: ``False`` for training from scratch.
        preloaded: from scratch with the dataset in the replay.
        family: the only family of tasks that it is run on; empty for all.
        length: online steps, as a multiple of the profile's.
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


@dataclass(frozen=True)
class Panel:
    """A table or figure: final scores beside the published ones, unless it says otherwise.

    Attributes:
        caption: what it shows.
        entries: its columns or lines.
        curves: learning curves instead.
        tasks: those it is about; empty for all of the study's.
        aggregate: the interquartile mean over all of the panel's tasks instead.
        metric: of curves: the column of the runs' metrics that is drawn, not the score.
        per_seed: of curves: a line per seed, not their mean and range.
        window: of curves: evaluations that a running mean smooths over; the numbers stay as they are.
    """

    caption: str
    entries: tuple[Entry, ...]
    curves: bool = False
    tasks: tuple[str, ...] = ()
    aggregate: bool = False
    metric: str = ""
    per_seed: bool = False
    window: int = 1


@dataclass(frozen=True)
class Amounts:
    """How much a profile runs.

    Attributes:
        tasks: of the study, as far as there are data for them.
        rows: of a kit dataset.
        offline_steps, online_steps: updates, environment steps.
        offline_evaluation: updates between evaluations of the pre-training, episodes of one.
        evaluations: family of tasks -> steps between evaluations online, episodes of one.
        random_steps: before learning from scratch begins.
        seeds: how many.
        method_hyper: method -> hyper-parameters that are scaled with the budget.
        hyper: backbone -> the same, from the pre-training on.
    """

    tasks: tuple[str, ...]
    rows: int
    offline_steps: int
    online_steps: int
    offline_evaluation: tuple[int, int]
    evaluations: Mapping[str, tuple[int, int]]
    random_steps: int
    seeds: int
    method_hyper: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    hyper: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def names(tasks: Sequence[str]) -> p.Parameter:
    """A list of the paper's tasks, or ``None`` for the profile's."""

    def check(name: str, value: Any) -> list[str] | None:
        if value is None:
            return None
        listed = [value] if isinstance(value, str) else value
        if isinstance(listed, list | tuple) and listed and set(listed) <= set(tasks):
            return list(dict.fromkeys(listed))
        raise UserError(
            f"{name} must be None or a list of these: {', '.join(tasks)}; got {value!r}."
        )

    return p.Parameter(None, check, "tasks: a list of the paper's, or None (the profile's)")
