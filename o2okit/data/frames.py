"""The images of a replay, each stored once: an observation of a game is a stack of the last few.

An observation's number is ``stack · place + age``: the place of its newest image, and how many older
images of the same episode it shows (at most ``stack`` - 1). Where there are fewer, the episode's first image
stands in their place, as the environment has it. Numbers fit where one-hot observations do.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from o2okit.errors import UserError

EXACT = 2**24  # whole numbers that a replay's float32 holds exactly


class Frames:
    """Images of a dataset, then ``room`` for each run, cyclic.

    Args:
        image: images per observation, height, width.
        dataset: images of the dataset ``[N, height, width]``, uint8, or ``None``.
        runs: ``R``.
        capacity: rows of the replay per run. An episode stores one image more than it has rows: there
            is room for twice as many images, so that none is overwritten that a row still shows.
        device: where the images live.

    Raises:
        UserError: there would be more images than a row can number.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        dataset: np.ndarray | None,
        *,
        runs: int,
        capacity: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.stack, self.runs = image[0], runs
        self.offline = 0 if dataset is None else len(dataset)
        self.room = 2 * capacity + self.stack if capacity else 0
        if self.stack * max(self.offline, self.room) >= EXACT:
            raise UserError(
                f"the replay would hold {max(self.offline, self.room):,} images; at most "
                f"{EXACT // self.stack - 1:,} can be numbered. Keep fewer transitions: capacity=..."
            )
        self.images = torch.zeros(
            self.offline + runs * self.room, *image[1:], dtype=torch.uint8, device=device
        )
        if dataset is not None:
            self.images[: self.offline] = torch.from_numpy(dataset).to(device)
        self._base = self.offline + torch.arange(runs, device=device) * self.room
        self._back = torch.arange(self.stack - 1, -1, -1, device=device)
        self.pushed = torch.zeros(runs, dtype=torch.long, device=device)  # images so far
        self.age = torch.full((runs,), -1, device=device)  # of the newest image; -1: none as yet

    def push(self, obs: Tensor, following: Tensor, ended: Tensor) -> tuple[Tensor, Tensor]:
        """Stores what a transition shows for the first time.

        Args:
            obs, following: stacks before and after it, ``[R, stack, height, width]``.
            ended: whether it is its episode's last, ``[R]``: another image comes next.

        Returns:
            The numbers of both, ``[R]``.
        """
        self._store(obs[:, -1], self.age < 0)
        number = self._number()
        self._store(following[:, -1], torch.ones_like(ended))
        after = self._number()
        self.age.masked_fill_(ended, -1)
        return number, after

    def _store(self, images: Tensor, where: Tensor) -> None:
        places = self._base + self.pushed % self.room
        self.images[places[where]] = images[where]
        self.pushed += where
        self.age += where

    def _number(self) -> Tensor:
        newest = (self.pushed - 1) % self.room
        return self.stack * newest + self.age.clamp(max=self.stack - 1)

    def stacks(self, numbers: Tensor, own: Tensor) -> Tensor:
        """Observations ``[R, B, stack, height, width]`` by their numbers ``[R, B]``.

        ``own`` ``[R, B]``: which are the run's, not the dataset's.
        """
        back = torch.minimum(self._back, (numbers % self.stack)[..., None])
        places = (numbers // self.stack)[..., None] - back
        if self.room:
            mine = self._base.view(-1, 1, 1) + places % self.room
            places = torch.where(own[..., None], mine, places)
        return self.images[places]

    # --- checkpoints ------------------------------------------------------------------------------
    def state(self) -> dict[str, Tensor]:
        """The runs' images ``[R, n, height, width]``, how many came so far and the newest's age ``[R]``."""
        held = min(int(self.pushed.max()), self.room)
        return {"images": self._own()[:, :held], "pushed": self.pushed, "age": self.age}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes over what ``state`` returned."""
        self._own()[:, : state["images"].shape[1]] = state["images"].to(self.images)
        self.pushed.copy_(state["pushed"])
        self.age.copy_(state["age"])

    def _own(self) -> Tensor:
        return self.images[self.offline :].view(self.runs, self.room, *self.images.shape[1:])
