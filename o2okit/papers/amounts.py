"""How much a profile runs of a grid study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
        instead: task that is not run or has no data -> the one that panels show in its place.
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
    instead: Mapping[str, str] = field(default_factory=dict)
