"""The papers: their studies, the numbers they print, the claims they make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from o2okit.errors import UserError, unknown
from o2okit.papers.gde.ablations import AblationStudy
from o2okit.papers.gde.atari import AtariStudy
from o2okit.papers.gde.backbones import BackboneStudy
from o2okit.papers.gde.cal_ql import CalQLStudy
from o2okit.papers.gde.challenges import ChallengesStudy
from o2okit.papers.gde.exploration import ExplorationStudy
from o2okit.papers.gde.hyperparameters import HyperparametersStudy
from o2okit.papers.gde.long import LongStudy
from o2okit.papers.gde.main import MainStudy
from o2okit.papers.gde.n_step import NStepStudy
from o2okit.papers.gde.offline_data import OfflineDataStudy
from o2okit.papers.gde.sac import SACStudy
from o2okit.papers.gde.toy_maze import ToyMazeStudy
from o2okit.papers.parameters import check_all
from o2okit.papers.qcse.acceleration import AccelerationStudy
from o2okit.papers.qcse.adroit import AdroitStudy as QCSEAdroitStudy
from o2okit.papers.qcse.aggregates import AggregateStudy
from o2okit.papers.qcse.backbones import BackboneStudy as QCSEBackboneStudy
from o2okit.papers.qcse.condition import ConditionStudy
from o2okit.papers.qcse.exploration import ExplorationStudy as QCSEExplorationStudy
from o2okit.papers.qcse.main import MainStudy as QCSEMainStudy
from o2okit.papers.qcse.medium_expert import MediumExpertStudy
from o2okit.papers.qcse.neighbours import NeighbourStudy
from o2okit.papers.qcse.o2o_methods import O2OMethodsStudy
from o2okit.papers.qcse.pretrained_q import PretrainedQStudy
from o2okit.papers.qcse.what_the_bonus_is import BonusStudy
from o2okit.papers.study import Study

SECTIONS = (
    ToyMazeStudy,
    ChallengesStudy,
    ExplorationStudy,
    MainStudy,
    HyperparametersStudy,
    BackboneStudy,
    AblationStudy,
    OfflineDataStudy,
    SACStudy,
    CalQLStudy,
    LongStudy,
    NStepStudy,
    AtariStudy,
    ConditionStudy,
    QCSEMainStudy,
    QCSEAdroitStudy,
    QCSEBackboneStudy,
    QCSEExplorationStudy,
    O2OMethodsStudy,
    NeighbourStudy,
    PretrainedQStudy,
    AccelerationStudy,
    MediumExpertStudy,
    AggregateStudy,
    BonusStudy,
)
STUDIES: dict[str, type[Study]] = {cls.key: cls for cls in SECTIONS}


def study_class(key: str) -> type[Study]:
    """Looks a study up. Raises ``UserError`` with the keys that exist."""
    if key not in STUDIES:
        raise unknown("section", key, STUDIES, "`o2okit list` shows them.")
    return STUDIES[key]


def parameters_of(keys: Iterable[str], values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The same parameters for several sections, as each of them has them in the end.

    Raises ``UserError`` that names the section to which one of them means nothing.
    """
    found = {}
    for key in keys:
        try:
            checked = check_all(study_class(key).parameters, values)
        except UserError as error:
            raise UserError(f"{key}: {error}") from None
        found[key] = {name: checked[name] for name in values}
    return found


def study(key: str, /, **parameters: Any) -> Study:
    """A section's study with checked parameters.

    Args:
        key: ``paper/section``, for instance ``"gde/toy_maze"``.
        parameters: those of the section's notebook; what is left out takes its default.

    Raises:
        UserError: the section or a parameter does not exist, or a value is not allowed.

    Example:
        >>> maze = study("gde/toy_maze", profile="smoke")
        >>> maze.title[:3]
        '3.1'
    """
    return study_class(key)(**parameters)
