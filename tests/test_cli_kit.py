"""The commands that compute: one cell, a kit dataset, a ladder; in the real environment."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from o2okit.cli import main
from o2okit.data import kit, policies, sources
from o2okit.training import behaviour
from o2okit.training.obtain import build_kit


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
    assert "inf" not in out, "of one seed there is no interval"
    folder = tmp_path / "runs" / "smoke-figures" / "cells"
    assert {path.suffix for path in folder.iterdir()} == {".pdf", ".png", ".csv", ".json"}
    record = json.loads((folder / "hopper-random-v2.bc.naive.steps-10.json").read_text())
    assert [run["steps"] for run in record["runs"].values()] == [20, 10]
    assert record["dataset"]["source"] == "kit"
    assert record["diverged"] == []


def test_no_cell_takes_the_files_of_another(tmp_path):
    command = ["finetune", "hopper-random-v2", "bc", "--profile", "smoke", "--steps", "10"]
    assert main(command) == 0
    assert main([*command, "--hyper", "actor_lr", "1e-3"]) == 0
    folder = tmp_path / "runs" / "smoke-figures" / "cells"
    assert {path.name for path in folder.glob("*.json")} == {
        "hopper-random-v2.bc.naive.steps-10.json",
        "hopper-random-v2.bc.naive.steps-10_hyper-actor_lr=1e-3.json",
    }


def test_finetune_compares_methods_and_takes_the_seeds_that_are_named(tmp_path, capsys):
    command = ["finetune", "hopper-random-v2", "td3+bc", "--profile", "smoke", "--seeds", "0,7"]
    amounts = ["--offline-steps", "20", "--steps", "30"]
    assert main([*command, *amounts, "--method", "naive", "--method", "rnd"]) == 0
    out = capsys.readouterr().out
    assert "better than naive?" in out
    assert "td3+bc + rnd" in out
    name = "hopper-random-v2.td3+bc.naive-rnd.steps-30_seeds-0+7.json"
    record = json.loads((tmp_path / "runs" / "smoke-figures" / "cells" / name).read_text())
    online = [run for run in record["runs"].values() if run["phase"] == "online"]
    found = {(run["method"], run["seed"]) for run in online}
    assert found == {("naive", 0), ("naive", 7), ("rnd", 0), ("rnd", 7)}


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
    captured = capsys.readouterr()
    assert f"`o2okit data show hopper-random-v2 --source {path}`" in captured.out
    assert "collected with seed 0, not 1" in captured.err


def test_build_takes_the_profiles_rows(tmp_path):
    assert main(["data", "build", "hopper-random-v2", "--profile", "smoke"]) == 0
    assert sources.kit_file("hopper-random-v2", 20_000).is_file()


def test_a_switch_makes_another_file_that_no_run_takes_unnamed(tmp_path, capsys):
    command = ["data", "build", "antmaze-umaze-v2", "--rows", "800"]
    assert main([*command, "--switch", "stay", "legacy_cell"]) == 0
    path = tmp_path / "data" / "kit-antmaze-umaze-v2-800-legacy_cell-stay.hdf5"
    switches = sources.load("antmaze-umaze-v2", path).provenance["switches"]
    assert {name for name, on in switches.items() if on} == {"stay", "legacy_cell"}
    before = path.stat().st_mtime_ns
    assert main([*command, "--switch", "legacy_cell", "stay"]) == 0
    assert path.stat().st_mtime_ns == before
    assert main(["data", "check", str(path)]) == 0
    assert "800 rows, as antmaze-umaze-v2" in capsys.readouterr().out
    assert not any(place.found for place in sources.where("antmaze-umaze-v2"))


def test_one_process_builds_a_file_and_the_others_wait(tmp_path, monkeypatch, capsys):
    built, begun, go_on = [], threading.Event(), threading.Event()

    def slowly(*args, build=kit.build, **options):
        built.append(args)
        begun.set()
        assert go_on.wait(60)
        return build(*args, **options)

    monkeypatch.setattr(kit, "build", slowly)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(build_kit, "hopper-random-v2", 2_000)
        assert begun.wait(60)
        second = pool.submit(build_kit, "hopper-random-v2", 2_000)
        seen = ""
        while "another process is building it" not in (seen := seen + capsys.readouterr().out):
            assert not second.done()
            time.sleep(0.01)
        go_on.set()
        assert first.result() == second.result() == sources.kit_file("hopper-random-v2", 2_000)
    assert len(built) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "build", "hopper-random-v2", "--rows", "1"], "at least 2"),
        (["data", "build", "hopper-random-v2", "--rows", "9" * 12], "GiB of memory"),
        (["data", "build", "hopper-random-v2", "--rows", "9" * 26], "ask for fewer"),
        (["data", "build", "hopper-random-v2", "--profile", "laptob"], "'laptop'"),
        (["data", "build", "hopper-random-v2", "--seed", "-1"], "whole number >= 0; got -1"),
        (["data", "build", "hopper-random-v2", "--switch", "stay"], "unknown switch"),
        (["data", "build", "hopper"], "hopper"),
        (["data", "build", "walker2d-medium-v2"], "no behaviour policies for 'walker2d'"),
        (["data", "build", "pen-expert-v1"], "no recipe"),
        (["data", "build", "ant-controller"], "ant-controller names an environment, no dataset"),
        (["data", "train", "hopper-medium-v2"], "Allowed: halfcheetah, hopper"),
        (["data", "ladder", "pen-expert-v1"], "Allowed: halfcheetah, hopper, walker2d,"),
        (["data", "ladder", "walker2d"], "no snapshots yet"),
        (["scratch", "hopper", "sak"], "Did you mean 'sac'"),
        (["scratch", "hopper", "--steps", "0"], "steps must be"),
        (["finetune", "hopper-random-v2", "iqll"], "Did you mean 'iql'"),
        (["finetune", "hopper-random-v2", "iql", "--seeds", "0"], "at least 1"),
        (["finetune", "hopper-random-v2", "iql", "--seeds", "three"], "got 'three'"),
        (["finetune", "hopper-random-v2", "iql", "--seeds", "0,0"], r"got [0, 0]"),
        (["finetune", "hopper-random-v2", "iql", "--method", "gdee"], "Did you mean 'gde'"),
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
    monkeypatch.setattr(behaviour, "make_ladder", lambda run, targets, name: seen.update(targets))
    assert main(["data", "ladder", "hopper"]) == 0
    assert seen == {"medium": pytest.approx(1422.0562), "expert": pytest.approx(3511.3584, abs=1)}
    assert main(["data", "ladder", "ant"]) == 0
    assert seen == {"medium": 3000.0, "expert": 3880.0}
    seen.clear()
    assert main(["data", "ladder", "ant-controller"]) == 0
    assert seen == {"controller": 0.8}
