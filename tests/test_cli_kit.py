"""The commands that compute: one cell, a kit dataset, a ladder; in the real environment."""

import json

import pytest

from o2okit.cli import main
from o2okit.data import policies
from o2okit.training import behaviour


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("O2OKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("O2OKIT_DATA_DIR", str(tmp_path / "data"))
    for name in ("D4RL_DATASET_DIR", "MINARI_DATASETS_PATH"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


def test_finetune_prints_the_scores_and_leaves_the_files(tmp_path, capsys):
    command = ["finetune", "hopper-random-v2", "bc", "--profile", "smoke", "--seeds", "1"]
    assert main([*command, "--offline-steps", "20", "--steps", "10"]) == 0
    out = capsys.readouterr().out
    assert "offline" in out
    folder = tmp_path / "runs" / "smoke-figures" / "cells"
    assert {path.suffix for path in folder.iterdir()} == {".pdf", ".png", ".csv", ".json"}
    record = json.loads((folder / "hopper-random-v2.bc.naive.json").read_text())
    assert [run["steps"] for run in record["runs"].values()] == [20, 10]
    assert record["dataset"]["source"] == "kit"
    assert record["diverged"] == []


def test_pretrain_compares_backbones(tmp_path, capsys):
    command = ["pretrain", "hopper-random-v2", "bc", "td3+bc", "--profile", "smoke"]
    assert main([*command, "--seeds", "1", "--steps", "20"]) == 0
    assert "td3+bc" in capsys.readouterr().out
    folder = tmp_path / "runs" / "smoke-figures" / "cells"
    summary = (folder / "hopper-random-v2.bc-td3+bc.offline.summary.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in summary] == ["backbone", "bc", "td3+bc", "bc", "td3+bc"]
    record = json.loads((folder / "hopper-random-v2.bc-td3+bc.offline.json").read_text())
    assert record["profile"] == "smoke"
    assert {run["steps"] for run in record["runs"].values()} == {20}


def test_build_finds_what_it_has_built_and_refuses_another_seed(tmp_path, capsys):
    command = ["data", "build", "hopper-random-v2", "--rows", "2000"]
    assert main(command) == 0
    path = tmp_path / "data" / "kit-hopper-random-v2-2000.hdf5"
    before = path.stat().st_mtime_ns
    assert main(command) == 0
    assert path.stat().st_mtime_ns == before
    assert main([*command, "--seed", "1"]) == 2
    assert "collected with seed 0, not 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "build", "hopper-random-v2", "--rows", "1"], "at least 2"),
        (["data", "build", "hopper"], "hopper"),
        (["data", "build", "walker2d-medium-v2"], "no behaviour policies for 'walker2d'"),
        (["data", "build", "pen-expert-v1"], "no recipe"),
        (["data", "build", "ant-controller"], "ant-controller names an environment, no dataset"),
        (["data", "train", "hopper-medium-v2"], "Allowed: halfcheetah, hopper"),
        (["data", "ladder", "pen-expert-v1"], "Allowed: halfcheetah, hopper, walker2d, ant"),
        (["data", "ladder", "walker2d"], "no snapshots yet"),
        (["scratch", "hopper", "sak"], "Did you mean 'sac'"),
        (["scratch", "hopper", "--steps", "0"], "steps must be"),
        (["finetune", "hopper-random-v2", "iqll"], "Did you mean 'iql'"),
        (["finetune", "hopper-random-v2", "iql", "--seeds", "0"], "at least 1"),
        (["finetune", "hopper-random-v2", "iql", "--profile", "lap"], "Did you mean 'laptop'"),
    ],
)
def test_mistakes_are_one_message(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("O2OKIT_PROFILE", "smoke")
    monkeypatch.setattr(policies, "FOLDER", tmp_path / "no policies")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_the_targets_of_a_ladder_are_d4rls_returns(monkeypatch):
    seen = {}
    monkeypatch.setattr(behaviour, "make_ladder", lambda run, targets: seen.update(targets))
    assert main(["data", "ladder", "hopper"]) == 0
    assert seen == {"medium": pytest.approx(1422.0562), "expert": pytest.approx(3511.3584, abs=1)}
    assert main(["data", "ladder", "ant"]) == 0
    assert seen == {"medium": 3000.0, "expert": 3880.0}
    seen.clear()
    assert main(["data", "ladder", "ant-controller"]) == 0
    assert seen == {"controller": 0.8}
