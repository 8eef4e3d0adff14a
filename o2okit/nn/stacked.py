"""Networks of a whole cohort, stacked on the run axis.

The parameters of all runs are one flat tensor: one optimiser step and one target update serve any
number of runs, and no run sees another's numbers.

Bit-exact cohorts: on the CPU, PyTorch's fused Adam rounds the last ``numel % 16`` elements of a tensor
differently, and a product with a single row takes another path for one run than for several. The
flat tensor is padded and a single row is doubled, so that a run gets the same bits in every cohort.

Importing this module makes PyTorch flush denormal numbers to zero: Adam's moments of inputs that are
no longer visited decay into them, and a processor is then half as fast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from o2okit.streams import generator

torch.set_flush_denormal(True)

LANES = 16  # float32 values in the widest vector register (AVX-512)


class StackedMLP:
    """``R`` multi-layer perceptrons with ReLU, evaluated by batched products.

    Initial parameters are uniform in ``±1/sqrt(fan_in)`` (PyTorch's default for linear layers).

    Args:
        seeds: the seed of each run; its initial parameters depend on nothing else.
        sizes: input size, hidden sizes, output size.
        one_hot: the input is an index; the first layer then looks its row up.
        name: stream of the initial parameters; networks of one agent need different names.
        trainable: whether a gradient is wanted (not for targets and frozen networks).
    """

    def __init__(
        self,
        seeds: Sequence[int],
        sizes: Sequence[int],
        *,
        one_hot: bool = False,
        name: str,
        device: torch.device | str = "cpu",
        trainable: bool = True,
    ) -> None:
        self.runs, self.sizes, self.one_hot = len(seeds), tuple(sizes), one_hot
        self.shapes: list[tuple[int, int]] = []
        for fan_in, fan_out in zip(self.sizes, self.sizes[1:], strict=False):
            self.shapes += [(fan_in, fan_out), (1, fan_out)]
        self._lengths = [self.runs * rows * columns for rows, columns in self.shapes]
        self._lengths.append(-sum(self._lengths) % LANES)
        rngs = [generator(seed, f"init/{name}") for seed in seeds]
        drawn = []
        for layer, shape in enumerate(self.shapes):
            bound = 1 / math.sqrt(self.sizes[layer // 2])
            drawn.append(np.stack([rng.uniform(-bound, bound, shape) for rng in rngs]).ravel())
        flat = np.concatenate([*drawn, np.zeros(self._lengths[-1])])
        self.flat = torch.tensor(flat, dtype=torch.float32, device=device)
        self.weights = [view.requires_grad_(trainable) for view in self.views(self.flat)]
        self.gradient = torch.zeros_like(self.flat) if trainable else None
        self.gradients = self.views(self.gradient) if trainable else None
        if one_hot:
            self._first_row = torch.arange(self.runs, device=device)[:, None] * self.sizes[0]

    def views(self, flat: Tensor) -> list[Tensor]:
        """``flat`` (parameters, or anything laid out like them) as ``[R, rows, columns]`` each."""
        parts = flat.detach().split(self._lengths)[:-1]
        return [
            part.view(self.runs, *shape) for part, shape in zip(parts, self.shapes, strict=True)
        ]

    def __call__(self, x: Tensor) -> Tensor:
        """``[R, B]`` indices (one-hot) or ``[R, B, in]`` values -> ``[R, B, out]``."""
        single = x.shape[1] == 1
        if single:
            x = x.expand(-1, 2, *x.shape[2:])
        weights = self.weights
        if self.one_hot:
            table = weights[0].view(-1, self.sizes[1])
            h = F.embedding(x + self._first_row, table) + weights[1]
        else:
            h = torch.baddbmm(weights[1], x, weights[0])
        for layer in range(2, len(weights), 2):
            h = torch.baddbmm(weights[layer + 1], h.relu_(), weights[layer])
        return h[:, :1] if single else h

    def copy(self) -> StackedMLP:
        """A frozen network with the same parameters in tensors of its own: a target network."""
        twin = object.__new__(StackedMLP)
        twin.__dict__.update(self.__dict__)
        twin.flat = self.flat.clone()
        twin.weights = twin.views(twin.flat)
        twin.gradient = twin.gradients = None
        return twin

    @torch.no_grad()
    def copy_from(self, other: StackedMLP) -> None:
        """Takes over the parameters of ``other`` (the periodic target update)."""
        self.flat.copy_(other.flat)

    # --- checkpoints: one tensor [R, P] per flat tensor -------------------------------------------
    def pack(self, flat: Tensor) -> Tensor:
        """``flat`` regrouped by run, ``[R, P]``."""
        return torch.cat([view.flatten(1) for view in self.views(flat)], dim=1)

    @torch.no_grad()
    def unpack(self, packed: Tensor, flat: Tensor) -> None:
        """The inverse of ``pack``, written into ``flat``."""
        columns = packed.split([rows * cols for rows, cols in self.shapes], dim=1)
        for view, part in zip(self.views(flat), columns, strict=True):
            view.copy_(part.view_as(view))


class Adam:
    """Adam over the flat parameters of one network; one fused step serves all runs.

    Args:
        network: whose parameters it trains.
        lr: learning rate, the same for all runs of the cohort.
    """

    def __init__(self, network: StackedMLP, lr: float) -> None:
        self.network = network
        network.flat.grad = network.gradient
        self.optimiser = torch.optim.Adam([network.flat], lr=lr, fused=True)

    def step(self, loss: Tensor) -> None:
        """One step on ``loss`` ``[R]``: runs share no parameters, so the sum separates."""
        gradients = torch.autograd.grad(loss.sum(), self.network.weights)
        for ours, theirs in zip(self.network.gradients, gradients, strict=True):
            ours.copy_(theirs)
        self.optimiser.step()

    def state(self) -> dict[str, Tensor]:
        """First and second moment ``[R, P]`` and the number of steps ``[R]``."""
        runs, state = self.network.runs, self.optimiser.state.get(self.network.flat)
        if not state:
            empty = torch.zeros_like(self.network.flat)
            state = {"step": torch.zeros(()), "exp_avg": empty, "exp_avg_sq": empty}
        return {
            "steps": torch.full((runs,), int(state["step"])),
            "first": self.network.pack(state["exp_avg"]),
            "second": self.network.pack(state["exp_avg_sq"]),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes over what ``state`` returned. The runs must have done equally many steps."""
        flat, device = self.network.flat, self.network.flat.device
        moments = {"step": torch.tensor(float(state["steps"][0]), device=device)}
        for ours, theirs in (("first", "exp_avg"), ("second", "exp_avg_sq")):
            moments[theirs] = torch.zeros_like(flat)
            self.network.unpack(state[ours].to(device), moments[theirs])
        self.optimiser.state[flat] = moments
