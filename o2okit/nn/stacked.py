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
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from o2okit.errors import unknown
from o2okit.nn.distributions import LANES
from o2okit.nn.precision import bfloat16
from o2okit.nn.products import Products
from o2okit.streams import generator

torch.set_flush_denormal(True)


class Stacked:
    """Parameters of ``R`` runs: tensors ``[R, ...]`` that are views of one flat tensor.

    Args:
        values: initial values, ``[R, ...]`` each.
        trainable: whether a gradient is wanted (not for targets and frozen networks).
    """

    def __init__(
        self,
        values: Sequence[np.ndarray],
        *,
        device: torch.device | str = "cpu",
        trainable: bool = True,
    ) -> None:
        self.runs = len(values[0])
        self.shapes = [value.shape[1:] for value in values]
        self._lengths = [value.size for value in values]
        self.padding = -sum(self._lengths) % LANES
        self._lengths.append(self.padding)
        flat = np.concatenate([*(value.ravel() for value in values), np.zeros(self.padding)])
        self.flat = torch.tensor(flat, dtype=torch.float32, device=device)
        self.flat.requires_grad_(trainable)
        self.weights = self.views(self.flat)

    def views(self, flat: Tensor) -> list[Tensor]:
        """``flat`` (parameters, or anything laid out like them) as ``[R, ...]`` each, without gradient."""
        parts = flat.detach().split_with_sizes(self._lengths)[:-1]
        return [
            part.view(self.runs, *shape) for part, shape in zip(parts, self.shapes, strict=True)
        ]

    def values(self) -> Tensor:
        """The first parameter ``[R, ...]`` with its gradient; for parameters that are no network."""
        return self.flat[: self._lengths[0]].view(self.runs, *self.shapes[0])

    def copy(self, *, trainable: bool = False) -> Self:
        """The same in tensors of its own, frozen (a target network) unless ``trainable``."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.flat = self.flat.detach().clone().requires_grad_(trainable)
        twin.weights = twin.views(twin.flat)
        return twin

    @torch.no_grad()
    def copy_from(self, other: Self, where: Tensor | None = None) -> None:
        """Takes over the parameters of ``other``, of the runs ``where`` ``[R]`` if it is given."""
        if where is None:
            self.flat.copy_(other.flat)
            return
        for mine, theirs in zip(self.weights, other.weights, strict=True):
            mine.copy_(torch.where(where.view(-1, *[1] * (mine.dim() - 1)), theirs, mine))

    @torch.no_grad()
    def follow(self, other: Self, rate: float) -> None:
        """Moves by ``rate`` towards the parameters of ``other`` (the Polyak target update)."""
        self.flat.lerp_(other.flat, rate)

    # --- checkpoints: one tensor [R, P] per flat tensor -------------------------------------------
    def pack(self, flat: Tensor) -> Tensor:
        """``flat`` regrouped by run, ``[R, P]``."""
        return torch.cat([view.flatten(1) for view in self.views(flat)], dim=1)

    @torch.no_grad()
    def unpack(self, packed: Tensor, flat: Tensor) -> None:
        """The inverse of ``pack``, written into ``flat``."""
        columns = packed.to(flat.device).split([math.prod(shape) for shape in self.shapes], dim=1)
        for view, part in zip(self.views(flat), columns, strict=True):
            view.copy_(part.view_as(view))

    def state(self) -> dict[str, Tensor]:
        """The parameters, run by run."""
        return {"parameters": self.pack(self.flat)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what ``state`` returned."""
        self.unpack(state["parameters"], self.flat)


def _uniform(rng: np.random.Generator, members: int, fan_in: int, fan_out: int, gain: float):
    """PyTorch's default for linear layers: weights and biases in ±1/sqrt(fan_in)."""
    bound = gain / math.sqrt(fan_in)
    weight = rng.uniform(-bound, bound, (members, fan_in, fan_out))
    return weight, rng.uniform(-bound, bound, (members, 1, fan_out))


def _orthogonal(rng: np.random.Generator, members: int, fan_in: int, fan_out: int, gain: float):
    """Orthogonal weights (Saxe et al., 2014), zero biases."""
    size = max(fan_in, fan_out)
    q, r = np.linalg.qr(rng.standard_normal((members, size, size)))
    q *= np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
    return gain * q[:, :fan_in, :fan_out], np.zeros((members, 1, fan_out))


def _xavier(rng: np.random.Generator, members: int, fan_in: int, fan_out: int, gain: float):
    """Glorot's uniform weights, zero biases."""
    bound = gain * math.sqrt(6 / (fan_in + fan_out))
    weight = rng.uniform(-bound, bound, (members, fan_in, fan_out))
    return weight, np.zeros((members, 1, fan_out))


INITIALISERS = {"uniform": _uniform, "orthogonal": _orthogonal, "xavier": _xavier}


