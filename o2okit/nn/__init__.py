"""Networks and optimisers on the run axis."""

from o2okit.nn.stacked import Adam, StackedMLP

__all__ = ["Adam", "StackedMLP"]
