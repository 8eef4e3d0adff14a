"""One file per offline/online algorithm. ``BACKBONES`` is the registry."""

from o2okit.backbones.awac import AWAC
from o2okit.backbones.base import Agent
from o2okit.backbones.bc import BC
from o2okit.backbones.cal_ql import CalQL
from o2okit.backbones.cql import CQL
from o2okit.backbones.cql_discrete import DiscreteCQL
from o2okit.backbones.cql_ensemble import CQLEnsemble
from o2okit.backbones.dqn import DQN
from o2okit.backbones.iql import IQL
from o2okit.backbones.sac import SAC
from o2okit.backbones.td3 import TD3
from o2okit.backbones.td3_bc import TD3BC
from o2okit.source import is_own

BACKBONES: dict[str, type[Agent]] = {
    "bc": BC,
    "td3+bc": TD3BC,
    "awac": AWAC,
    "iql": IQL,
    "cql": CQL,
    "cal-ql": CalQL,
    "cql-ensemble": CQLEnsemble,
    "sac": SAC,
    "td3": TD3,
    "dqn": DQN,
    "cql-discrete": DiscreteCQL,
}


def kin(name: str) -> str:
    """The backbone here whose methods and settings are a backbone's: its own name, or that of the first which
    one of the user's derives from; where there is none its own.
    """
    here = {cls: key for key, cls in BACKBONES.items() if not is_own(cls)}
    return next((here[cls] for cls in BACKBONES[name].__mro__ if cls in here), name)


__all__ = [
    "AWAC",
    "BACKBONES",
    "BC",
    "CQL",
    "DQN",
    "IQL",
    "SAC",
    "TD3",
    "TD3BC",
    "Agent",
    "CQLEnsemble",
    "CalQL",
    "DiscreteCQL",
    "kin",
]