class StackedMLP(Stacked):
    """``R`` multi-layer perceptrons with ReLU, evaluated by batched products.

    Args:
        seeds: the seed of each run; its initial parameters depend on nothing else.
        sizes: input size, hidden sizes, output size.
        name: stream of the initial parameters; networks of one agent need different names.
        members: networks per run; the output then has an axis for them, ``[R, E, B, out]``.
        one_hot: the input is an index; the first layer then looks its row up.
        initialiser: name in ``INITIALISERS``, for the hidden layers and the output alike.
        gains: factor on the initial weights of the hidden layers and of the output layer.
        layer_norm: whether hidden layers have a LayerNorm before the ReLU; their products are float32.
        trainable: whether a gradient is wanted (not for targets and frozen networks).
    """

    def __init__(
        self,
        seeds: Sequence[int],
        sizes: Sequence[int],
        *,
        name: str,
        members: int | None = None,
        one_hot: bool = False,
        initialiser: str = "uniform",
        gains: tuple[float, float] = (1.0, 1.0),
        layer_norm: bool = False,
        device: torch.device | str = "cpu",
        trainable: bool = True,
    ) -> None:
        if initialiser not in INITIALISERS:
            raise unknown("initialiser", initialiser, INITIALISERS)
        self.sizes, self.members, self.one_hot = tuple(sizes), members, one_hot
        self.layer_norm = layer_norm
        rngs = [generator(seed, f"init/{name}") for seed in seeds]
        values: list[np.ndarray] = []
        for layer, (fan_in, fan_out) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            gain = gains[layer == len(self.sizes) - 2]
            draw = INITIALISERS[initialiser]
            drawn = [draw(rng, members or 1, fan_in, fan_out, gain) for rng in rngs]
            stacked = [np.stack(part) for part in zip(*drawn, strict=True)]
            if layer_norm and layer < len(self.sizes) - 2:
                stacked += [np.ones_like(stacked[1]), np.zeros_like(stacked[1])]  # gain, shift
            values += stacked if members else [part[:, 0] for part in stacked]
        super().__init__(values, device=device, trainable=trainable)
        self.layer_weights = self.layer_views(self.flat)
        self.half, self.half_if_many = (
            not layer_norm and bfloat16(device) in kinds for kinds in (("all",), ("all", "many"))
        )
        if one_hot:
            self.first_row = torch.arange(self.runs, device=device)[:, None] * self.sizes[0]

    def __call__(
        self, x: Tensor, *, frozen: bool = False, only: int | None = None, many: bool = False
    ) -> Tensor:
        """``[R, B]`` indices (one-hot) or ``[R, B, in]`` values -> ``[R, B, out]`` (or ``[R, E, B, out]``).

        With members, ``x`` may also be ``[R, E, B, in]``: inputs of their own for each.

        Args:
            x: the input.
            frozen: the gradient goes to ``x`` alone, as an actor's loss needs it of a critic.
            only: the one member that is evaluated (frozen); the output has no axis for members then.
            many: there are many rows per transition: products between hidden layers may run in bfloat16
                (``o2okit.nn.precision``). Parameters, their gradient and the output stay float32.
        """
        members, runs = self.members, self.runs
        if only is not None:
            frozen, members = True, None
        if members and x.dim() == 3:
            x = x[:, None].expand(-1, members, -1, -1)
        if members:
            x = x.reshape(runs * members, *x.shape[2:])
        single = x.shape[1] == 1
        if single:
            x = x.expand(-1, 2, *x.shape[2:])
        frozen = frozen or not torch.is_grad_enabled()
        half = self.half_if_many if many else self.half
        h = Products.apply(x, self.flat.detach() if frozen else self.flat, self, only, half)
        if single:
            h = h[:, :1]
        return h.view(runs, members, *h.shape[1:]) if members else h

    def layer_views(self, flat: Tensor) -> list[tuple[Tensor, ...]]:
        """Weight ``[R·E, in, out]`` and bias of each layer; gain and shift if it is normalised.

        All but the weights are ``[R·E, 1, out]``.
        """
        return self._by_layer([part.view(-1, *part.shape[-2:]) for part in self.views(flat)])

    def layers(self, only: int | None) -> list[tuple[Tensor, ...]]:
        """As ``layer_views`` of the parameters; of one member ``[R, in, out]``."""
        if only is None:
            return self.layer_weights
        return self._by_layer([part[:, only] for part in self.weights])

    def _by_layer(self, parts: list[Tensor]) -> list[tuple[Tensor, ...]]:
        each = 4 if self.layer_norm else 2  # the last layer, which has no norm, comes out shorter
        return [tuple(parts[first : first + each]) for first in range(0, len(parts), each)]

    def copy(self, *, trainable: bool = False) -> Self:
        """As ``Stacked.copy``."""
        twin = super().copy(trainable=trainable)
        twin.layer_weights = twin.layer_views(twin.flat)
        return twin
