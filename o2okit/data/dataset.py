"""A fixed set of transitions with the record of where it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from o2okit.errors import UserError

FIELDS = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """``N`` transitions in the order in which they were collected.

    Attributes:
        task: name of the task.
        name: name of the dataset; never D4RL's name for data that is not D4RL's.
        source: ``d4rl``, ``minari``, ``kit``, or ``file`` for one that is none of these.
        observations, actions, rewards, next_observations: ``[N, ...]``.
        terminals: ``[N]`` bool, the episode ended for good: no bootstrap.
        timeouts: ``[N]`` bool, the episode was cut off: bootstrap from ``next_observations``.
        provenance: how it was made; goes into every artefact.
        frames: of games: the images ``[F, height, width]`` that observations number
            (``o2okit.data.frames``).
    """

    task: str
    name: str
    source: str
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_observations: np.ndarray
    terminals: np.ndarray
    timeouts: np.ndarray
    provenance: Mapping[str, Any] = field(default_factory=dict)
    frames: np.ndarray | None = None

    def __post_init__(self) -> None:
        lengths = {key: len(getattr(self, key)) for key in FIELDS}
        if len(set(lengths.values())) != 1 or not len(self):
            raise UserError(
                f"dataset {self.name!r}: all fields need the same length, at least 1; got {lengths}"
            )

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name}, source {self.source}: {len(self):,} transitions of {self.task})"
        )

    def __len__(self) -> int:
        return len(self.rewards)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the transitions: equal data, equal hash, whatever made them."""
        digest = hashlib.sha256()
        for key in FIELDS if self.frames is None else (*FIELDS, "frames"):
            array = np.ascontiguousarray(getattr(self, key))
            digest.update(json.dumps([key, str(array.dtype), array.shape]).encode())
            digest.update(array.data)
        return digest.hexdigest()

    def episodes(self) -> list[slice]:
        """The episodes as slices; a last one without an end mark counts too."""
        return episode_slices(self.terminals | self.timeouts)

    def without_padding(self, padding: int) -> Dataset:
        """The dataset without its last ``padding`` observations, which must all be 0.

        Raises ``UserError`` where one is not: leaving it out would lose information.
        """
        kept = self.observations.shape[1] - padding
        pair = {key: getattr(self, key) for key in ("observations", "next_observations")}
        if any(values[:, kept:].any() for values in pair.values()):
            raise UserError(
                f"dataset {self.name!r}: its last {padding} observations are not all 0, so that they can't "
                f"be left out. Train with all {kept + padding} of them."
            )
        provenance = {**self.provenance, "without_padding": padding, "padded": self.hash}
        narrow = {key: np.ascontiguousarray(values[:, :kept]) for key, values in pair.items()}
        return replace(self, name=f"{self.name}/{kept}", provenance=provenance, **narrow)

    def select(self, rows: np.ndarray, label: str) -> Dataset:
        """The dataset of these ``rows`` (numbers); ``label`` goes into its name and provenance."""
        fields = {key: getattr(self, key)[rows] for key in FIELDS}
        provenance = {**self.provenance, "selected": label, "selected_from": self.hash}
        return replace(self, name=f"{self.name}/{label}", provenance=provenance, **fields)


def episode_slices(ends: np.ndarray) -> list[slice]:
    """The episodes of rows whose last ones are marked ``[N]``; an unmarked rest is one, too."""
    stops = np.flatnonzero(ends) + 1
    if not stops.size or stops[-1] != len(ends):
        stops = np.append(stops, len(ends))
    return [slice(int(a), int(b)) for a, b in zip(np.append(0, stops), stops, strict=False)]
