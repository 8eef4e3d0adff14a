"""What minibatches are drawn from: a dataset shared by the cohort and each run's own transitions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from o2okit.data.dataset import Dataset
from o2okit.errors import UserError, unknown

REPLAYS = ("offline", "online", "mixed")


class Batch(NamedTuple):
    """A minibatch per run: ``[R, B]``, observations and actions with their own trailing sizes.

    ``terminated`` is 1.0 where no value follows; a time-out is not a termination.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor


class Replay:
    """Storage of a cohort.

    One tensor per field holds the dataset once, followed by ``capacity`` rows per run, so that one
    index reaches both and a draw from the union is a single gather.

    Args:
        kind: ``offline`` draws from the dataset, ``online`` from the run's own transitions, ``mixed``
            uniformly from both together.
        dataset: may be ``None`` for ``online``.
        runs: ``R``.
        capacity: online transitions per run; the oldest are overwritten.
    """

    def __init__(
        self,
        kind: str,
        dataset: Dataset | None,
        *,
        runs: int,
        capacity: int,
        device: torch.device | str = "cpu",
    ) -> None:
        if kind not in REPLAYS:
            raise unknown("replay", kind, REPLAYS)
        if dataset is None and kind != "online":
            raise UserError(f"replay {kind!r} draws from a dataset, but none was given.")
        self.runs, self.capacity, self.device = runs, capacity, device
        self.offline = 0 if dataset is None or kind == "online" else len(dataset)
        self.online, self._next = 0, 0  # rows filled per run, and the row to be written
        rows = self.offline + runs * capacity
        # Observations and actions are small numbers here: int32 halves the memory traffic.
        dtypes = (torch.int32, torch.int32, torch.float32, torch.int32, torch.float32)
        fields = [torch.zeros(rows, dtype=dtype, device=device) for dtype in dtypes]
        if self.offline:
            columns = (
                dataset.observations,
                dataset.actions,
                dataset.rewards,
                dataset.next_observations,
                dataset.terminals,
            )
            for storage, column in zip(fields, columns, strict=True):
                storage[: self.offline] = torch.as_tensor(column).to(storage.dtype)
        self.fields = Batch(*fields)
        self._base = self.offline + torch.arange(runs, device=device) * capacity

    def __len__(self) -> int:
        """Rows that a run can draw from."""
        return self.offline + self.online

    def add(self, transition: Batch) -> None:
        """Stores one transition per run: fields ``[R]``."""
        rows = self._base + self._next
        for storage, value in zip(self.fields, transition, strict=True):
            storage[rows] = value.to(storage.dtype)
        self._next = (self._next + 1) % self.capacity
        self.online = min(self.online + 1, self.capacity)

    def sample(self, u: Tensor) -> Batch:
        """Rows drawn uniformly by ``u`` ``[R, B]`` in [0, 1)."""
        index = (u * len(self)).long()
        if self.offline:
            shift = (self._base - self.offline)[:, None]
            index = torch.where(index < self.offline, index, index + shift)
        else:
            index = index + self._base[:, None]
        obs, action, reward, next_obs, terminated = (storage[index] for storage in self.fields)
        return Batch(obs.long(), action.long(), reward, next_obs.long(), terminated)

    # --- checkpoints ------------------------------------------------------------------------------
    def state(self) -> dict[str, Tensor]:
        """The online rows ``[R, n]`` of each field and where the next one goes ``[R]``."""
        rows = self._base[:, None] + torch.arange(self.online, device=self.device)
        state = {key: getattr(self.fields, key)[rows] for key in Batch._fields}
        return {**state, "next": torch.full((self.runs,), self._next)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes over what ``state`` returned."""
        self.online, self._next = state["obs"].shape[1], int(state["next"][0])
        rows = self._base[:, None] + torch.arange(self.online, device=self.device)
        for key in Batch._fields:
            getattr(self.fields, key)[rows] = state[key].to(self.device)
