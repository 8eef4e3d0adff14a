"""One file per offline/online algorithm. ``BACKBONES`` is the registry."""

from o2okit.backbones.cql_discrete import DiscreteCQL
from o2okit.backbones.dqn import DQN

BACKBONES = {"dqn": DQN, "cql-discrete": DiscreteCQL}

__all__ = ["BACKBONES", "DQN", "DiscreteCQL"]
