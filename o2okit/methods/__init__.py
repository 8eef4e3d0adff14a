"""One file per fine-tuning method. ``METHODS`` is the registry."""

from o2okit.methods.balanced_replay import BalancedReplay
from o2okit.methods.base import Naive
from o2okit.methods.gde import GDE
from o2okit.methods.per import PER
from o2okit.methods.rnd import RND

METHODS = {
    "naive": Naive,
    "gde": GDE,
    "rnd": RND,
    "per": PER,
    "balanced-replay": BalancedReplay,
}

__all__ = ["GDE", "METHODS", "PER", "RND", "BalancedReplay", "Naive"]
