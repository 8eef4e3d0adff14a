"""One file per fine-tuning method. ``METHODS`` is the registry."""

from o2okit.methods.base import Naive
from o2okit.methods.rnd import RND

METHODS = {"naive": Naive, "rnd": RND}

__all__ = ["METHODS", "RND", "Naive"]
