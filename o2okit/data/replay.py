"""What minibatches are drawn from: a dataset shared by the cohort and each run's own transitions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from o2okit.data.dataset import Dataset
from o2okit.errors import UserError, unknown
from o2okit.tasks import Task

REPLAYS = ("offline", "online", "mixed", "half")


class Batch(NamedTuple):
    """A minibatch per run: ``[R, B]``, observations and actions with their own trailing sizes.

    ``terminated`` is 1.0 where no value follows; a time-out is not a termination. ``mc_return`` is the
    discounted return to go of the transition's episode, -inf where it is not known.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor
    mc_return: Tensor | None = None  # where the replay holds it


def _sizes(task: Task, with_returns: bool) -> tuple[int, ...]:
    """Columns of a row: obs, action, reward, next_obs, terminated, maybe the return."""
    obs, action = (1, 1) if task.discrete else (task.obs_size, task.act_size)
    return (obs, action, 1, obs, 1) + ((1,) if with_returns else ())


def split_rows(rows: Tensor, task: Task) -> Batch:
    """The fields of stored rows ``[..., width]``; indices come back as integers."""
    with_returns = rows.shape[-1] > sum(_sizes(task, False))
    obs, action, reward, next_obs, terminated, *rest = rows.split(
        _sizes(task, with_returns), dim=-1
    )
    if task.discrete:
        obs, action, next_obs = (x[..., 0].long() for x in (obs, action, next_obs))
    mc_return = rest[0][..., 0] if rest else None
    return Batch(obs, action, reward[..., 0], next_obs, terminated[..., 0], mc_return)


class Replay:
    """Storage of a cohort.

    One row holds a transition, one tensor all rows: the dataset once, followed by ``capacity`` rows per
    run. A draw from the union is a single gather.

    Args:
        kind: ``offline`` draws from the dataset, ``online`` from the run's own transitions, ``mixed``
            uniformly from both together, ``half`` one half of the batch from each.
        task: sizes of observations and actions.
        dataset: may be ``None`` for ``online``.
        runs: ``R``.
        capacity: online transitions per run; the oldest are overwritten.
        returns: Monte-Carlo returns ``[N]`` of the dataset's rows; minibatches have them then.
    """

    def __init__(
        self,
        kind: str,
        task: Task,
        dataset: Dataset | None,
        *,
        runs: int,
        capacity: int,
        returns: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if kind not in REPLAYS:
            raise unknown("replay", kind, REPLAYS)
        if dataset is None and kind != "online":
            raise UserError(f"replay {kind!r} draws from a dataset, but none was given.")
        self.kind = kind
        self.runs, self.capacity, self.device = runs, capacity, device
        self.offline = 0 if dataset is None or kind == "online" else len(dataset)
        self.online, self._next = 0, 0  # rows filled per run, and the row to be written
        self.task, self._sizes = task, _sizes(task, returns is not None)
        # float32 holds the numbers of the toy maze's cells exactly, too.
        self.rows = torch.zeros(self.offline + runs * capacity, sum(self._sizes), device=device)
        if self.offline:
            columns = (
                dataset.observations,
                dataset.actions,
                dataset.rewards,
                dataset.next_observations,
                dataset.terminals,
                returns,
            )
            parts = self.rows[: self.offline].split(self._sizes, dim=1)
            for storage, column in zip(parts, columns, strict=False):
                storage.copy_(torch.as_tensor(column).view(storage.shape))
        self._base = self.offline + torch.arange(runs, device=device) * capacity

    def __len__(self) -> int:
        """Rows that a run can draw from."""
        return self.offline + self.online

    def add(self, transition: Batch) -> None:
        """Stores one transition per run: fields ``[R]`` or ``[R, size]``."""
        fields = [value.to(torch.float32).view(self.runs, -1) for value in transition[:5]]
        if len(self._sizes) > 5:  # unknown until the episode ends
            fields.append(fields[0].new_full((self.runs, 1), -torch.inf))
        self.rows[self._base + self._next] = torch.cat(fields, dim=1)
        self._next = (self._next + 1) % self.capacity
        self.online = min(self.online + 1, self.capacity)

    def episode_rows(self, run: int, length: int) -> Tensor:
        """The rows of the last ``length`` transitions of a run, oldest first, as far as they are held."""
        places = torch.arange(self._next - min(length, self.online), self._next, device=self.device)
        return self._base[run] + places % self.capacity

    def rewards(self, rows: Tensor) -> Tensor:
        """Rewards ``[n]`` of given rows."""
        return self.rows[rows, sum(self._sizes[:2])]

    def set_returns(self, rows: Tensor, returns: Tensor) -> None:
        """Writes the Monte-Carlo returns ``[n]`` of given rows, once they are known."""
        self.rows[rows, -1] = returns.to(self.rows)

    def sample(self, u: Tensor) -> Batch:
        """Rows drawn uniformly by ``u`` ``[R, B]`` in [0, 1)."""
        shift = (self._base - self.offline)[:, None]
        if self.kind == "half":
            offline, online = u.tensor_split(2, dim=1)
            online = (online * self.online).long() + self._base[:, None]
            index = torch.cat([(offline * self.offline).long(), online], dim=1)
        elif self.offline:
            index = (u * (self.offline if self.kind == "offline" else len(self))).long()
            index = torch.where(index < self.offline, index, index + shift)
        else:
            index = (u * len(self)).long() + shift
        rows = self.rows.index_select(0, index.flatten()).view(*index.shape, -1)
        return split_rows(rows, self.task)

    # --- checkpoints ------------------------------------------------------------------------------
    def state(self) -> dict[str, Tensor]:
        """The online rows ``[R, n, width]`` and where the next one goes ``[R]``."""
        online = self.rows[self.offline :].view(self.runs, self.capacity, -1)
        return {
            "rows": online[:, : self.online],
            "next": torch.full((self.runs,), self._next),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes over what ``state`` returned."""
        self.online, self._next = state["rows"].shape[1], int(state["next"][0])
        online = self.rows[self.offline :].view(self.runs, self.capacity, -1)
        online[:, : self.online] = state["rows"].to(self.device)
