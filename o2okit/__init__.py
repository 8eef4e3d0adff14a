"""o2okit: replications of offline-to-online reinforcement learning papers.

A notebook needs one name: ``o2okit.study("gde/toy_maze", profile="laptop")``. For a comparison of one's own:
``o2okit.pretrain(task, backbone, seeds=...)``, ``o2okit.finetune(task, backbone, method, seeds=...)`` and
``o2okit.scratch(task, backbone, seeds=...)``; ``o2okit.hyperparameters(name)`` says what can be set. For a
method or a backbone of one's own:
``o2okit.register(name, cls)`` and ``o2okit.check(name)``.
"""

from __future__ import annotations

import os
from typing import Any

# A matrix product gives the same bits with one thread and with several (Intel's MKL, "conditional
# numerical reproducibility"); measured at no cost in speed. MKL reads it when it is first used.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

__version__ = "0.1.0"
__all__ = [
    "UserError",
    "__version__",
    "check",
    "default_profile",
    "finetune",
    "hyperparameters",
    "pretrain",
    "register",
    "scratch",
    "study",
]


def __getattr__(name: str) -> Any:
    """Loads on first use: ``o2okit --version`` must not wait for PyTorch."""
    if name == "study":
        from o2okit.papers import study

        return study
    if name in ("finetune", "hyperparameters", "pretrain", "scratch"):
        from o2okit import experiment

        return getattr(experiment, name)
    if name == "register":
        from o2okit.registry import register

        return register
    if name == "check":
        from o2okit.training.checking import check

        return check
    if name == "UserError":
        from o2okit.errors import UserError

        return UserError
    if name == "default_profile":
        from o2okit.profiles import default_profile

        return default_profile
    raise AttributeError(f"module 'o2okit' has no attribute {name!r}")
