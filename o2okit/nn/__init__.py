"""Networks, distributions and optimisers on the run axis."""

from o2okit.nn.stacked import Adam, Stacked, StackedMLP

__all__ = ["Adam", "Stacked", "StackedMLP"]
