"""One file per offline/online algorithm. ``BACKBONES`` is the registry."""

from o2okit.backbones.cql_discrete import DiscreteCQL
from o2okit.backbones.dqn import DQN
from o2okit.backbones.sac import SAC

BACKBONES = {"dqn": DQN, "cql-discrete": DiscreteCQL, "sac": SAC}

__all__ = ["BACKBONES", "DQN", "SAC", "DiscreteCQL"]
