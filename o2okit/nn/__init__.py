"""Networks, distributions and optimisers on the run axis."""

from o2okit.nn.adam import Adam
from o2okit.nn.products import mean_per_run
from o2okit.nn.stacked import Stacked, StackedMLP

__all__ = ["Adam", "Stacked", "StackedMLP", "mean_per_run"]
