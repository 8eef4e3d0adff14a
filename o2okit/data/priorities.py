"""Priorities of a replay's rows: draws in proportion to them, at a cost that hardly grows with the rows.

Each run has a priority for every row that it can draw, the dataset's and its own. The rows are summed up
in blocks: a draw finds its block among the cumulative block sums and its row among the cumulative
priorities inside; a change sums its block up again.

Every sum is a cumulative one over a single run's numbers in float64, from left to right: on the CPU its bits
don't depend on the other runs, and block sums made again from restored priorities are the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

BLOCK = (
    128  # measured: 1M rows, minibatches of 256: 64 to 256 are alike, 1,024 take 8 times as long
)


class Priorities:
    """Priorities ``[R, rows]``; rows are named as in ``Replay``, by their place in its storage.

    The dataset's rows start at 1. A row of a run's own gets ``fresh`` when it is stored, in place of
    what the row that it overwrites had; rows not yet stored have 0.

    Attributes:
        fresh: priority of new rows ``[R]``, at first 1.

    Args:
        runs: ``R``.
        offline: rows of the dataset, which the runs share.
        capacity: rows of each run's own.
        device: where the tensors live.
    """

    def __init__(
        self, runs: int, offline: int, capacity: int, device: torch.device | str = "cpu"
    ) -> None:
        blocks = -(-(offline + capacity) // BLOCK)
        self.offline = offline
        self.fresh = torch.ones(runs, device=device)
        self.values = torch.zeros(runs, blocks * BLOCK, device=device)
        self.values[:, :offline] = 1
        self._shift = torch.arange(runs, device=device)[:, None] * capacity
        self._first = torch.arange(runs, device=device)[:, None] * blocks
        self._sum_up()

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Rows in proportion to their priorities, with replacement.

        The minibatch's k-th row comes from the k-th of ``B`` equal parts of the sum (Schaul et al., 2016,
        B.2.1): the expected number of draws of a row is as in independent draws, its variance smaller.

        Args:
            u: ``[R, B]`` in [0, 1), float64. Some row of each run must have a priority above 0.

        Returns:
            The rows ``[R, B]`` and their priorities divided by the sum ``[R, B]``, float64.
        """
        upto = self.sums.cumsum(1)
        total = upto[:, -1:]
        part = torch.arange(u.shape[1], device=u.device)
        mass = _below((part + u) / u.shape[1] * total, total)
        block = torch.searchsorted(upto, mass, right=True)
        before = upto.gather(1, block) - self.sums.gather(1, block)
        inside = self._inside(block)
        rest = _below((mass - before).clamp(min=0), inside[..., -1])
        row = torch.searchsorted(inside, rest[..., None], right=True)[..., 0] + block * BLOCK
        places = torch.where(row < self.offline, row, row + self._shift)
        return places, self.values.gather(1, row) / total

    def set(self, places: Tensor, priorities: Tensor) -> None:
        """Changes the ``priorities`` ``[R, B]``, at least 0, of the rows ``places`` ``[R, B]``.

        A row that occurs more than once gets its largest one. What is not finite changes nothing: a
        diverged run goes on drawing.
        """
        row = torch.where(places < self.offline, places, places - self._shift)
        priorities = priorities.to(self.values.dtype)
        priorities = torch.where(priorities.isfinite(), priorities, self.values.gather(1, row))
        # The largest, because the last would depend on the order in which a device writes.
        self.values.scatter_reduce_(1, row, priorities, "amax", include_self=False)
        block = row // BLOCK
        self.sums.scatter_(1, block, self._inside(block)[..., -1])

    def add(self, places: Tensor) -> None:
        """A new row per run is stored at ``places`` ``[R]``."""
        self.set(places[:, None], self.fresh[:, None])

    def online_share(self, places: Tensor) -> Tensor:
        """Share ``[R]`` of the runs' own rows among ``places`` ``[R, B]``."""
        return (places >= self.offline).sum(1) / places.shape[1]

    def _inside(self, block: Tensor) -> Tensor:
        """Cumulative priorities ``[R, B, BLOCK]`` inside the blocks ``[R, B]``."""
        rows = self.values.view(-1, BLOCK).index_select(0, (block + self._first).flatten())
        return rows.view(*block.shape, BLOCK).cumsum(-1, dtype=torch.float64)

    def _sum_up(self) -> None:
        """The block sums ``[R, blocks]``."""
        blocks = self.values.view(len(self.values), -1, BLOCK)
        self.sums = blocks.cumsum(-1, dtype=torch.float64)[..., -1].contiguous()

    # --- checkpoints ------------------------------------------------------------------------------
    def state(self, rows: int) -> dict[str, Tensor]:
        """The priorities of the first ``rows`` rows, which are those that are stored, and of new ones."""
        return {"values": self.values[:, :rows], "fresh": self.fresh}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what ``state`` returned."""
        self.values[:, : state["values"].shape[1]] = state["values"].to(self.values.device)
        self.fresh.copy_(state["fresh"])
        self._sum_up()


def _below(mass: Tensor, limit: Tensor) -> Tensor:
    """``mass``, or the largest number below ``limit`` where rounding has carried it that far."""
    return torch.minimum(mass, torch.nextafter(limit, torch.zeros_like(limit)))
