import subprocess
import sys

import h5py
import numpy as np
import pytest

from o2okit.cli import main
from o2okit.data.hdf5 import write_hdf5
from o2okit.data.sources import FILES, kit_file, where

TASK = "hopper-medium-v2"
NAME = "hopper_medium-v2.hdf5"


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("O2OKIT_HOME", str(tmp_path))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("D4RL_MIRRORS", "flat=http://127.0.0.1:1")
    monkeypatch.setattr("o2okit.data.fetch.PAUSE", 0)
    monkeypatch.delenv("O2OKIT_DATA_DIR", raising=False)
    return tmp_path


@pytest.fixture
def fields():
    draw = np.random.default_rng(0)
    return {
        "observations": draw.normal(size=(3000, 11)),
        "actions": draw.uniform(-1, 1, (3000, 3)),
        "rewards": np.ones(3000),
        "terminals": np.isin(np.arange(3000), [499]),
        "timeouts": np.isin(np.arange(3000), [1499, 2499]),
    }


def refused(capsys, *arguments):
    assert main(["data", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("o2okit: ")
    assert "Traceback" not in captured.err
    return captured.err


def out(capsys, *arguments, status=0):
    assert main(["data", *map(str, arguments)]) == status
    return capsys.readouterr().out


# --- list, where ----------------------------------------------------------------------------------
def test_list_shows_every_task_with_data_its_size_and_what_is_here(capsys, fields):
    write_hdf5(kit_file(TASK, 3000), fields, {})
    lines = {line.split()[0]: line for line in out(capsys, "list").splitlines() if line}
    assert set(FILES) <= set(lines)
    assert f"153 MB  yes   kit: {kit_file(TASK, 3000)} (3,000 rows)" in lines[TASK]
    assert lines["hopper-expert-v2"].split()[1:] == ["152", "MB", "yes", "-"]
    assert lines["door-cloned-v1"].split()[-2:] == ["-", "-"], "demonstrations can't be built"
    assert "pen-binary-v0" not in lines
    assert "toy-maze" not in lines


def test_where_names_each_place_and_the_one_used(capsys, fields, folders, monkeypatch):
    assert "used" not in out(capsys, "where", TASK)
    write_hdf5(kit_file(TASK, 3000), fields, {})
    path = write_hdf5(folders / "cache" / NAME, fields, {})
    *lines, run = out(capsys, "where", TASK).splitlines()
    assert [line.split()[0] for line in lines] == ["WRONG", "-", "found"]
    assert lines[0].startswith(f"WRONG  d4rl: {path} (")
    assert "bytes where D4RL's file has 152,756,557" in lines[0]
    assert str(kit_file(TASK, 3000)) in lines[2]
    assert "a run is refused. D4RL replaced its files once" in run
    monkeypatch.setitem(FILES, TASK, FILES[TASK]._replace(bytes=path.stat().st_size))
    *lines, run = out(capsys, "where", TASK).splitlines()
    assert [line.split()[0] for line in lines] == ["used", "-", "found"]
    assert run == "a run takes the used one, whatever its profile"


def test_where_says_which_kit_file_a_run_takes(capsys, fields):
    for rows in (20_000, 1_000_000, 3_000):
        write_hdf5(kit_file(TASK, rows), fields, {})
    *lines, run = out(capsys, "where", TASK).splitlines()
    assert [line.split()[0] for line in lines] == ["-", "-", "found", "found", "found"]
    assert lines[2].endswith("(1,000,000 rows): profile paper")
    assert lines[3].endswith("(20,000 rows): profile smoke")
    assert lines[4].endswith("(3,000 rows)")
    assert "the kit's of its profile (smoke 20,000, laptop 200,000, paper 1,000,000 rows)" in run
    assert "finds nothing" in out(capsys, "where", "door-cloned-v1").splitlines()[-1]


def test_where_says_what_to_do_when_nothing_is_there(capsys):
    assert f"o2okit data fetch {TASK}" in out(capsys, "where", TASK).splitlines()[-1]
    assert "o2okit data fetch" not in out(capsys, "where", "pen-mixed"), "D4RL has no such file"


def test_a_folder_with_a_kit_files_name_is_no_dataset(tmp_path):
    (tmp_path / "data" / f"kit-{TASK}-100.hdf5").mkdir(parents=True)
    assert not any(place.found for place in where(TASK))


def test_a_typo_among_several_is_told_before_anything_is_fetched(capsys, monkeypatch):
    monkeypatch.setattr("o2okit.data.fetch.fetch", lambda *_, **__: pytest.fail("fetched"))
    assert "hoper-medium-v2" in refused(capsys, "fetch", TASK, "hoper-medium-v2")


@pytest.mark.parametrize("command", ["where", "fetch", "show"])
def test_tasks_without_data_are_refused(capsys, command):
    said = refused(capsys, command, "pen-binary-v0")
    assert "Use pen-cloned-v1 instead" in said
    assert "pen-mixed, which the kit builds" in said
    assert "which the kit builds" not in refused(capsys, command, "door-binary-v0")
    assert "Did you mean" in refused(capsys, command, "hopper-medium-v3")


# --- check ----------------------------------------------------------------------------------------
def test_check_of_a_good_file(capsys, tmp_path, fields):
    path = write_hdf5(tmp_path / "kit-hopper-medium-v2-3000.hdf5", fields, {})
    assert out(capsys, "check", path) == f"ok    {path}: 3,000 rows, as {TASK}\n"


def test_check_shows_notes(capsys, tmp_path, fields):
    fields["actions"][7] = 3
    path = write_hdf5(tmp_path / "x.hdf5", fields, {})
    lines = out(capsys, "check", path, "--task", TASK).splitlines()
    assert lines[1].startswith("note  actions leave [-1, 1] in 1 rows (up to 3)")


def test_check_and_show_refuse_another_robots_file_of_equal_sizes(capsys, tmp_path, fields):
    wide = {"observations": np.zeros((3000, 17)), "actions": np.zeros((3000, 6))}
    path = write_hdf5(tmp_path / "x.hdf5", fields | wide, {"name": "kit-halfcheetah-medium-v2"})
    said = "holds data of halfcheetah (kit-halfcheetah-medium-v2), but walker2d-medium-v2 needs"
    checked = out(capsys, "check", path, "--task", "walker2d-medium-v2", status=1)
    assert checked.startswith(f"BAD   {path} {said}")
    assert said in refused(capsys, "show", "walker2d-medium-v2", "--source", str(path))


def test_check_of_a_broken_file_ends_with_status_1(capsys, tmp_path, fields):
    path = write_hdf5(tmp_path / "x.hdf5", fields, {})
    with h5py.File(path, "r+") as file:
        del file["rewards"]
    assert out(capsys, "check", path, status=1).startswith(f"BAD   {path}: rewards missing")


def test_check_with_an_unknown_task_is_a_mistake(capsys, tmp_path):
    assert "unknown task 'x'" in refused(capsys, "check", str(tmp_path), "--task", "x")


# --- fetch ----------------------------------------------------------------------------------------
def test_fetch_that_fails_says_what_to_do(capsys):
    message = refused(capsys, "fetch", TASK)
    assert f"http://127.0.0.1:1/{NAME}" in message
    assert "D4RL_MIRRORS" in message


def test_one_failed_fetch_does_not_stop_the_others(capsys, folders, monkeypatch, fields):
    path = write_hdf5(folders / "cache" / "hopper_expert-v2.hdf5", fields, {})
    published = FILES["hopper-expert-v2"]._replace(bytes=path.stat().st_size, sha256=None)
    monkeypatch.setitem(FILES, "hopper-expert-v2", published)
    assert main(["data", "fetch", TASK, "hopper-expert-v2"]) == 1
    captured = capsys.readouterr()
    assert captured.out == f"hopper-expert-v2: {path}\n"
    assert f"{NAME} ({TASK}) could not be fetched" in captured.err


# --- show -----------------------------------------------------------------------------------------
def test_show_prints_the_measured_beside_the_published(capsys, fields):
    path = write_hdf5(kit_file(TASK, 3000), fields, {})
    text = out(capsys, "show", TASK)
    assert f"kit: {path} (3,000 rows)" in text
    assert "3, 500 to 1,000 steps" in text
    assert "1 terminals, 2 time-outs" in text
    assert "500 rows at the end" in text
    (line,) = [line for line in text.splitlines() if line.startswith("return_mean")]
    assert line.split() == ["return_mean", "833.3333", "1,422.0562", "-588.7229"]
    (line,) = [line for line in text.splitlines() if line.startswith("score")]
    assert line.split()[1:3] == ["26.2279", "44.3170"]
    assert "means off by" in text
    assert "Fréchet distance" in text
    assert (
        "D4RL's nearest other dataset of the robot, hopper-medium-expert-v2, lies 0.187 off" in text
    )


def test_show_of_the_first_rows(capsys, fields):
    write_hdf5(kit_file(TASK, 3000), fields, {})
    text = out(capsys, "show", TASK, "--rows", "1500", "--source", "kit")
    assert "first 1,500 rows" in text
    assert "2, 500 to 1,000 steps" in text


def test_show_draws_a_figure(capsys, tmp_path, fields):
    write_hdf5(kit_file(TASK, 3000), fields, {})
    path = tmp_path / "figure.png"
    assert out(capsys, "show", TASK, "--figure", path).endswith(f"figure: {path}\n")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_show_of_a_task_without_published_states(capsys, fields, tmp_path):
    fields["observations"] = np.zeros((3000, 29))
    fields["actions"] = np.zeros((3000, 8))
    write_hdf5(kit_file("antmaze-umaze-v2", 3000), fields, {})
    assert "no published moments" in out(capsys, "show", "antmaze-umaze-v2")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows", "1"], "--rows needs at least 2"),
        (["--source", "d4rl"], "was found (source 'd4rl')"),
        (["--source", "nothing.hdf5"], "neither a source"),
        (["--figure", "x.bmp"], "got 'x.bmp'"),
    ],
)
def test_show_refuses_what_it_cannot_do(capsys, fields, arguments, said):
    write_hdf5(kit_file(TASK, 3000), fields, {})
    assert said in refused(capsys, "show", TASK, *arguments)


# --- the command ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "arguments", [["data", "list"], ["data", "build", TASK], ["pretrain", TASK, "bc"]]
)
def test_without_h5py_the_extra_is_named(arguments):
    code = (
        "import sys; sys.modules['h5py'] = None\n"
        f"from o2okit.cli import main; sys.exit(main({arguments}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'o2okit[data]'" in done.stderr


def test_the_package_of_data_needs_no_h5py():
    code = "import sys; sys.modules['h5py'] = None; import o2okit.data, o2okit.cli_data"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "arguments", [[], ["frob"], ["where"], ["fetch"], ["show", TASK, "--rows", "x"]]
)
def test_a_wrong_usage_ends_with_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(["data", *arguments])
    assert ended.value.code == 2
    assert "usage: o2okit data" in capsys.readouterr().err
