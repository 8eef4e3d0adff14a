"""Fig. 14 on the real emulator: the agent that collects, its dataset, the stand-in."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import o2okit
from o2okit.papers.gde import atari
from o2okit.report import panels
from o2okit.training import RunStore, game_data, train

pytest.importorskip("ale_py")


@pytest.fixture
def played(folder):
    """A behaviour run of 20 steps with 10 transitions of its checkpoints."""
    spec = game_data.behaviour("atari-asterix", 20)
    (run,) = train([spec], store=RunStore(), device="cpu")
    return run, game_data.dataset(run, 10)


def test_checkpoints_collect_equal_shares_and_the_file_is_read_again(played, monkeypatch):
    run, data = played
    assert run.snapshots() == [4, 8, 12, 16, 20]
    assert (len(data), data.source, data.name) == (10, "kit", "kit-atari-asterix-10")
    assert np.flatnonzero(data.timeouts).tolist() == [1, 3, 5, 7, 9], "each share is cut off"
    assert len(data.frames) == 10 + 5, "an image more than there are steps, per share"
    shown = data.frames[data.next_observations // 4]
    assert (shown[0] == data.frames[data.observations[1] // 4]).all(), "one follows the other"
    assert [part["step"] for part in data.provenance["checkpoints"]] == run.snapshots()
    monkeypatch.setattr(game_data, "_collect", None)
    assert game_data.dataset(run, 10).hash == data.hash


def test_the_same_run_plays_the_same_data(played, monkeypatch, tmp_path):
    run, data = played
    monkeypatch.setenv("O2OKIT_DATA_DIR", str(tmp_path / "elsewhere"))
    assert game_data.dataset(run, 10).hash == data.hash


def test_laptop_shows_the_maze_and_judges_nothing_by_it(folder):
    study = o2okit.study("gde/atari", profile="laptop")
    assert (study.tasks, study.run_of("atari")) == (["toy-maze"], [])
    assert "toy-maze stands in" in repr(study)
    assert {spec.task for spec in study.specs()} == {"toy-maze"}
    gde = study.spec("toy-maze", atari.GDE, 0)
    assert (gde.method_hyper["fine_tune_steps"], gde.method_hyper["scoring_steps"]) == (200, 400)


def test_games_are_a_parameter_and_planning_trains_nothing(folder):
    study = o2okit.study("gde/atari", profile="paper", tasks=["atari-pong", "atari-seaquest"])
    study.building = False
    collects, *others = study.specs()
    assert (collects.task, collects.backbone, collects.steps) == ("atari-pong", "dqn", 2_500_000)
    online = [spec for spec in others if spec.phase == "online" and spec.backbone != "dqn"]
    assert {(spec.update_every, spec.eval_every) for spec in online} == {(4, 62_500)}
    assert {spec.hyper["batch_size"] for spec in online} == {32}
    assert len(online) == 2 * 2 * 5, "games, methods, seeds"


def test_there_are_no_other_data_than_the_kits(folder):
    with pytest.raises(o2okit.UserError, match="source is 'auto' or 'kit', not 'd4rl'"):
        o2okit.study("gde/atari", profile="smoke", source="d4rl")


def test_without_the_emulator_games_are_left_out(folder, monkeypatch):
    monkeypatch.setattr(atari.importlib.util, "find_spec", lambda name: None)
    study = o2okit.study("gde/atari", profile="paper")
    assert study.tasks == ["toy-maze"]
    with pytest.raises(o2okit.UserError, match=r"needs ale-py.*pip install 'o2okit\[atari\]'"):
        o2okit.study("gde/atari", profile="paper", tasks=["atari-pong"])


def test_a_file_that_is_damaged_or_cannot_be_written_is_named(played, monkeypatch, tmp_path):
    run, _ = played
    file = game_data.file(run.spec, 10)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(o2okit.UserError, match=r"can't be read.*Delete it"):
        game_data.dataset(run, 10)
    (tmp_path / "taken").touch()
    monkeypatch.setenv("O2OKIT_DATA_DIR", str(tmp_path / "taken"))
    with pytest.raises(o2okit.UserError, match=r"could not write .*O2OKIT_DATA_DIR"):
        game_data.dataset(run, 10)


@pytest.mark.parametrize(("task", "unit"), [("toy-maze", "return"), ("hopper", "normalised score")])
def test_an_axis_says_whether_scores_are_normalised(task, unit):
    rows = [(task, "GDE", 0, step, -70.0) for step in (0, 10)]
    frame = pd.DataFrame(rows, columns=["task", "entry", "seed", "step", "score"])
    figure = panels.curves(frame, "title")
    assert figure.axes[0].get_ylabel() == unit
    plt.close(figure)
