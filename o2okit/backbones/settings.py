"""Hyper-parameters that the authors change per task: one table. What is not named here is the default.

A paper's study may set others on top; this is what a comparison should start from.
"""

from __future__ import annotations

from typing import Any

from o2okit.tasks import Task

# (backbone, family of tasks, scored by success) -> changes.
ANTMAZE_CQL = {"reward_scale": 10.0, "reward_bias": -5.0, "gap": 0.8}  # specs/qcse.md 3
BINARY_CQL = {  # specs/qcse.md 3: Cal-QL's script
    "reward_scale": 10.0,
    "reward_bias": 5.0,
    "weight": 1.0,
    "hidden": (512, 512),
    "critic_hidden": (512, 512, 512),
}
TABLE: dict[tuple[str, str, str], dict[str, Any]] = {
    ("iql", "antmaze", "return"): {"expectile": 0.9, "beta": 10.0, "reward_bias": -1.0},
    ("td3+bc", "antmaze", "return"): {"reward_bias": -1.0},  # specs/ocr_cft.md 2.1
    ("awac", "antmaze", "return"): {"temperature": 0.1},  # specs/samg.md 2.6
    ("awac", "adroit", "return"): {"temperature": 0.1},
    ("cql", "antmaze", "return"): ANTMAZE_CQL,
    ("cal-ql", "antmaze", "return"): ANTMAZE_CQL,
    ("cql", "adroit", "success"): BINARY_CQL,
    ("cal-ql", "adroit", "success"): BINARY_CQL,
}


def settings(backbone: str, task: Task) -> dict[str, Any]:
    """The changes for a backbone on a task, to be passed as a run's hyper-parameters."""
    return dict(TABLE.get((backbone, task.family, task.scored), {}))
