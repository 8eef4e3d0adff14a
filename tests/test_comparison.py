"""Theirs and ours, over small datasets in the real environments."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib import image

from o2okit import comparison
from o2okit.cli import main
from o2okit.data import policies, sources
from o2okit.data.hdf5 import write_hdf5
from o2okit.data.statistics import describe
from o2okit.errors import UserError
from o2okit.report import datasets
from o2okit.tasks import TASKS

CHOSEN = ("toy-maze", "hopper", "hopper-random-v2", "walker2d-medium-v2", "antmaze-umaze-v2")
RANDOM = "hopper-random-v2"


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("O2OKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("O2OKIT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "none"))
    monkeypatch.setattr(policies, "FOLDER", tmp_path / "no policies")
    monkeypatch.setattr(comparison, "TASKS", {name: TASKS[name] for name in CHOSEN})
    return tmp_path


def put(folder, task, rows=600, **options):
    """A file of D4RL's name and of any content: a return of 3 in each of six episodes."""
    sizes = TASKS[task]
    fields = {
        "observations": np.random.default_rng(0).normal(size=(rows, sizes.obs_size)),
        "actions": np.zeros((rows, sizes.act_size)),
        "rewards": np.full(rows, 0.03),
        "terminals": np.zeros(rows, dtype=bool),
        "timeouts": np.arange(1, rows + 1) % 100 == 0,
    }
    return write_hdf5(folder / sources.FILES[task].name, fields, {"from": "test", **options})


def as_published(monkeypatch, task, path):
    file = sources.FILES[task]._replace(bytes=path.stat().st_size)
    monkeypatch.setitem(sources.FILES, task, file)


def test_what_can_be_built_is_compared_and_what_can_not_is_named(folders):
    found = comparison.compare_datasets(rows=600, seed=1, profile="smoke")
    rows = found.frame.set_index("task")
    assert list(rows.index) == [RANDOM, "walker2d-medium-v2"], "no data: no row"
    built, missing = rows.loc[RANDOM], rows.loc["walker2d-medium-v2"]
    path = sources.kit_file(RANDOM, 600)
    ours = describe(sources.load_rows(RANDOM, path)[1], RANDOM)
    assert (built["status"], built["rows"], built["episodes"]) == ("compared", 600, ours.episodes)
    assert built["return_mean"] == ours.returns.mean()
    assert built["published_return_mean"] == pytest.approx(18.40, abs=0.01)
    percent = 100 * (ours.returns.mean() / built["published_return_mean"] - 1)
    assert built["difference_percent"] == pytest.approx(percent)
    spread = 100 / built["published_return_mean"] * ours.returns.std(ddof=1)
    assert built["error_percent"] == pytest.approx(spread / ours.episodes**0.5)
    assert np.isnan(built["state_distance"]), "no states are published"
    assert missing["status"] == "not reached"
    assert missing["note"].startswith("the kit has no behaviour policies for 'walker2d'")
    assert missing["published_return_mean"] == pytest.approx(2852.0884)
    assert np.isnan(missing["return_mean"])
    assert missing["nearest"] == "walker2d-medium-expert-v2"
    before = path.stat().st_mtime_ns
    comparison.compare_datasets(rows=600, seed=1, profile="smoke")
    assert path.stat().st_mtime_ns == before, "taken as it is there"
    with pytest.raises(UserError, match="collected with seed 1, not 0"):
        comparison.compare_datasets(rows=600, profile="smoke")


def test_the_error_of_a_single_episode_is_unknown(folders):
    found = comparison.compare_datasets(rows=5, profile="smoke")
    assert found.frame.set_index("task").loc[RANDOM, "episodes"] == 1
    text = found.markdown()
    assert " ± ? %" in text
    assert "nan" not in text


def test_files_on_the_machine_are_compared_beside_the_kits(folders, monkeypatch):
    as_published(monkeypatch, RANDOM, put(folders / "cache", RANDOM))
    as_published(monkeypatch, "antmaze-umaze-v2", put(folders / "cache", "antmaze-umaze-v2"))
    put(folders / "cache", "walker2d-medium-v2")  # not of the published size
    frame = comparison.compare_datasets(rows=600, profile="smoke").frame
    assert list(zip(frame["task"], frame["source"], frame["status"], strict=True)) == [
        (RANDOM, "d4rl", "compared"),
        (RANDOM, "kit", "compared"),
        ("walker2d-medium-v2", "d4rl", "unusable"),
        ("walker2d-medium-v2", "kit", "not reached"),
        ("antmaze-umaze-v2", "d4rl", "compared"),
    ]
    assert frame["return_mean"][0] == pytest.approx(3)
    assert "bytes where D4RL's file has" in frame["note"][2]


def test_the_command_leaves_figure_table_and_provenance(folders, capsys):
    assert main(["data", "compare", "--profile", "smoke", "--rows", "600"]) == 0
    out = capsys.readouterr().out
    assert "| walker2d-medium-v2 | kit      | not reached |" in out
    folder = folders / "runs" / "smoke-figures" / "data"
    endings = ("csv", "json", "md", "pdf", "png")
    assert sorted(path.name for path in folder.iterdir()) == [f"datasets.{e}" for e in endings]
    record = json.loads((folder / "datasets.json").read_text())
    assert (record["rows"], record["seed"], record["profile"]) == (600, 0, "smoke")
    [made] = record["datasets"].values()
    assert made["file"] == sources.kit_file(RANDOM, 600).name
    assert str(folders) not in json.dumps(record), "no path of this machine"
    assert list(pd.read_csv(folder / "datasets.csv").columns) == datasets.COLUMNS
    assert "600 rows of each robot's, seed 0" in (folder / "datasets.md").read_text()
    pixels = image.imread(folder / "datasets.png")[..., :3]
    assert pixels.std() > 0.05, "not blank"
    assert main(["data", "compare", "--rows", "1"]) == 2
    assert ">= 2; got 1" in capsys.readouterr().err
    assert main(["data", "compare", "--profile", "small"]) == 2
    assert "smoke, laptop, paper" in capsys.readouterr().err


def test_the_picture_shows_theirs_ours_and_what_is_missing():
    rows = [
        datasets.missing(RANDOM, "kit", "not reached", ""),
        {
            **datasets.missing("hopper-medium-v2", "kit", "compared", ""),
            **{
                "return_mean": 1000.0,
                "return_std": 10.0,
                "return_min": 900.0,
                "return_max": 1100.0,
            },
            "state_distance": 0.5,
        },
        datasets.missing("ant-medium-v2", "kit", "not reached", ""),
    ]
    figure = datasets.draw(pd.DataFrame(rows, columns=datasets.COLUMNS))
    returns, states = figure.axes
    means = [line.get_xdata()[0] for line in returns.lines if line.get_marker() in ("D", "o")]
    scores = [(1422.0562 + 20.272305) / 32.54572605, (1000 + 20.272305) / 32.54572605]
    assert means[1:] == pytest.approx(scores, abs=1e-3)
    assert [line.get_xdata()[-1] for line in states.lines if line.get_marker() == "o"] == [0.5]
    texts = {text.get_text() for text in returns.texts}
    assert texts == {"the kit's: not reached", "", "D4RL's: not published\nthe kit's: not reached"}
    assert [label.get_text() for label in returns.get_yticklabels()] == [
        row["task"] for row in rows
    ]
