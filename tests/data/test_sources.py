import hashlib
import json

import h5py
import numpy as np
import pytest

from o2okit.data import minari, sources
from o2okit.data.hdf5 import write_hdf5
from o2okit.data.sources import FILES, find, kit_file, load, load_rows, where
from o2okit.errors import UserError
from o2okit.tasks import TASKS

TASK, PEN = "hopper-medium-v2", "pen-cloned-v1"
NAME = "hopper_medium-v2.hdf5"


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("O2OKIT_DATA_DIR", str(tmp_path / "mine"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("O2OKIT_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def publish(fields, write, monkeypatch):
    """Writes a file and makes it the published one of a task."""

    def put(path, task=TASK, **options):
        sizes = {"obs": TASKS[task].obs_size, "act": TASKS[task].act_size}
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, fields(**sizes, **options))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        file = FILES[task]._replace(bytes=path.stat().st_size, sha256=digest)
        monkeypatch.setitem(FILES, task, file)
        return path

    return put


def put_minari(root, steps=5):
    folder = root / minari.counterparts()[PEN].id
    (folder / "data").mkdir(parents=True)
    with h5py.File(folder / minari.MAIN, "w") as file:
        group = file.create_group("episode_0")
        group["observations"] = np.zeros((steps + 1, 45))
        group["actions"] = np.zeros((steps, 24))
        for name in ("rewards", "terminations", "truncations"):
            group[name] = np.zeros(steps)
    (folder / "data" / "metadata.json").write_text("{}")
    return folder


# --- the order ------------------------------------------------------------------------------------
def test_places_are_listed_in_order(folders):
    assert [(place.source, place.path) for place in where(PEN)] == [
        ("d4rl", folders / "mine" / f"{PEN}.hdf5"),
        ("d4rl", folders / "mine" / "hand_dapg_v1" / f"{PEN}.hdf5"),
        ("d4rl", folders / "cache" / f"{PEN}.hdf5"),
        ("minari", folders / "minari" / "D4RL" / "pen" / "cloned-v2"),
        ("kit", folders / "mine" / f"kit-{PEN}-*.hdf5"),
    ]
    assert not any(place.found for place in where(PEN))


def test_folders_have_their_usual_places(folders, monkeypatch):
    for name in ("O2OKIT_DATA_DIR", "D4RL_DATASET_DIR", "MINARI_DATASETS_PATH"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folders / "me"))
    assert [place.path for place in where(PEN)] == [
        folders / "me" / ".d4rl" / "datasets" / f"{PEN}.hdf5",
        folders / "me" / ".minari" / "datasets" / "D4RL" / "pen" / "cloned-v2",
        folders / "data" / f"kit-{PEN}-*.hdf5",
    ]


def test_without_a_project_the_other_places_still_serve(folders, monkeypatch, publish):
    monkeypatch.delenv("O2OKIT_DATA_DIR")
    monkeypatch.setenv("O2OKIT_HOME", str(folders / "missing"))
    path = publish(folders / "cache" / NAME)
    assert find(TASK).path == path
    assert "O2OKIT_HOME" in where(TASK)[-1].note


def test_each_place_yields_to_the_one_before_it(folders, fields, publish):
    values = fields(obs=45, act=24)
    built = write_hdf5(kit_file(PEN, 40), values, {"seed": 1})
    assert find(PEN).path == built
    store = put_minari(folders / "minari")
    assert (find(PEN).source, find(PEN).path) == ("minari", store)
    for path in (
        folders / "cache" / f"{PEN}.hdf5",
        folders / "mine" / "hand_dapg_v1" / f"{PEN}.hdf5",
        folders / "mine" / f"{PEN}.hdf5",
    ):
        publish(path, PEN)
        assert (find(PEN).source, find(PEN).path) == ("d4rl", path)
    assert find(PEN, "kit").path == built
    assert find(PEN, "minari").source == "minari"
    assert load(PEN, "minari").source == "minari"
    assert load(PEN, built).source == "kit"
    assert load(PEN, folders / "minari" / "D4RL" / "pen" / "cloned-v2").source == "minari"


# --- D4RL's files ---------------------------------------------------------------------------------
def test_a_published_file_bears_the_tasks_name_and_its_hash(folders, publish):
    path = publish(folders / "cache" / NAME)
    data = load(TASK)
    assert (data.name, data.source, data.task) == (TASK, "d4rl", TASK)
    assert data.provenance["sha256"] == FILES[TASK].sha256
    assert data.provenance["published"] is True
    assert data.provenance["file"] == path.name
    assert len(load(TASK, mode="terminate_on_end")) == 39


@pytest.mark.parametrize("source", ["auto", "d4rl"])
def test_a_file_of_another_size_is_refused_unless_it_is_named(
    folders, publish, write, fields, source
):
    path = publish(folders / "cache" / NAME)
    write(path, fields(n=400))
    with pytest.raises(UserError, match=r"bytes where D4RL's file has .*o2okit data fetch"):
        load(TASK, source)
    data = load(TASK, path)
    assert data.provenance["published"] is False
    assert data.name == "file-hopper_medium-v2", "not D4RL's name for other data"


def test_a_file_of_another_hash_is_refused_unless_it_is_named(folders, publish, fields):
    path = publish(folders / "cache" / NAME)
    data = path.read_bytes()
    value = np.float32(-0.125).tobytes()
    path.write_bytes(data.replace(fields()["rewards"][:1].tobytes(), value))
    with pytest.raises(UserError, match="the SHA-256 is"):
        load(TASK)
    assert load(TASK, path).provenance["published"] is False
    assert load(TASK, path).rewards[0] == -0.125


def test_a_file_without_a_published_hash_is_compared_with_its_record(folders, fields):
    task = "relocate-expert-v1"
    path = write_hdf5(folders / "cache" / f"{task}.hdf5", fields(obs=39, act=30), {})
    assert load(task).provenance["published"] is None
    record = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    sources.record_of(path).write_text(json.dumps(record))
    assert load(task).provenance["published"] is True
    sources.record_of(path).write_text('{"sha256": "other"}')
    with pytest.raises(UserError, match=r"but that of D4RL's relocate-expert-v1\.hdf5 is other"):
        load(task)
    sources.record_of(path).write_text("{}")
    with pytest.raises(UserError, match=r"sha256\.json is damaged"):
        load(task)


def test_a_named_file_bears_d4rls_name_only_if_something_vouches_for_it(folders, fields, write):
    task = "relocate-expert-v1"
    path = write(folders / "mine.hdf5", fields(obs=39, act=30))
    data = load(task, path)
    assert (data.name, data.source, data.provenance["published"]) == ("file-mine", "file", None)
    record = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    sources.record_of(path).write_text(json.dumps(record))
    assert load(task, path).name == task


def test_a_file_without_provenance_serves_a_task_without_a_file_of_d4rls(folders, fields, write):
    data = load("pen-mixed", write(folders / "mine.hdf5", fields(obs=45, act=24)))
    assert (data.name, data.provenance["published"]) == ("file-mine", False)


def test_the_table_of_files_is_that_of_the_tasks():
    ours = {name: task.dataset_file for name, task in TASKS.items() if task.dataset_file}
    assert {name: file.path for name, file in FILES.items()} == ours


def test_sizes_and_hashes_are_complete_but_for_one_file():
    unknown = {name for name, file in FILES.items() if file.bytes is None or file.sha256 is None}
    assert unknown == {"relocate-expert-v1"}
    hashes = [file.sha256 for file in FILES.values() if file.sha256]
    assert {len(value) for value in hashes} == {64}
    assert len(set(hashes)) == len(hashes) == 37
    assert FILES[TASK].bytes == 152756557
    assert FILES["antmaze-large-play-v2"].sha256.startswith("6d353df2")


# --- kit datasets ---------------------------------------------------------------------------------
def test_the_largest_kit_dataset_is_taken_or_the_one_asked_for(fields):
    for rows in (9, 40, 100):
        write_hdf5(kit_file(TASK, rows), fields(n=rows), {"rows_asked": rows})
    for other in ("hopper-medium-replay-v2", "hopper-medium-v2-mine"):
        write_hdf5(kit_file(other, 500), fields(), {})
    assert find(TASK).path == kit_file(TASK, 100)
    assert [place.note for place in where(TASK) if place.found] == ["100 rows", "40 rows", "9 rows"]
    data = load(TASK, "kit", rows=40)
    assert (data.source, data.name) == ("kit", f"kit-{TASK}-40")
    assert data.provenance["rows_asked"] == 40
    with pytest.raises(UserError, match=r"no dataset of hopper-medium-v2 of 41 rows was found"):
        load(TASK, "kit", rows=41)


def test_rows_are_those_stored(fields):
    write_hdf5(kit_file(TASK, 40), fields(), {})
    place, rows = load_rows(TASK)
    assert (place.source, len(rows)) == ("kit", 40)
    assert len(load_rows(TASK, first=7)[1]) == 7


# --- errors ---------------------------------------------------------------------------------------
def test_when_nothing_is_found_the_places_and_the_next_step_are_named(folders):
    with pytest.raises(UserError) as caught:
        find(TASK)
    message = str(caught.value)
    assert f"no dataset of {TASK} was found (source 'auto')" in message
    assert str(folders / "cache" / NAME) in message
    assert f"o2okit data fetch {TASK}" in message
    assert f"o2okit data build {TASK}" in message
    assert "O2OKIT_DATA_DIR" in message


@pytest.mark.parametrize(
    ("task", "source", "said"),
    [
        ("pen-binary-v0", "auto", "pickled .npy files.*Use pen-cloned-v1 instead"),
        ("relocate-binary-v0", "kit", "Use relocate-cloned-v1 instead"),
        (
            "hopper",
            "auto",
            "names an environment, no dataset. With data there are: hopper-random-v2",
        ),
        ("toy-maze", "auto", r"none; those of the toy maze come from o2okit.data.maze"),
        ("ant-controller", "auto", "names an environment, no dataset"),
        ("hoper-medium-v2", "auto", "unknown task 'hoper-medium-v2'"),
        (TASK, "D4RL", "'D4RL' is neither a source .*nor a file"),
        (TASK, "/no/such.hdf5", "nor a Minari folder"),
    ],
)
def test_what_cannot_be_found_is_said_at_once(task, source, said):
    with pytest.raises(UserError, match=said):
        load(task, source)


@pytest.mark.parametrize(
    ("task", "name", "other", "obs", "act"),
    [
        ("walker2d-medium-v2", "x", "halfcheetah-medium-v2", 17, 6),
        ("walker2d-medium-v2", "halfcheetah_medium-v2", None, 17, 6),
        ("antmaze-large-play-v2", "x", "antmaze-umaze-v2", 29, 8),
    ],
)
def test_another_environments_file_of_equal_sizes_is_refused(
    folders, fields, write, task, name, other, obs, act
):
    path, values = folders / f"{name}.hdf5", fields(obs=obs, act=act)
    write_hdf5(path, values, {"name": f"kit-{other}"}) if other else write(path, values)
    theirs, ours = TASKS[other or "halfcheetah-medium-v2"].environment, TASKS[task].environment
    said = f"holds data of {theirs} .*but {task} needs those of {ours}"
    for use in (load, load_rows):
        with pytest.raises(UserError, match=said):
            use(task, path)


def test_another_quality_of_the_environment_may_be_named(folders, fields):
    path = write_hdf5(folders / "x.hdf5", fields(), {"name": "kit-hopper-expert-v2"})
    assert len(load(TASK, path)) == len(load("hopper-random-v2", path))


def test_another_tasks_file_is_refused(folders, fields):
    path = write_hdf5(folders / "x.hdf5", fields(obs=17, act=6), {})
    with pytest.raises(UserError, match="are not those of hopper-medium-v2"):
        load(TASK, path)
