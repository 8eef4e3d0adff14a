"""Every method with every backbone it is defined for: a run is its seed, resumes exactly, stays finite."""

import pytest
from hosts import PAIRS, STEPS, fine_tuning, hopper_data

from o2okit.backbones import BACKBONES
from o2okit.data import Dataset
from o2okit.methods import METHODS
from o2okit.training import RunStore, train
from o2okit.training.cohort import Cohort

HALF = 27


@pytest.fixture(scope="module")
def data() -> Dataset:
    return hopper_data()


def trained(specs, store, steps) -> Cohort:
    starts = train([spec.start for spec in specs], store=store, device="cpu")
    cohort = Cohort(specs)
    cohort.begin([run.state() for run in starts])
    cohort.evaluate()
    return advance(cohort, steps)


def same(a, b) -> bool:
    """Bit for bit; what is not known as yet is NaN in both."""
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def advance(cohort, steps) -> Cohort:
    while cohort.step < steps:
        cohort.advance()
        if cohort.step % 20 == 0:
            cohort.evaluate()
    return cohort


@pytest.mark.parametrize(("backbone", "method"), PAIRS)
def test_a_run_is_its_seed_alone_among_others_and_resumed(backbone, method, data, tmp_path):
    store, wanted = RunStore(tmp_path), fine_tuning(backbone, method, data)
    among = trained(wanted, store, STEPS)
    alone = trained(wanted[1:2], store, STEPS)
    ours, theirs = alone.state(), among.state()
    assert all(same(ours[key][0], theirs[key][1]) for key in theirs)
    assert alone.rows[0] == among.rows[1]
    assert not among.diverged.any()
    assert all(v.isfinite().all() for k, v in theirs.items() if k.startswith("agent/"))
    actors = next(v for k, v in theirs.items() if k.endswith("actor.parameters"))
    assert (actors[0] != actors[1]).any()
    part = trained(wanted, store, HALF).state()
    resumed = Cohort([wanted[2], wanted[1]])
    resumed.load_state([{k: v[run].clone() for k, v in part.items()} for run in (2, 1)], HALF)
    again = advance(resumed, STEPS).state()
    assert all(same(again[key][1], theirs[key][1]) for key in theirs)
    assert resumed.rows[1]["evaluations"] == among.rows[1]["evaluations"][-1:]


def test_the_first_evaluation_is_the_offline_policys_however_often_there_is_one(data, tmp_path):
    """QDagger's teacher keeps its score when the next evaluation follows after a single step."""
    cohort = trained(fine_tuning("iql", "qdagger", data), RunStore(tmp_path), 0)
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
