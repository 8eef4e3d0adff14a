"""Finished runs leave for another store, and come back; nothing else does."""

import json
import shutil
import zipfile

import pytest

from o2okit.cli import main
from o2okit.data.maze import scripted
from o2okit.errors import UserError
from o2okit.papers import study
from o2okit.training import Run, RunSpec, RunStore, train
from o2okit.training.archive import restore, write_archive
from o2okit.training.store import write_json

DATA = scripted(transitions=2_000)


def specs(steps=300):
    """Two runs in the toy maze, each on its own offline run."""
    every = {"dataset": DATA, "eval_every": 100}
    pre = [RunSpec("toy-maze", "cql-discrete", "offline", 200, seed, **every) for seed in (0, 1)]
    more = {"replay": "mixed", **every}
    return [
        RunSpec("toy-maze", "cql-discrete", "online", steps, run.seed, start=run, **more)
        for run in pre
    ]


def assert_same(runs, others):
    for run, other in zip(runs, others, strict=True):
        assert run.evaluations().equals(other.evaluations())
        state = other.state()
        assert all((value == state[name]).all() for name, value in run.state().items())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A store with two fine-tuned runs and the two that they continue, and its runs."""
    store = RunStore(tmp_path_factory.mktemp("home"))
    return store, train(specs(), store=store, device="cpu")


@pytest.fixture
def elsewhere(tmp_path):
    return RunStore(tmp_path / "elsewhere")


def pack(home, tmp_path, **options):
    file = tmp_path / "runs.zip"
    assert write_archive(file, home[0].folders(), **options) == 4
    return file


def files_of(store):
    return {
        str(file.relative_to(store.root)): file.read_bytes()
        for file in store.root.rglob("*")
        if file.is_file() and file.name != "lock"
    }


def test_an_archive_holds_what_was_measured_and_is_the_same_twice(home, tmp_path, elsewhere):
    file = pack(home, tmp_path)
    first = file.read_bytes()
    assert pack(home, tmp_path).read_bytes() == first
    found = restore(file, elsewhere)
    assert (found.taken, found.there, found.begun) == (4, 0, 0)
    measured = {
        name: data for name, data in files_of(home[0]).items() if not name.endswith(".safetensors")
    }
    assert files_of(elsewhere) == measured
    again = restore(file, elsewhere)
    assert (again.taken, again.there, again.begun) == (0, 4, 0)


def test_restored_runs_are_found_and_have_no_agent(home, tmp_path, elsewhere, capsys):
    restore(pack(home, tmp_path), elsewhere)
    runs = train(specs(), store=elsewhere, device="cpu")
    assert "x2" not in capsys.readouterr().out  # no progress: nothing is trained
    for run, before in zip(runs, home[1], strict=True):
        assert run.evaluations().equals(before.evaluations())
    with pytest.raises(UserError, match="came from an archive"):
        runs[0].state()


def test_whoever_continues_a_restored_run_trains_it_again(home, tmp_path, elsewhere):
    restore(pack(home, tmp_path), elsewhere)
    ours = train(specs(200), store=elsewhere, device="cpu")
    theirs = train(specs(200), store=RunStore(tmp_path / "fresh"), device="cpu")
    assert_same(ours, theirs)
    assert_same(
        [Run(run.spec.start, elsewhere.folder(run.spec.start)) for run in ours],
        [Run(run.spec.start, home[0].folder(run.spec.start)) for run in ours],
    )


def test_with_their_agents_runs_are_continued_as_they_are(home, tmp_path, elsewhere):
    restore(pack(home, tmp_path, agents=True), elsewhere)
    assert files_of(elsewhere) == files_of(home[0])


def test_snapshots_go_with_the_agents_and_whoever_needs_them_says_so(tmp_path, elsewhere):
    behaviour = RunSpec(
        *("toy-maze", "dqn", "online", 60, 0),
        replay="online",
        learning_starts=10,
        eval_every=60,
        snapshot_every=20,
    )
    (run,) = train([behaviour], store=RunStore(tmp_path / "home"), device="cpu")
    for agents, kept in ((False, []), (True, [20, 40, 60])):
        write_archive(tmp_path / "runs.zip", [run.folder], agents=agents)
        there = RunStore(tmp_path / f"agents {agents}")
        restore(tmp_path / "runs.zip", there)
        found = Run(behaviour, there.folder(behaviour))
        assert found.snapshots() == kept
        if agents:
            assert found.checkpoints() == kept
        else:
            with pytest.raises(UserError, match="came from an archive without agents"):
                found.checkpoints()


def test_what_the_store_has_begun_stays(home, tmp_path, elsewhere):
    file = pack(home, tmp_path)
    begun, running = (elsewhere.folder(run.spec) for run in home[1])
    shutil.copytree(home[0].folder(home[1][0].spec).path, begun.path)
    (begun.path / "result.json").unlink()
    (begun.path / "evaluations.csv").write_text("mine")
    lock = running.try_lock()
    found = restore(file, elsewhere)
    lock.release()
    assert (found.taken, found.there, found.begun) == (2, 0, 2)
    assert (begun.path / "evaluations.csv").read_text() == "mine"
    assert not running.finished


def altered(file, change):
    """The archive with its members changed: a function of the list of (name, bytes)."""
    with zipfile.ZipFile(file) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in change(members):
            archive.writestr(name, data)


def with_another_seed(members):
    for name, data in members:
        if name.endswith("spec.json"):
            data = json.dumps(json.loads(data) | {"seed": 77}).encode()
        yield name, data


def with_content(name, content):
    return lambda members: [(n, content if n.endswith(name) else data) for n, data in members]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda members: [("../evil", b"x"), *members], "is no archive of runs: it holds"),
        (lambda members: [*members, ("0123456789abcdef/code.py", b"x")], "is no archive of runs"),
        (lambda members: [m for m in members if "result" not in m[0]], "lacks result.json"),
        (with_another_seed, "it was altered"),
        (lambda members: [(n, b"{" if "spec" in n else d) for n, d in members], "is no JSON"),
        (with_content("spec.json", b"[" * 100_000), "spec.json of run .* is no JSON"),
        (with_content("spec.json", b"null"), "spec.json of run .* is no JSON object"),
        (with_content("spec.json", b"{}"), "task, backbone, method, phase, steps, seed: missing"),
        (with_content("environment.json", b"[]"), "environment.json of run .* is no JSON object"),
        (with_content("result.json", b"{}"), r"result\.json of run .*diverged: missing"),
        (with_content("evaluations.csv", b""), "lacks evaluations.csv"),
        (with_content("evaluations.csv", b"step,x\n0,1\n"), "columns return, length are missing"),
        (with_content("evaluations.csv", b"step,return,length\n0,a,1\n"), "return must be numbers"),
        (with_content("metrics.csv", b"step,loss\n,1\n"), "step must be numbers"),
    ],
    ids=[
        *("a path outside", "a foreign file", "unfinished", "altered", "damaged", "nested"),
        *("no spec", "empty spec", "environment", "result", "no evaluations", "other columns"),
        *("text for numbers", "a step that is none"),
    ],
)
def test_a_bad_archive_is_refused_before_anything_is_written(
    home, tmp_path, elsewhere, change, words
):
    file = pack(home, tmp_path)
    altered(file, change)
    with pytest.raises(UserError, match=words):
        restore(file, elsewhere)
    assert not list(elsewhere.root.iterdir())


def test_what_is_no_archive_is_refused(tmp_path, elsewhere):
    file = tmp_path / "runs.zip"
    with pytest.raises(UserError, match="No such file"):
        restore(file, elsewhere)
    file.write_bytes(b"no zip")
    with pytest.raises(UserError, match="not a zip file"):
        restore(file, elsewhere)


@pytest.mark.parametrize(
    ("place", "value"),
    [("deflate", 0xFF), ("data", 0xFF), ("method", 98), ("method", zipfile.ZIP_LZMA), ("flags", 1)],
    ids=["no deflate stream", "flipped bits", "unknown packing", "no lzma stream", "encrypted"],
)
def test_a_damaged_zip_file_is_refused(home, tmp_path, elsewhere, place, value):
    file = pack(home, tmp_path)
    data = bytearray(file.read_bytes())
    central = data.index(b"PK\x01\x02")  # the directory, whose flags and packing count
    name, extra = (int.from_bytes(data[at : at + 2], "little") for at in (26, 28))
    first = 30 + name + extra  # byte of the first member's data
    at = {"deflate": first, "data": first + 40, "method": central + 10, "flags": central + 8}
    data[at[place]] = value
    file.write_bytes(data)
    with pytest.raises(UserError, match="can't be read as an archive of runs"):
        restore(file, elsewhere)
    assert not list(elsewhere.root.iterdir())


def test_the_command_line_takes_a_store_or_sections(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("O2OKIT_RUNS", str(home[0].root))
    file = tmp_path / "runs.zip"
    assert main(["archive", str(file)]) == 0
    assert "4 finished runs of 4" in capsys.readouterr().out
    monkeypatch.setenv("O2OKIT_RUNS", str(tmp_path / "elsewhere"))
    assert main(["restore", str(file)]) == 0
    assert "4 runs taken over; 0 are finished here" in capsys.readouterr().out
    assert main(["archive", str(file), "gde/toy_maze"]) == 2
    assert "none of the runs is finished here" in capsys.readouterr().err
    assert main(["archive", str(file), "-p", "profile", "smoke"]) == 2
    assert "parameters are of sections" in capsys.readouterr().err


def test_sections_are_packed_with_what_their_runs_start_from(tmp_path, monkeypatch, capsys):
    """Ten online runs on two offline ones, and four runs of the store that are not the section's."""
    monkeypatch.setenv("O2OKIT_RUNS", str(tmp_path / "runs"))
    store = RunStore()
    section = [r for run in study("gde/toy_maze", profile="smoke").specs() for r in run.lineage()]
    for spec in (*section, *specs()):
        for name, content in (("spec", spec.describe()), ("environment", {}), ("result", {})):
            write_json(store.folder(spec).path / f"{name}.json", content)
    file = tmp_path / "runs.zip"
    assert main(["archive", str(file), "gde/toy_maze", "--profile", "smoke"]) == 0
    assert "12 finished runs of 12" in capsys.readouterr().out
    with zipfile.ZipFile(file) as archive:
        packed = {name.split("/")[0] for name in archive.namelist()}
    assert packed == {spec.id for spec in section}
