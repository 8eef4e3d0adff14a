"""One file per fine-tuning method. ``METHODS`` is the registry."""

from o2okit.methods.base import Naive
from o2okit.methods.bp_iql import BpIQL
from o2okit.methods.gde import GDE
from o2okit.methods.rnd import RND

METHODS = {"naive": Naive, "gde": GDE, "rnd": RND, "bp-iql": BpIQL}

__all__ = ["GDE", "METHODS", "RND", "BpIQL", "Naive"]
