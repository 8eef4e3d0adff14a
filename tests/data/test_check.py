"""Every kind of broken file, built for real; each gives one verdict that names what is wrong."""

import dataclasses
import gzip
import hashlib
import pickle
import re

import h5py
import numpy as np
import pytest

from o2okit.data import check as checking
from o2okit.data.check import check
from o2okit.data.hdf5 import read_rows, write_hdf5
from o2okit.data.sources import FILES, record_of
from o2okit.errors import UserError
from o2okit.tasks import TASKS

HOPPER, MAZE = "hopper-medium-v2", "antmaze-umaze-v2"


def changed(values, name, row, value):
    copy = values[name].astype(np.result_type(values[name], np.asarray(value).dtype))
    copy[row] = value
    return {**values, name: copy}


def without(values, *names):
    return {name: array for name, array in values.items() if name not in names}


def error(path, task=HOPPER):
    verdict = check(path, task)
    assert verdict.notes == ()
    assert verdict.error is not None
    assert "\n" not in verdict.error
    assert verdict.error.startswith(str(path)), "the file is named"
    with pytest.raises(UserError) as caught:
        read_rows(path, TASKS[task])
    assert str(caught.value) == verdict.error, "the reader refuses it with the same words"
    return verdict.error


# --- files that are none --------------------------------------------------------------------------
class Trap:
    def __reduce__(self):
        return (open, ("/tmp/o2okit-was-unpickled", "w"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"not a dataset at all", "not an HDF5 file. Delete"),
        (b"<!DOCTYPE html><h1>404</h1>", "a web page: the download failed"),
        (pickle.dumps(Trap()), "a pickle, which is never opened"),
        (b"\x93NUMPY\x01\x00" + bytes(100), "a NumPy file"),
        (gzip.compress(b"x" * 100), "a gzip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not an HDF5 file. Delete"),
    ],
    ids=["empty", "text", "web page", "pickle", "npy", "gzip", "lfs pointer"],
)
def test_something_else_than_hdf5(tmp_path, content, said):
    path = tmp_path / "x.hdf5"
    path.write_bytes(content)
    assert said in error(path)


