"""The experiment itself, smaller than at laptop scale."""

import json

import pandas as pd
import pytest

import o2okit
from o2okit.papers.gde import toy_maze
from o2okit.training import RunStore, train


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two thirds of the offline updates, 8,000 online steps, two seeds: less than a minute."""
    patch = pytest.MonkeyPatch()
    patch.setenv("O2OKIT_RUNS", str(tmp_path_factory.mktemp("runs")))
    patch.setenv("O2OKIT_HOME", str(tmp_path_factory.mktemp("home")))
    smaller = {
        **toy_maze.FULL,
        "offline_updates": 20_000,
        "online_steps": 8_000,
        "seeds": 2,
        "sweep_seeds": 1,
    }
    patch.setitem(toy_maze.AMOUNTS, "laptop", smaller)
    patch.setattr(toy_maze, "ALPHAS", (0.0, 1.0, 3.0))
    yield o2okit.study("gde/toy_maze", profile="laptop", device="cpu").run()
    patch.undo()


def test_the_penalty_keeps_the_agent_at_the_right_goal_and_without_it_the_left_is_found(study):
    for seed in study.seeds:
        offline = study.curve(seed, 3.0)["return"].iloc[0]
        assert offline == study.curve(seed, 0.0)["return"].iloc[0], "both start from one agent"
        assert study.curve(seed, 3.0)["return"].tail(5).median() == -70
        assert study.curve(seed, 0.0)["return"].tail(3).max() == -34


def test_the_trajectories_show_why(study):
    """While fine-tuning, the penalised agent ends its episodes at R, the other at L."""
    for seed in study.seeds:
        ends = {
            alpha: study.result(study.online(seed, alpha)).episodes()["outcome"].tail(20)
            for alpha in (3.0, 0.0)
        }
        assert (ends[3.0] == "right goal").mean() > 0.6
        assert (ends[0.0] == "left goal").mean() > 0.6


def test_artefacts_hold_the_numbers_of_the_runs(study):
    for name in study.artefacts:
        study.figure(name)
    study.claims()
    folder = study.files()[0].parent
    assert (folder / "figure_2c.png").read_bytes()[:4] == b"\x89PNG"
    assert (folder / "figure_2c.pdf").read_bytes()[:4] == b"%PDF"
    curves = pd.read_csv(folder / "figure_2c.csv")
    one = curves[(curves["alpha"] == 0) & (curves["seed"] == 1)]["return"]
    assert one.tolist() == study.curve(1, 0.0)["return"].tolist()
    visits = pd.read_csv(folder / "figure_2b.csv")
    steps = study.amounts["online_steps"] * len(study.seeds)
    assert visits["visits_alpha_3"].sum() == visits["visits_alpha_0"].sum() == steps
    assert pd.read_csv(folder / "figure_2a.csv")["visits"].sum() == 50_000


def test_the_record_says_where_everything_comes_from(study):
    study.figure("figure_2a")
    verdicts = study.claims()
    record = json.loads((study.files()[0].parent / "toy_maze.json").read_text())
    assert record["profile"] == "laptop"
    assert record["seeds"] == [0, 1]
    assert record["dataset"]["source"] == "kit"
    assert record["dataset"]["sha256"] == study.dataset.hash
    assert record["claims"] == verdicts.to_dict("records")
    [reason] = verdicts.loc[verdicts["claim_id"] == "gde-36", "reason"]
    assert reason.startswith("difference -"), "the penalised agent is the left-hand side"
    assert record["diverged"] == []
    assert record["trained"]["device"][0].startswith("cpu")
    assert record["trained"]["mixed_starts"] == []
    stored = {folder.path.name for folder in RunStore().folders()}
    assert set(record["runs"]) <= stored
    label = study.label()
    assert "source: kit" in label
    assert "profile laptop" in label
    assert "seeds 0-1" in label


def test_the_sweep_shares_the_runs_of_figure_2(study):
    ids = [spec.id for spec in study.specs()]
    assert study.online(0, 3.0, "Huber").id == study.online(0, 3.0).id
    assert len(ids) - len(set(ids)) == 2  # seed 0 at both α with the Huber loss
    assert len({spec.cohort for spec in study.specs()}) == 1, "one sweep, one cohort"


def test_both_alphas_start_from_the_same_offline_run(study):
    assert study.online(0, 3.0).start.id == study.online(0, 0.0).start.id == study.offline(0).id
    assert study.online(0, 0.0, "squared").start.id != study.offline(0).id


def test_asking_too_early_or_for_a_run_that_is_not_there_is_answered(study):
    with pytest.raises(o2okit.UserError, match=r"call run\(\) before"):
        o2okit.study("gde/toy_maze", profile="smoke").table()
    with pytest.raises(o2okit.UserError, match="no run with seed 7"):
        study.curve(7, 3.0)
    with pytest.raises(o2okit.UserError, match=r"Did you mean .* Allowed: figure_2a"):
        study.figure("figure_2")


def test_laptop_is_paper_scale():
    assert toy_maze.AMOUNTS["paper"] == toy_maze.FULL
    assert o2okit.study("gde/toy_maze", profile="paper").seeds == [0, 1, 2, 3, 4]
    # specs/gde.md 2.8
    assert toy_maze.FULL["offline_updates"] == 30_000
    assert toy_maze.FULL["online_steps"] == 20_000
    assert toy_maze.FULL["transitions"] == 50_000
    assert toy_maze.FULL["seeds"] >= 5


def test_the_checkpoint_dataset_is_collected_by_trained_agents(tmp_path, monkeypatch):
    monkeypatch.setenv("O2OKIT_RUNS", str(tmp_path))
    study = o2okit.study("gde/toy_maze", profile="smoke", dataset="checkpoints")
    behaviour = study.behaviour()
    study.building = False  # planning trains nothing
    assert {spec.id for spec in behaviour} < {spec.id for spec in study.specs()}
    assert not any(RunStore().folder(spec).finished for spec in behaviour)
    study = o2okit.study("gde/toy_maze", profile="smoke", dataset="checkpoints")
    assert [(spec.method, spec.seed) for spec in behaviour] == [
        ("naive", 0),
        ("naive", 1),
        ("rnd", 0),
        ("rnd", 1),
    ]
    data = study.dataset
    assert data.name == "kit-toy-maze-checkpoints"
    assert data.provenance["behaviour_runs"] == [spec.id for spec in behaviour]
    runs = train(behaviour, store=RunStore())
    assert all(len(run.snapshots()) == 10 for run in runs)
    assert sum(data.provenance["parts"].values()) == pytest.approx(1)
    assert data.hash != o2okit.study("gde/toy_maze", profile="smoke").dataset.hash


def test_own_parameters_get_files_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("O2OKIT_RUNS", str(tmp_path))
    plain = o2okit.study("gde/toy_maze", profile="smoke")
    same = o2okit.study("gde/toy_maze", profile="smoke", seeds=1, sweep_seeds=[0])
    other = o2okit.study("gde/toy_maze", profile="smoke", seeds=[0, 2])
    assert plain.variant == same.variant == ""
    assert other.variant == "seeds-0+2"
    other.run().figure("figure_2a")
    other.claims()
    assert {path.name for path in other.files()} == {
        "figure_2a.seeds-0+2.pdf",
        "figure_2a.seeds-0+2.png",
        "figure_2a.seeds-0+2.csv",
        "toy_maze.seeds-0+2.json",
    }
