"""Mean and spread of what has been seen so far, run by run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from o2okit.nn.products import mean_per_run


class RunningMoments:
    """Count, mean and sum of squared deviations, merged batch by batch (Chan et al., 1979), in float64.

    Args:
        runs: length of the run axis, R.
        shape: of one value; ``()`` for scalars.
        device: where they are kept.
    """

    def __init__(
        self, runs: int, shape: Sequence[int] = (), device: torch.device | str = "cpu"
    ) -> None:
        self.moments = torch.zeros(3, runs, *shape, dtype=torch.float64, device=device)

    def add(self, values: Tensor, counts: Tensor | None = None) -> None:
        """Takes in a batch ``[R, B, *shape]``, or those of its values that count ``[R, B]``."""
        count, mean, squares = self.moments
        size = values.shape[1]
        rows = values.double().movedim(1, -1).reshape(-1, size)  # each sum in a row of its own
        mask = torch.ones_like(rows)
        if counts is not None:
            mask = counts.view(len(counts), *[1] * (values.dim() - 2), size).to(rows)
            mask = mask.expand(*mean.shape, size).reshape(-1, size)
        n = (mean_per_run(mask) * size).round()
        own = mean_per_run(rows * mask) * size / n.clamp(min=1)
        spread = mean_per_run((rows - own[:, None]).square() * mask) * size
        n = n.view_as(mean)
        total = (count + n).clamp(min=1)
        delta = own.view_as(mean) - mean
        squares += spread.view_as(mean) + delta.square() * count * n / total
        mean += delta * n / total
        count += n

    @property
    def mean(self) -> Tensor:
        """``[R, *shape]``; 0 before anything was seen."""
        return self.moments[1].float()

    @property
    def std(self) -> Tensor:
        """``[R, *shape]``; 0 before anything was seen."""
        return (self.moments[2] / self.moments[0].clamp(min=1)).sqrt().float()

    def state(self) -> dict[str, Tensor]:
        """The three, ``[R, 3, *shape]``."""
        return {"moments": self.moments.transpose(0, 1).clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what ``state`` returned."""
        self.moments.copy_(state["moments"].transpose(0, 1))