def test_a_file_that_may_not_be_read_is_not_to_be_deleted(tmp_path, monkeypatch):
    (tmp_path / "x.hdf5").write_bytes(b"x")

    def closed(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", closed)
    error = check(tmp_path / "x.hdf5").error
    assert "may not be read. Mend its permissions" in error
    assert "Delete" not in error


def test_no_file_and_a_folder(tmp_path):
    assert "no such file" in error(tmp_path / "x.hdf5")
    assert "this is a folder" in error(tmp_path)


def test_a_file_that_is_cut_off(tmp_path, write, fields):
    path = write(tmp_path / "x.hdf5", fields(n=500))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert f"the file is cut off: {len(whole) // 2} of {len(whole)} bytes" in error(path)


def test_a_chunk_that_is_damaged(tmp_path, write, fields):
    path = write(tmp_path / "x.hdf5", fields(n=500), compression="gzip", fletcher32=True)
    with h5py.File(path) as file:
        place = file["rewards"].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[place + 5 : place + 25] = bytes(20)
    path.write_bytes(data)
    assert "rewards is damaged" in error(path)


# --- fields ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: without(f, "rewards"), "rewards missing"),
        (lambda f: without(f, "observations", "terminals"), "observations, terminals missing"),
        (lambda f: {**f, "actions": f["actions"][:-3]}, "differ in length: .*actions 37"),
        (lambda f: {**f, "timeouts": f["timeouts"][:-1]}, "differ in length: .*timeouts 39"),
        (lambda f: {k: v[:0] for k, v in f.items()}, "holds no rows"),
        (lambda f: {k: v[:1] for k, v in f.items()}, "holds a single row"),
        (lambda f: changed(f, "observations", 7, np.nan), "observations are not finite in 11.*row 7"),
        (lambda f: changed(f, "actions", 8, -np.inf), "actions are not finite in 3.*row 8"),
        (lambda f: changed(f, "rewards", 9, np.inf), "rewards are not finite in 1.*row 9"),
        (lambda f: changed(f, "rewards", 9, np.float64(1e300)), "rewards are not finite in 1.*row 9"),
        (lambda f: changed(f, "terminals", 3, 2.0), "terminals must be 0 or 1, but row 3 holds 2"),
        (lambda f: changed(f, "timeouts", 4, np.nan), "timeouts must be 0 or 1, but row 4 holds nan"),
        (lambda f: {**f, "observations": f["observations"][:, :, None]}, r"must be \[N, size\]"),
        (lambda f: {**f, "actions": f["actions"][:, 0]}, r"actions must be \[N, size\]"),
        (lambda f: {**f, "rewards": f["actions"]}, r"rewards must be \[N\], .*\(40, 3\)"),
        (lambda f: {**f, "actions": np.zeros((40, 3), int)}, "must be floating point .*int64"),
        (lambda f: {**f, "rewards": np.full(40, b"1.0")}, "rewards is not an array of numbers"),
        (lambda f: {**f, "rewards": np.float32(3)}, r"rewards must be \[N\]"),
        (lambda f: {**without(f, "rewards"), "rewards/x": f["rewards"]}, "rewards is not an array"),
        (lambda f: {**f, "observations": np.zeros((40, 17), "f4")}, "size 17 .*hopper-medium-v2: 11"),
        (lambda f: {**f, "actions": np.zeros((40, 6), "f4")}, "actions of size 6 are not"),
    ],
)  # fmt: skip
def test_fields_that_would_give_wrong_data(tmp_path, write, fields, change, said):
    path = write(tmp_path / "x.hdf5", change(fields()))
    assert re.search(said, error(path))


@pytest.mark.parametrize("kind", ["soft", "dangling", "external", "raw", "virtual", "group"])
def test_fields_that_lie_outside_the_file(tmp_path, write, fields, kind):
    values = fields()
    other = write(tmp_path / "other.hdf5", values)
    path = write(tmp_path / "x.hdf5", without(values, "rewards"))
    (tmp_path / "raw").write_bytes(values["rewards"].tobytes())
    with h5py.File(path, "r+") as file:
        if kind == "soft":
            file["kept"] = values["rewards"]
            file["rewards"] = h5py.SoftLink("/kept")
        elif kind == "dangling":
            file["rewards"] = h5py.SoftLink("/nowhere")
        elif kind == "external":
            file["rewards"] = h5py.ExternalLink(str(other), "/rewards")
        elif kind == "raw":
            external = [(str(tmp_path / "raw"), 0, 160)]
            file.create_dataset("rewards", shape=(40,), dtype="f4", external=external)
        elif kind == "virtual":
            layout = h5py.VirtualLayout(shape=(40,), dtype="f4")
            layout[:] = h5py.VirtualSource(str(other), "rewards", shape=(40,))
            file.create_virtual_dataset("rewards", layout)
        else:
            file["rewards"] = values["rewards"]
            file["infos"] = h5py.ExternalLink(str(other), "/")
    if kind == "group":
        with pytest.raises(UserError, match="lies outside the file"):
            read_rows(path, infos=["rewards"])
    else:
        assert "rewards lies outside the file" in error(path)


def test_objects_are_not_read(tmp_path, write, fields):
    path = write(tmp_path / "x.hdf5", without(fields(), "rewards"))
    with h5py.File(path, "r+") as file:
        file.create_dataset("rewards", (40,), dtype=h5py.string_dtype())
    assert "rewards is not an array of numbers" in error(path)


