"""Convolutional networks of a whole cohort, and which network reads which kind of observation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from o2okit.nn.stacked import INITIALISERS, Stacked, StackedMLP
from o2okit.streams import generator

NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # filters, size, stride (Mnih et al., 2015)


class Patches(torch.autograd.Function):
    """The squares that a convolution looks at, one per row; images hold their channels last."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, size: int, stride: int) -> Tensor:
        """``[N, height, width, C]`` -> ``[N, rows, columns, size, size, C]``, copied."""
        ctx.shape, ctx.stride = images.shape, stride
        return (
            images.unfold(1, size, stride)
            .unfold(2, size, stride)
            .permute(0, 1, 2, 4, 5, 3)
            .contiguous()
        )

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Adds up what overlaps."""
        stride, total = ctx.stride, grad.new_zeros(ctx.shape)
        _, rows, columns, size, _, _ = grad.shape
        for i, j in itertools.product(range(size), repeat=2):
            place = total[:, i : i + stride * rows : stride, j : j + stride * columns : stride]
            place += grad[:, :, :, i, j]
        return total, None, None


class StackedConvNet(Stacked):
    """``R`` convolutional networks with ReLU, as products of patches: bit-exact cohorts, as ``StackedMLP``.

    Of a patch the channels come last: weights ``[R, size · size · C, filters]``.

    Args:
        seeds: the seed of each run; its initial parameters depend on nothing else.
        image: channels, height and width.
        sizes: hidden sizes after the convolutions, output size.
        name: stream of the initial parameters; networks of one agent need different names.
        convolutions: filters, size and stride of each.
        trainable: whether a gradient is wanted.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        image: tuple[int, int, int],
        sizes: Sequence[int],
        *,
        name: str,
        convolutions: Sequence[tuple[int, int, int]] = NATURE,
        device: torch.device | str = "cpu",
        trainable: bool = True,
    ) -> None:
        self.convolutions = tuple(convolutions)
        channels, *sides = image
        fans = []
        for filters, size, stride in self.convolutions:
            fans.append((channels * size * size, filters))
            channels, sides = filters, [(side - size) // stride + 1 for side in sides]
        dense = [channels * math.prod(sides), *sizes]
        fans += itertools.pairwise(dense)
        rngs = [generator(seed, f"init/{name}") for seed in seeds]
        values = []
        for fan_in, fan_out in fans:
            drawn = [INITIALISERS["uniform"](rng, 1, fan_in, fan_out, 1.0) for rng in rngs]
            values += [np.stack([part[0] for part in parts]) for parts in zip(*drawn, strict=True)]
        super().__init__(values, device=device, trainable=trainable)

    def __call__(self, images: Tensor) -> Tensor:
        """``[R, B, channels, height, width]`` of 0 to 255 -> ``[R, B, out]``."""
        runs, batch = images.shape[:2]
        parts = self.flat.split_with_sizes(self._lengths)[:-1]
        shaped = [p.view(self.runs, *s) for p, s in zip(parts, self.shapes, strict=True)]
        layers = list(zip(shaped[::2], shaped[1::2], strict=True))
        h = images.flatten(0, 1).permute(0, 2, 3, 1).float() / 255
        for (weight, bias), (filters, size, stride) in zip(layers, self.convolutions, strict=False):
            patches = Patches.apply(h, size, stride)
            out = torch.baddbmm(bias, patches.view(runs, -1, weight.shape[1]), weight).relu()
            h = out.view(*patches.shape[:3], filters)
        h = h.reshape(runs, batch, -1)
        if (
            batch == 1
        ):  # a product with a single row takes another path for one run than for several
            h = h.expand(-1, 2, -1)
        *hidden, (weight, bias) = layers[len(self.convolutions) :]
        for inner_weight, inner_bias in hidden:
            h = torch.baddbmm(inner_bias, h, inner_weight).relu()
        return torch.baddbmm(bias, h, weight)[:, :batch]


def discrete_network(
    seeds: Sequence[int],
    observations: int,
    image: tuple[int, int, int] | tuple[()],
    sizes: Sequence[int],
    **options: object,
) -> StackedMLP | StackedConvNet:
    """The network for a task with discrete actions: convolutions for images, else one-hot inputs.

    Args:
        seeds: as for either.
        observations: how many there are, where they are no images.
        image: channels, height and width; empty where observations are numbers.
        sizes: hidden sizes and output size.
        options: further arguments of either: ``name``, ``device``, ``trainable``.
    """
    if image:
        return StackedConvNet(seeds, image, sizes, **options)
    return StackedMLP(seeds, (observations, *sizes), one_hot=True, **options)
