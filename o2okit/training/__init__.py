"""Runs, cohorts, the run store."""

from o2okit.training.run import Run
from o2okit.training.spec import RunSpec
from o2okit.training.store import MissingAgentError, RunStore, StoreError
from o2okit.training.train import train

__all__ = ["MissingAgentError", "Run", "RunSpec", "RunStore", "StoreError", "train"]
