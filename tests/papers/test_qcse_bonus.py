"""The section of ours on QCSE's bonus: recorded transitions, scales, k, the controls."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import o2okit
from o2okit.errors import UserError
from o2okit.papers.qcse import what_the_bonus_is as own


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The smoke profile, trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("O2OKIT_RUNS", str(tmp_path_factory.mktemp("runs")))
        patch.setenv("O2OKIT_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        yield o2okit.study("qcse/what_the_bonus_is", profile="smoke").run()


@pytest.fixture
def gaussian():
    rng = torch.Generator().manual_seed(0)
    return own.Recorded(
        torch.randn(1, 128, 17, generator=rng), 100 * torch.randn(1, 128, generator=rng)
    )


def test_the_saturation_that_the_section_is_about(gaussian):
    """As written the bonus is a constant; scaled it tells transitions apart (specs/qcse.md 2)."""
    raw, share = own.bonuses(gaussian, 25, **own.SCALES["raw, as written"])
    assert raw.mean() > 0.985
    assert raw.std() < 0.003
    assert 0 <= share <= 1
    scaled, _ = own.bonuses(gaussian, 25, **own.SCALES["both (default)"])
    assert scaled.std() > 0.1


def test_vcses_code_counts_the_row_itself(gaussian):
    """Its k-th neighbour is the (k-1)-th of the others; each n is one more."""
    code, _ = own.bonuses(gaussian, 11, **own.SCALES["VCSE's code"])
    ours, _ = own.bonuses(gaussian, 10, **own.SCALES["both (default)"])
    assert (code > ours).all()  # ψ(n + 2) > ψ(n + 1), with equal ε
    assert code == pytest.approx(ours, abs=0.1)


def test_what_is_recorded_is_the_agents_view_of_own_transitions(study):
    record = study.recorded[0]
    run = study.result(study.spec(study.tasks[0], own.QCSE, 0))
    transitions = run.transitions()
    assert record.obs.shape == (1, min(own.SIZE, len(transitions.obs)), 11)
    seen = run.agent().view(transitions.obs[None])[0]
    exact = "donot_use_mm_for_euclid_dist"
    nearest = torch.cdist(record.obs[0], seen, compute_mode=exact).amin(1)
    assert (nearest < 1e-5).all()
    assert record.q.shape == record.obs.shape[:2]


def test_figures_and_their_numbers(study):
    for name in study.drawings:
        study.figure(name)
    scales, by_k = study.table("scales"), study.table("by_k")
    assert set(scales["scales"]) == set(by_k["scales"]) == set(own.SCALES)
    part = scales[scales["scales"] == "both (default)"]["bonus"]
    row = by_k[(by_k["scales"] == "both (default)") & (by_k["k"] == scales["k"].iloc[0])].iloc[0]
    assert part.mean() == pytest.approx(row["mean"], abs=1e-6)
    assert part.std(ddof=0) == pytest.approx(row["std"], abs=1e-6)
    assert by_k["by_condition"].between(0, 1).all()


def test_the_controls_are_interactive(study, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: None)
    controls = study.explore()
    names = [child.description for child in controls.children[:-1]]
    assert names == ["seed", "k", "states / d", "standardise Q", "VCSE's code"]
    assert controls.children[1].max == study.recorded[0].q.shape[1] - 1
    controls.children[1].value = 3
    assert controls.kwargs["k"] == 3
    plt.close("all")


def test_without_ipywidgets_the_message_says_how_to_get_them(study, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ipywidgets", None)
    with pytest.raises(UserError, match="pip install"):
        study.explore()


def test_verdicts_of_ours(study, monkeypatch):
    """A constant bonus in the place of QCSE: nothing that smoke could decide."""
    assert [row["verdict"] for row in study._judge()] == ["not run", "not run"]
    scores = {line.label: np.full(3, 10.0 * i) for i, line in enumerate(own.LINES)}
    monkeypatch.setattr(study, "profile", "laptop")
    monkeypatch.setattr(study, "scores", lambda task, entry: scores[entry.label])
    assert [row["verdict"] for row in study._judge()] == ["supported", "supported"]
