"""Which random numbers an environment starts its episodes from."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """The n-th episode of an environment depends on its key and on n, on nothing else."""

    seed: int
    stream: str