def test_a_file_of_timeouts_only_gives_no_transition(tmp_path, write, fields):
    from o2okit.data import d4rl

    path = write(tmp_path / "x.hdf5", {**fields(), "timeouts": np.ones(40, bool)})
    said = "none of its 40 rows gives a transition"
    with pytest.raises(UserError, match=said):
        d4rl.read(path, HOPPER)
    assert said in check(path, HOPPER).error


def without_values(file):
    del file["rewards"]
    file["rewards"] = h5py.Empty("f4")


def too_large(file):
    for name in list(file):
        shape, kind = file[name].shape, file[name].dtype
        del file[name]
        file.create_dataset(name, (10**14, *shape[1:]), kind, chunks=(100, *shape[1:]))


def nested(file):
    file.attrs["o2okit"] = "[" * 50_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_values, "rewards is not an array of numbers"),
        (too_large, "observations is damaged"),
        (nested, "'o2okit' is not a JSON object"),
    ],
)
def test_what_an_intact_file_may_hold_and_no_reader_can_use(tmp_path, write, fields, change, said):
    path = write(tmp_path / "x.hdf5", fields())
    with h5py.File(path, "r+") as file:
        change(file)
    assert said in error(path)


@pytest.mark.parametrize("raised", [RuntimeError, MemoryError, ValueError("precision"), OSError])
def test_all_that_h5py_raises_is_a_verdict(tmp_path, write, fields, monkeypatch, raised):
    path = write(tmp_path / "x.hdf5", fields())

    def get(*_, **__):
        raise raised

    monkeypatch.setattr(h5py.AttributeManager, "get", get)
    assert "is damaged (" in error(path)


def test_a_file_without_timeouts_needs_its_task(tmp_path, write, fields):
    path = write(tmp_path / "x.hdf5", without(fields(), "timeouts"))
    assert "does not mark time-outs. Name the task" in check(path).error


@pytest.mark.parametrize("text", ["{", "[1]", 3.5])
def test_a_provenance_that_is_none(tmp_path, write, fields, text):
    path = write(tmp_path / "x.hdf5", fields())
    with h5py.File(path, "r+") as file:
        file.attrs["o2okit"] = text
    assert "'o2okit' is not a JSON object" in error(path)


# --- files that can be used, and what is odd about them -------------------------------------------
def notes(path, task=HOPPER):
    verdict = check(path, task)
    assert verdict.error is None
    return list(verdict.notes)


def well_formed(fields, **options):
    """Time-outs at the horizon only: as D4RL's files are."""
    values = fields(n=2500, horizon=1000, **options)
    following = np.roll(values["observations"], -1, axis=0)
    return {**values, "next_observations": following}


def test_a_well_formed_file_has_no_notes(tmp_path, write, fields):
    assert notes(write(tmp_path / "x.hdf5", well_formed(fields))) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: changed(f, "actions", 5, 1.5), r"leave \[-1, 1\] in 1 rows \(up to 1.5\)"),
        (lambda f: without(f, "timeouts"), "time-outs are not marked"),
        (lambda f: changed(f, "terminals", 999, True), "1 rows are terminal and time-out"),
        (lambda f: changed(f, "next_observations", 77, 5.0), r"1 rows are not followed .*row 77\)"),
        (lambda f: {**f, "observations": np.zeros((2500, 11)), "next_observations": np.zeros((2500, 11))},
         "observations never change"),
        (lambda f: changed(f, "timeouts", 499, True), "2 time-outs come before step 1,000"),
        (lambda f: changed(f, "timeouts", 999, False), "1 episodes are longer than .*up to 2,000"),
    ],
)  # fmt: skip
def test_one_oddity_gives_one_note(tmp_path, write, fields, change, said):
    found = notes(write(tmp_path / "x.hdf5", change(well_formed(fields))))
    assert len(found) == 1
    assert re.search(said, found[0])


