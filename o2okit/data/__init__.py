"""Datasets and replay."""

from o2okit.data.dataset import Dataset
from o2okit.data.replay import REPLAYS, Batch, Replay

__all__ = ["REPLAYS", "Batch", "Dataset", "Replay"]
