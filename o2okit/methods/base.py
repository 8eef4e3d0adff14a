"""Fine-tuning methods: a method changes training at named points and nowhere else.

``Naive`` is plain fine-tuning: every point has its default, which changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from o2okit.data import Batch
from o2okit.hyper import stack
from o2okit.tasks import Task


@dataclass(frozen=True)
class NoHyperparameters:
    """Plain fine-tuning has none."""


class Naive:
    """Plain fine-tuning; the base class of every method.

    Args:
        task: sizes of observations and actions.
        hypers: the method's complete hyper-parameters of each run.
        seeds: one per run.
        device: where the tensors live.
    """

    Hyperparameters: type = NoHyperparameters
    version = 1  # part of a run's id: raise it when a change alters results

    def __init__(
        self,
        task: Task,
        hypers: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> None:
        self.hyper = stack(self.Hyperparameters, hypers, device)
        self.task, self.runs, self.device = task, len(seeds), device
        self.build(seeds)

    def build(self, seeds: Sequence[int]) -> None:
        """Makes the method's own networks and optimisers."""

    def reward(self, batch: Batch) -> Tensor:
        """The reward of the update, ``[R, B]``."""
        return batch.reward

    def extra_updates(self, batch: Batch) -> dict[str, Tensor]:
        """Steps on the method's own networks, after the backbone's; returns metrics ``[R]``."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """Everything of the method that the next update depends on, run by run."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what ``state`` returned."""
