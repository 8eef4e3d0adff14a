"""Every method with every backbone it is defined for: a run is its seed, resumes exactly, stays finite."""

import pytest
from hosts import PAIRS, fine_tuning, hopper_data

from o2okit.backbones import BACKBONES
from o2okit.data import Dataset
from o2okit.methods import METHODS
from o2okit.training import RunStore, checking, train
from o2okit.training.cohort import Cohort

HALF = 27


@pytest.fixture(scope="module")
def data() -> Dataset:
    return hopper_data()


@pytest.mark.parametrize(("backbone", "method"), PAIRS)
def test_a_run_is_its_seed_alone_among_others_and_resumed(backbone, method, data):
    """``tests/training/test_checking.py`` has what ``examine`` finds where that is not so."""
    assert checking.examine(fine_tuning(backbone, method, data), HALF) == []


def test_the_first_evaluation_is_the_offline_policys_however_often_there_is_one(data, tmp_path):
    """QDagger's teacher keeps its score when the next evaluation follows after a single step."""
    specs = fine_tuning("iql", "qdagger", data)
    starts = train([spec.start for spec in specs], store=RunStore(tmp_path), device="cpu")
    cohort = Cohort(specs)
    cohort.begin([run.state() for run in starts])
    cohort.evaluate()
    before = cohort.method.teacher_score.clone()
    cohort.advance()
    cohort.method.teacher_score.fill_(7.0)
    cohort.evaluate()
    assert (cohort.method.teacher_score == 7).all()
    assert before.isfinite().all()


def test_every_method_has_a_backbone_and_its_pairs_are_trained():
    """Those with discrete backbones are trained in tests/training/test_cohort.py."""
    discrete = {name for name, cls in BACKBONES.items() if cls.discrete}
    for name, method in METHODS.items():
        fit = {backbone for backbone in BACKBONES if method.fits(backbone)}
        assert fit, name
        assert {backbone for backbone, other in PAIRS if other == name} == fit - discrete