@pytest.mark.parametrize(
    "following", [np.full((2500, 11), np.nan), np.zeros((2499, 11)), np.zeros((2500, 3))]
)
def test_what_the_reader_ignores_makes_no_file_unusable(tmp_path, write, fields, following):
    path = write(tmp_path / "x.hdf5", {**well_formed(fields), "next_observations": following})
    (note,) = notes(path)
    assert note.startswith("next_observations can't be used")
    assert len(read_rows(path, TASKS[HOPPER])) == 2500


def test_a_timeout_at_the_end_of_the_file_is_not_early(tmp_path, write, fields):
    values = changed(well_formed(fields), "timeouts", 2499, True)
    assert notes(write(tmp_path / "x.hdf5", values)) == []


def test_a_file_without_any_end_says_so(tmp_path, write, fields):
    found = notes(write(tmp_path / "x.hdf5", fields(n=40, horizon=1000)))
    assert found == ["no end of an episode is marked: all rows count as one episode"]


def maze(fields):
    """Episodes of 701 rows and runs of goal rows amid them, as in D4RL's files."""
    values = fields(n=2200, obs=29, act=8, horizon=701)
    goals = np.isin(np.arange(2200), [50, 51, 52, 900])
    return {**values, "rewards": goals.astype(np.float32), "terminals": goals}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: {**f, "rewards": f["rewards"] - 1}, "the rewards are not 0 and 1"),
        (lambda f: changed(f, "terminals", 51, False), "do not coincide"),
        (lambda f: changed(f, "timeouts", 1401, False), "1 episodes are longer than the 701 rows"),
    ],
)
def test_a_maze_is_judged_by_its_own_rules(tmp_path, write, fields, change, said):
    path = write(tmp_path / "x.hdf5", maze(fields))
    assert notes(path, MAZE) == []
    path = write(tmp_path / "y.hdf5", change(maze(fields)))
    (note,) = notes(path, MAZE)
    assert said in note


@pytest.mark.parametrize("change", ["size", "hash", "recorded", "none"])
def test_a_file_under_d4rls_name_is_compared_with_d4rls(tmp_path, fields, monkeypatch, change):
    path = write_hdf5(tmp_path / "hopper_medium-v2.hdf5", well_formed(fields), {})
    size, digest = path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
    published = FILES[HOPPER]._replace(
        bytes=size + (change == "size"), sha256="0" * 64 if change == "hash" else digest
    )
    if change == "recorded":
        published = published._replace(bytes=None, sha256=None)
        record_of(path).write_text('{"sha256": "abc"}')
    monkeypatch.setitem(FILES, HOPPER, published)
    verdict = check(path)
    assert verdict.task == HOPPER, "known by the file's name"
    said = {
        "size": [f"{size:,} bytes where D4RL's file has {size + 1:,}"],
        "hash": ["the SHA-256 differs"],
        "recorded": ["the SHA-256 differs"],
        "none": [],
    }
    assert [note.partition("this name: ")[2] for note in verdict.notes] == said[change]


def test_the_task_is_known_by_the_kits_name(tmp_path, fields):
    path = write_hdf5(tmp_path / "kit-hopper-random-v2-2500.hdf5", well_formed(fields), {})
    assert check(path).task == "hopper-random-v2"
    assert check(path).notes == ()


def test_an_unknown_task_is_a_mistake_of_the_user(tmp_path):
    with pytest.raises(UserError, match=r"unknown task 'hoper-medium-v2'\. Did you mean"):
        check(tmp_path / "x.hdf5", "hoper-medium-v2")


def test_the_tolerance_lets_float32_ones_pass(tmp_path, write, fields):
    values = changed(well_formed(fields), "actions", 5, np.float32(1) + np.float32(1e-6))
    assert notes(write(tmp_path / "x.hdf5", values)) == []
    assert checking.TOLERANCE < 1e-4


def test_a_verdict_cannot_be_changed(tmp_path):
    with pytest.raises(dataclasses.FrozenInstanceError):
        check(tmp_path / "x.hdf5").error = None
