"""One file per fine-tuning method. ``METHODS`` is the registry."""

from o2okit.methods.apl import APL
from o2okit.methods.balanced_replay import BalancedReplay
from o2okit.methods.base import Naive
from o2okit.methods.bp_iql import BpIQL
from o2okit.methods.constant_bonus import ConstantBonus
from o2okit.methods.filter import Filter
from o2okit.methods.gde import GDE
from o2okit.methods.gde_discrete import DiscreteGDE
from o2okit.methods.jsrl import JSRL
from o2okit.methods.per import PER
from o2okit.methods.pex import PEX
from o2okit.methods.qcse import QCSE
from o2okit.methods.qdagger import QDagger
from o2okit.methods.reiql import ReIQL
from o2okit.methods.rnd import RND
from o2okit.methods.rnd_bonus import RNDBonus
from o2okit.methods.state_entropy import SE
from o2okit.methods.sung import SUNG
from o2okit.methods.temperature import Temperature
from o2okit.methods.vae_bonus import VAEBonus
from o2okit.methods.vcse import VCSE

METHODS = {
    "naive": Naive,
    "apl": APL,
    "balanced-replay": BalancedReplay,
    "bp-iql": BpIQL,
    "const": ConstantBonus,
    "filter": Filter,
    "gde": GDE,
    "gde-discrete": DiscreteGDE,
    "jsrl": JSRL,
    "per": PER,
    "pex": PEX,
    "qcse": QCSE,
    "qdagger": QDagger,
    "reiql": ReIQL,
    "rnd": RND,
    "rnd-bonus": RNDBonus,
    "se": SE,
    "sung": SUNG,
    "temperature": Temperature,
    "vae-bonus": VAEBonus,
    "vcse": VCSE,
}

__all__ = ["METHODS", "Naive"]
