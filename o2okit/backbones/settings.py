"""Hyper-parameters that the authors change per task: one table. What is not named here is the default.

A paper's study may set others on top; this is what a comparison should start from.

Numbered departures from the authors' code:
    1. IQL's rewards on kit data: where the episodes of a kit dataset are more alike than those of D4RL's that
       it stands for, D4RL's published range of returns scales them. Of the kit's halfcheetah-medium no
       episode fails: its rewards would be twelve times as large as those that β, and GDE's ρ, were chosen
       for. ``hyper={"reward_scale": ...}`` takes another factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from o2okit.backbones import kin
from o2okit.data import Dataset
from o2okit.data.returns import episode_returns
from o2okit.data.statistics import published_values
from o2okit.errors import UserError
from o2okit.hyper import given as given_values
from o2okit.tasks import Task


def return_range(dataset: Dataset) -> float:
    """1000 / (best - worst return of the dataset's episodes): specs/gde.md 2.4 (IQL's code), departure 1.

    Raises ``UserError`` where all returns are equal.
    """
    returns = episode_returns(dataset)
    if dataset.source == "kit":
        theirs = published_values(dataset.task)
        least, most = theirs.get("return_min", np.inf), theirs.get("return_max", -np.inf)
        if most - least > returns.max() - returns.min():
            return 1000.0 / (most - least)
    if not returns.max() > returns.min():
        raise UserError(
            f"all episodes of {dataset.name} return {returns.max():g}: there is no range to scale rewards "
            "by. Say the factor: hyper={'reward_scale': 1.0}."
        )
    return 1000.0 / float(returns.max() - returns.min())


# (backbone, family of tasks, what is scored) -> changes; a function is called with the dataset.
ANTMAZE_CQL = {"reward_scale": 10.0, "reward_bias": -5.0, "gap": 0.8}  # specs/qcse.md 3
BINARY_CQL = {  # specs/qcse.md 3: Cal-QL's script
    "reward_scale": 10.0,
    "reward_bias": 5.0,
    "weight": 1.0,
    "hidden": (512, 512),
    "critic_hidden": (512, 512, 512),
}
NATURE = {  # Mnih et al., 2015, for Adam (Dopamine); 2,000 updates are 8,000 steps
    "hidden": (512,),
    "batch_size": 32,
    "lr": 6.25e-5,
    "target_period": 2_000,
    "epsilon": 0.01,
    "epsilon_start": 0.01,
}
TABLE: dict[tuple[str, str, str], dict[str, Any]] = {
    ("iql", "locomotion", "return"): {"reward_scale": return_range},
    ("iql", "antmaze", "return"): {"expectile": 0.9, "beta": 10.0, "reward_bias": -1.0},
    ("iql", "adroit", "return"): {"expectile": 0.8},  # specs/samg.md 2.6, without its dropout
    ("iql", "adroit", "success"): {"expectile": 0.8},
    ("td3+bc", "antmaze", "return"): {"reward_bias": -1.0},  # specs/ocr_cft.md 2.1
    ("awac", "antmaze", "return"): {"temperature": 0.1},  # specs/samg.md 2.6
    ("awac", "adroit", "return"): {"temperature": 0.1},
    ("awac", "adroit", "success"): {"temperature": 0.1},
    ("cql", "antmaze", "return"): ANTMAZE_CQL,
    ("cal-ql", "antmaze", "return"): ANTMAZE_CQL,
    ("cql-ensemble", "antmaze", "return"): ANTMAZE_CQL,
    ("cql", "adroit", "success"): BINARY_CQL,
    ("cal-ql", "adroit", "success"): BINARY_CQL,
    ("cql-ensemble", "adroit", "success"): BINARY_CQL,
    ("dqn", "atari", "return"): NATURE,
    ("cql-discrete", "atari", "return"): NATURE,
}


def authors(backbone: str, task: Task) -> dict[str, Any]:
    """The table's changes for a task; a value may be a function of the dataset."""
    return dict(TABLE.get((kin(backbone), task.family, task.scored), {}))


def settings(
    backbone: str, task: Task, dataset: Dataset | None, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The hyper-parameters of a run that differ from the backbone's defaults.

    Args:
        backbone: its name; one of the user's has the settings of what it derives from.
        task: the task.
        dataset: some settings depend on it; ``None`` leaves those out.
        given: values that take the place of the table's.

    Raises:
        UserError: the dataset does not determine one of them.
    """
    changes = authors(backbone, task) | given_values(given)
    return {
        name: value(dataset) if callable(value) else value
        for name, value in changes.items()
        if dataset is not None or not callable(value)
    }
