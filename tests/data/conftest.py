"""Small files in D4RL's format."""

import dataclasses

import h5py
import numpy as np
import pytest

from o2okit.tasks import task

TINY = dataclasses.replace(task("hopper-medium-v2"), name="tiny", obs_size=2, act_size=1)


def make_fields(n=40, obs=11, act=3, horizon=10, seed=0):
    draw = np.random.default_rng(seed)
    return {
        "observations": draw.normal(size=(n, obs)).astype(np.float32),
        "actions": draw.uniform(-1, 1, size=(n, act)).astype(np.float32),
        "rewards": draw.normal(size=n).astype(np.float32),
        "terminals": np.zeros(n, dtype=bool),
        "timeouts": np.arange(1, n + 1) % horizon == 0,
    }


@pytest.fixture
def fields():
    """Makes rows of the size that hopper has; a time-out every ``horizon`` rows."""
    return make_fields


@pytest.fixture
def write():
    """Writes arrays as they are, well-formed or not."""

    def put(path, arrays, **options):
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file.create_dataset(name, data=values, **options)
        return path

    return put


@pytest.fixture
def example():
    """The hand-made file of specs/tasks.md 8: o_i = [i, i], r_i = i."""
    rows = np.arange(12)
    return {
        "observations": np.repeat(rows[:, None], 2, axis=1).astype(np.float32),
        "actions": np.zeros((12, 1), dtype=np.float32),
        "rewards": rows.astype(np.float32),
        "terminals": np.isin(rows, [3, 8]),
        "timeouts": np.isin(rows, [6, 8, 11]),
    }


@pytest.fixture
def tiny():
    """A task of the example's sizes, with horizon 3."""
    return dataclasses.replace(TINY, horizon=3)
