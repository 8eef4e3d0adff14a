"""What is counted as left, against counts by hand; smoke amounts (60 updates, 400 steps; 20 and 50)."""

import pytest
import torch

from o2okit.batch.plan import plan, text
from o2okit.cli import main
from o2okit.papers import study
from o2okit.papers.gde import entries
from o2okit.training import RunStore
from o2okit.training.obtain import build_kit, dataset
from o2okit.training.pace import Calibration, kind
from o2okit.training.store import write_json

MAZE, ABLATIONS, EXPLORATION = "gde/toy_maze", "gde/ablations", "gde/exploration"
SMOKE = {"profile": "smoke"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """No runs, no datasets."""
    for name in ("O2OKIT_RUNS", "O2OKIT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("O2OKIT_HOME", str(tmp_path))
    for name in ("O2OKIT_DATA_DIR", "D4RL_DATASET_DIR", "MINARI_DATASETS_PATH"):
        monkeypatch.setenv(name, str(tmp_path / "data"))
    return tmp_path


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    monkeypatch.setattr("o2okit.training.pace.SECONDS", 0.02)


def counts(*keys):
    return [
        (left.runs, left.of, left.cohorts, left.updates, left.steps) for left in plan(keys, SMOKE)
    ]


def finish(spec):
    write_json(RunStore().folder(spec).path / "result.json", {"steps": spec.steps})


def test_counts_of_the_maze_shrink_as_runs_come_and_go_on():
    # Two offline runs of 60 updates (one per loss), ten online ones of 400 steps with an update each.
    assert counts(MAZE) == [(12, 12, 2, 2 * 60 + 4_000, 4_000)]
    specs = {spec.id: spec for spec in study(MAZE, **SMOKE).specs()}.values()
    offline = {spec.start.id: spec.start for spec in specs}.values()
    for spec in offline:
        finish(spec)
    assert counts(MAZE) == [(12, 12, 2, 4_120, 4_000)]  # nothing of them to go on with
    for spec in offline:
        RunStore().folder(spec).save_tensors("checkpoint", {"x": torch.zeros(1)}, step=60)
    assert counts(MAZE) == [(10, 12, 1, 4_000, 4_000)]
    first, second, *others = specs
    RunStore().folder(first).save_tensors("checkpoint", {"x": torch.zeros(1)}, step=100)
    assert counts(MAZE) == [(10, 12, 2, 3_900, 3_900)]  # one goes on alone
    finish(second)
    assert counts(MAZE) == [(9, 12, 2, 3_500, 3_500)]
    for spec in (first, *others):
        finish(spec)
    (left,) = plan([MAZE], SMOKE)
    assert (left.runs, left.cohorts, left.updates, left.steps, left.hours) == (0, 0, 0, 0, 0.0)


def test_a_start_that_nobody_waits_for_is_not_to_do():
    for spec in study(MAZE, **SMOKE).specs():
        finish(spec)
    assert counts(MAZE) == [(0, 12, 0, 0, 0)]


def test_a_dataset_that_is_missing_is_stood_in_for_and_stages_without_updates_are_left_out(home):
    # 20 offline updates; four variants of GDE, 50 steps each: stages of 4 without and 5 with updates, of
    # which the last one is cut off after its first step. Without teacher GDE differs in a number only:
    # three cohorts.
    timed = []
    first, second = plan([ABLATIONS, EXPLORATION], SMOKE, tell=timed.append)
    assert (first.runs, first.of, first.cohorts) == (5, 5, 4)
    assert (first.updates, first.steps) == (20 + 4 * (5 * 5 + 1), 200)
    assert (second.runs, second.of) == (4, 5)  # the offline run is the other section's
    assert first.unbuilt == second.unbuilt == ["hopper-medium-v2"]
    assert first.hours > 0 < second.hours
    assert len(timed) == first.cohorts + second.cohorts
    said = text([first, second], "smoke")
    assert "To be collected first (`o2okit run` does it): hopper-medium-v2." in said
    assert "one worker" in said
    assert [entry.name for entry in home.rglob("*") if entry.is_file()] == []


def test_a_dataset_that_is_there_is_taken(home):
    rows = 300
    missing = dataset("hopper-random-v2", rows=rows, build=False)
    assert (missing.source, missing.provenance) == ("stand-in", {"stands for": rows})
    assert not (home / "data").exists()
    build_kit("hopper-random-v2", rows)
    found = dataset("hopper-random-v2", rows=rows, build=False)
    assert (found.source, found.hash) == ("kit", dataset("hopper-random-v2", rows=rows).hash)


def test_what_a_method_learns_from_the_dataset_counts_for_all_of_its_rows():
    grid = study(EXPLORATION, **SMOKE)
    grid.building = False
    spec = grid.spec("hopper-medium-v2", entries.BP_IQL, 0)
    pace = Calibration([spec], torch.device("cpu")).pace()
    assert pace.prepare > 0
    assert pace.update > 0 < pace.step
    plain = grid.spec("hopper-medium-v2", entries.ON_IQL, 0)
    assert Calibration([plain], torch.device("cpu")).pace().prepare == 0
    assert Calibration([plain.start], torch.device("cpu")).pace().step == 0


def test_a_kind_is_what_makes_cohorts_equally_fast():
    grid = study(ABLATIONS, profile="laptop")
    grid.building = False
    hopper, cheetah = grid.tasks
    gde = kind([grid.spec(hopper, entries.GDE, 0)])
    assert kind([grid.spec(cheetah, entries.GDE, 3)]) == gde
    assert kind([grid.spec(hopper, entries.NO_TEACHER, 0)]) == gde
    assert kind([grid.spec(hopper, entries.NO_EXPLORE, 0)]) != gde
    assert kind([grid.spec(hopper, entries.GDE, seed) for seed in (0, 1)]) != gde


def test_the_command_prints_the_table_and_its_assumptions(capsys):
    assert main(["plan", MAZE, "--profile", "smoke"]) == 0
    lines = [" ".join(each.split()) for each in capsys.readouterr().out.splitlines()]
    assert lines[0] == "still to do at profile smoke:"
    assert lines[1] == "section runs of cohorts updates env steps hours"
    assert lines[2].startswith(f"{MAZE} 12 12 2 4,120 4,000 0.0")
    assert lines[3].startswith("together 12 2 4,120 4,000 0.0")
    assert "an estimate" in lines[4]
