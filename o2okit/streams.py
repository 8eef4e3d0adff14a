"""Random numbers as a function of (seed, stream, step): a run is its seed.

There is no generator state. A number depends on the run's seed, on what it is for (the *stream*) and
on the step, so that a run draws the same numbers alone and beside others, resumed and uninterrupted,
and one use (an evaluation) can't shift another (the minibatches).

The bits come from NumPy's Philox, one block of steps at a time, and go to the device once per block.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Steps drawn at once: large enough to forget the cost, small enough to forget the memory.
BLOCK = 512
NUMBERS = 2**20  # per run and block at most (one step's numbers at least)


def generator(seed: int, stream: str, block: int = 0) -> np.random.Generator:
    """NumPy generator of one run for one use; equal arguments give equal numbers."""
    key = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(stream.encode()), block))
    return np.random.Generator(np.random.Philox(key))


class Streams:
    """The random numbers of a cohort.

    Args:
        seeds: one seed per run.
        phase: prefix of every stream, so that offline and online draws differ.
        device: where the numbers are wanted.
    """

    def __init__(
        self, seeds: Sequence[int], phase: str, device: torch.device | str = "cpu"
    ) -> None:
        self.seeds = tuple(seeds)
        self.phase = phase
        self.device = device
        self._blocks: dict[str, tuple[int, Tensor]] = {}

    def uniform(self, stream: str, step: int, *shape: int) -> Tensor:
        """Numbers in [0, 1), ``[R, *shape]``, float64; ``shape`` must not change for a stream.

        float64, because an index into millions of rows needs more than float32's 24 bits.
        """
        return self._draw(stream, step, shape, lambda rng, size: rng.random(size))

    def normal(self, stream: str, step: int, *shape: int) -> Tensor:
        """Standard normal numbers ``[R, *shape]``, float32; ``shape`` must not change for a stream."""
        return self._draw(
            stream, step, shape, lambda rng, size: rng.standard_normal(size, dtype=np.float32)
        )

    def at(self, step: int) -> Draws:
        """The numbers of one step."""
        return Draws(self, step)

    def _draw(self, stream: str, step: int, shape: tuple[int, ...], draw: Callable) -> Tensor:
        rows = max(1, min(BLOCK, NUMBERS // max(1, math.prod(shape))))
        block, row = divmod(step, rows)
        cached = self._blocks.get(stream)
        if cached is None or cached[0] != block:
            name = f"{self.phase}/{stream}"
            drawn = [draw(generator(seed, name, block), (rows, *shape)) for seed in self.seeds]
            numbers = torch.from_numpy(np.stack(drawn, axis=1)).to(self.device)
            cached = self._blocks[stream] = (block, numbers)
        return cached[1][row]


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step: what an update and an action may draw from."""

    streams: Streams
    step: int

    def uniform(self, stream: str, *shape: int) -> Tensor:
        """As ``Streams.uniform``."""
        return self.streams.uniform(stream, self.step, *shape)

    def normal(self, stream: str, *shape: int) -> Tensor:
        """As ``Streams.normal``."""
        return self.streams.normal(stream, self.step, *shape)
