"""The store and the loop with real processes: killed, side by side, without space."""

import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import safe_open

from o2okit.data.maze import scripted
from o2okit.errors import UserError
from o2okit.training import RunSpec, RunStore, StoreError, train
from o2okit.training.cohort import Cohort
from o2okit.training.run import mixed_starts, trained_with
from o2okit.training.status import summary
from o2okit.training.store import write_atomically, write_json

training = importlib.import_module(
    "o2okit.training.train"
)  # the package has a function of that name
DATA = scripted(transitions=2_000)
STEPS = 1_500


def specs(seeds=(0, 1), steps=STEPS, **changes) -> list[RunSpec]:
    pre = [
        RunSpec("toy-maze", "cql-discrete", "offline", 200, seed, dataset=DATA, eval_every=100)
        for seed in seeds
    ]
    values = {
        "hyper": {"epsilon": 0.3, "alpha": 0.5},
        "dataset": DATA,
        "replay": "mixed",
        "keep_replay": True,
        "eval_every": 100,
        **changes,
    }
    return [
        RunSpec("toy-maze", "cql-discrete", "online", steps, start.seed, start=start, **values)
        for start in pre
    ]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return train(specs(), store=RunStore(tmp_path_factory.mktemp("whole")), device="cpu")


def assert_same(runs, others):
    for a, b in zip(runs, others, strict=True):
        for table in ("evaluations", "episodes", "metrics"):
            pd.testing.assert_frame_equal(
                a.folder.table(table), b.folder.table(table), check_exact=True
            )
        left, right = a.state(), b.state()
        assert left.keys() == right.keys()
        assert all((left[key] == right[key]).all() for key in left)


def offline(steps, **changes):
    values = {"dataset": DATA, "eval_every": 100, **changes}
    return [RunSpec("toy-maze", "cql-discrete", "offline", steps, s, **values) for s in (0, 1)]


def test_the_score_of_a_task_without_references_is_its_return(uninterrupted):
    """``tests/test_experiment.py`` has a normalised one."""
    curve = uninterrupted[0].curve()
    assert curve["score"].tolist() == curve["return"].tolist()
    assert curve.drop(columns="score").equals(uninterrupted[0].evaluations())


def test_a_longer_offline_run_goes_on_from_a_shorter_one(tmp_path, monkeypatch):
    store = RunStore(tmp_path / "store")
    train(offline(100), store=store, device="cpu")
    for short in train(offline(200), store=store, device="cpu"):
        assert short.folder.result()["steps"] == 200
    trained, advance = [], Cohort.advance
    monkeypatch.setattr(Cohort, "advance", lambda self: (trained.append(self.step), advance(self)))
    longer = train(offline(400), store=store, device="cpu")
    assert trained == list(range(200, 400))
    assert_same(longer, train(offline(400), store=RunStore(tmp_path / "whole"), device="cpu"))
    kept = sorted(folder.spec()["steps"] for folder in store.folders())
    assert kept == [100, 100, 200, 200, 400, 400]


@pytest.mark.parametrize("before", [[], offline(100)], ids=["nothing", "shorter ones"])
def test_a_beginning_that_another_process_finishes_meanwhile_goes_apart(
    tmp_path, monkeypatch, before
):
    """Seed 0 finds a longer beginning than it was grouped by, seed 1 does not."""
    store, train_cohort = RunStore(tmp_path / "store"), training._train_cohort
    train(before, store=store, device="cpu")

    def overtaken(*args):
        monkeypatch.undo()
        train(offline(200)[:1], store=store, device="cpu")
        train_cohort(*args)

    monkeypatch.setattr(training, "_train_cohort", overtaken)
    found = train(offline(300), store=store, device="cpu")
    assert_same(found, train(offline(300), store=RunStore(tmp_path / "whole"), device="cpu"))


def test_what_goes_on_has_the_snapshots_of_before(tmp_path):
    store = RunStore(tmp_path)
    train(offline(200, snapshot_every=100), store=store, device="cpu")
    for run in train(offline(300, snapshot_every=100), store=store, device="cpu"):
        assert run.snapshots() == [100, 200, 300]
        assert run.agent(100).state()


def test_killed_while_it_takes_over_a_shorter_one_it_is_not_finished(tmp_path, monkeypatch):
    """Restored from an archive it has its result and no agent: what is missing comes from a shorter run."""
    store = RunStore(tmp_path)
    longer = train(offline(200), store=store, device="cpu")
    train(offline(100), store=store, device="cpu")
    for run in longer:
        (run.folder.path / "checkpoint.safetensors").unlink()
        assert run.folder.finished
    start = longer[0].spec
    online = RunSpec(
        *("toy-maze", "cql-discrete", "online", 50, 0),
        dataset=DATA,
        replay="mixed",
        start=start,
        eval_every=50,
    )

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "Cohort", killed)
        with pytest.raises(KeyboardInterrupt):
            train([online], store=store, device="cpu")
    assert not store.folder(start).finished
    train([online], store=store, device="cpu")
    assert store.folder(start).checkpoint_step() == 200


def test_another_run_that_is_damaged_stops_nobody(tmp_path):
    store = RunStore(tmp_path)
    for short in train(offline(100), store=store, device="cpu"):
        (short.folder.path / "spec.json").write_text("{")
    for name, content in zip("abcd", ("{}", "[]", "5", "null"), strict=True):
        (tmp_path / name).mkdir()
        (tmp_path / name / "spec.json").write_text(content)
    assert all(run.folder.finished for run in train(offline(200), store=store, device="cpu"))


@pytest.mark.parametrize(
    "other",
    [
        offline(400),  # longer
        offline(250),  # with an evaluation at its end that a longer run does not have
        offline(200, eval_every=50),
        offline(200, dataset=scripted(transitions=1_500)),
    ],
    ids=["longer", "uneven", "other evaluations", "other data"],
)
def test_no_other_run_is_a_beginning(tmp_path, other):
    store = RunStore(tmp_path)
    train(other, store=store, device="cpu")
    assert [store.shorter(spec) for spec in offline(300)] == [None, None]
    (online, _) = specs(steps=300)
    assert store.shorter(online) is None


PROGRAM = """
import sys
from test_train import specs
from o2okit.training import RunStore, train
train(specs(), store=RunStore(sys.argv[1]), device="cpu", checkpoint_seconds=0, label="child")
print("done", flush=True)
"""


def start(store, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(store)],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def wait_for_step(store, spec, low):
    """Until the run's checkpoint holds at least step ``low``."""
    file = store.folder(spec).path / "checkpoint.safetensors"
    for _ in range(1_200):
        if file.is_file():
            with safe_open(file, framework="pt") as handle:
                step = json.loads(handle.metadata()["o2okit"])["step"]
            if step >= low:
                return step
        time.sleep(0.05)
    raise AssertionError("the child never came that far")


def test_a_killed_process_loses_nothing_but_time(tmp_path, uninterrupted, monkeypatch):
    store = RunStore(tmp_path)
    child = start(tmp_path)
    wait_for_step(store, specs()[1], 300)  # the last one written: the next is 100 steps away
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    step, other = (store.folder(spec).checkpoint_step() for spec in specs())
    assert step == other, "killed between the checkpoints of two runs"
    # Tables are written before the checkpoint: a kill between leaves rows that are not its own.
    for name in ("evaluations", "episodes", "metrics"):
        table = store.folder(specs()[0]).table(name)
        rows = pd.concat([table, table.tail(1).assign(step=step + 1)]).to_dict("records")
        store.folder(specs()[0]).write_tables({name: rows})
    assert step < STEPS, "killed too late to show anything"
    assert not store.folder(specs()[0]).finished
    assert "interrupted at" in summary(store)
    assert "toy-maze cql-discrete offline: 2 finished" in summary(store)
    assert "toy-maze cql-discrete naive online: 2 interrupted" in summary(store)
    assert_same(count_steps(monkeypatch, store, expected=STEPS - step), uninterrupted)


def count_steps(monkeypatch, store, expected):
    """Trains on, and demands that exactly the missing steps are done."""
    done, advance = [], Cohort.advance
    monkeypatch.setattr(Cohort, "advance", lambda cohort: (done.append(1), advance(cohort)))
    runs = train(specs(), store=store, device="cpu")
    assert len(done) == expected
    return runs


def test_progress_is_printed_in_a_log(tmp_path, capsys):
    train(specs(seeds=(0,), steps=200), store=RunStore(tmp_path), device="cpu", label="maze")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("maze offline cql-discrete x1: 200/200 (100%)")
    assert lines[1].startswith("maze online cql-discrete x1: 200/200 (100%)")
    assert "steps/s" in lines[1]
    assert "return -" in lines[1]


def test_half_written_files_of_a_killed_process_are_removed(tmp_path):
    [spec] = specs(seeds=(0,), steps=100)
    store = RunStore(tmp_path)
    store.folder(spec).path.mkdir()
    leftover = store.folder(spec).path / ".checkpoint.safetensors.123.tmp"
    leftover.write_bytes(b"half")
    train([spec], store=store, device="cpu")
    assert not leftover.exists()


def test_two_processes_on_one_run_train_it_once(tmp_path, uninterrupted):
    first = start(tmp_path)
    wait_for_step(RunStore(tmp_path), specs()[0], 100)
    assert "running at" in summary(RunStore(tmp_path))
    second = start(tmp_path)
    outputs = [child.communicate(timeout=120)[0] for child in (first, second)]
    assert [child.returncode for child in (first, second)] == [0, 0], outputs
    assert "waiting" in outputs[1]
    assert "online" not in outputs[1].split("waiting")[0], "the second trained what the first had"
    assert_same(train(specs(), store=RunStore(tmp_path), device="cpu"), uninterrupted)


def test_finished_runs_are_found_again(uninterrupted):
    store = RunStore(uninterrupted[0].folder.path.parent)
    files = {f: f.stat().st_mtime_ns for f in store.root.rglob("*") if f.name != "lock"}
    again = train(specs(), store=store, device="cpu")
    assert_same(again, uninterrupted)
    assert files == {f: f.stat().st_mtime_ns for f in store.root.rglob("*") if f.name != "lock"}


def test_a_run_holds_what_the_store_promises(uninterrupted):
    run = uninterrupted[1]
    assert json.loads((run.folder.path / "spec.json").read_text()) == run.spec.describe()
    environment = json.loads((run.folder.path / "environment.json").read_text())
    assert environment["packages"]["torch"]
    assert environment["dataset"] == dict(DATA.provenance)
    assert run.evaluations()["step"].tolist() == list(range(0, STEPS + 1, 100))
    assert run.folder.result()["steps"] == STEPS
    assert run.transitions().obs.shape == (STEPS,)
    offline = RunStore(run.folder.path.parent).folder(run.spec.start)
    assert offline.table("evaluations")["return"].iloc[-1] == run.evaluations()["return"].iloc[0]


def test_snapshots_are_kept_and_can_act(tmp_path):
    [run] = train(
        specs(seeds=(4,), steps=200, snapshot_every=100), store=RunStore(tmp_path), device="cpu"
    )
    assert run.snapshots() == [100, 200]
    last, kept = run.agent(), run.agent(200)
    assert (last.q.flat == kept.q.flat).all()
    assert (last.q.flat != run.agent(100).q.flat).any()


def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path, uninterrupted):
    """A real refusal by the kernel: files of this process may not grow beyond 400 kB."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    child = start(tmp_path, preexec_fn=limit)
    output = child.communicate(timeout=120)[0]
    assert child.returncode != 0
    assert "could not write" in output
    assert "File too large" in output
    assert not list(tmp_path.rglob("*.tmp")), "half-written files must not stay"
    assert_same(train(specs(), store=RunStore(tmp_path), device="cpu"), uninterrupted)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "result.json"
    write_atomically(file, b"old")
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match=r"could not write .*File exists.*before is intact"):
        write_atomically(tmp_path / "taken" / "x.json", b"new")
    assert file.read_bytes() == b"old"


@pytest.mark.parametrize(
    "name", ["spec.json", "result.json", "environment.json", "evaluations.csv"]
)
def test_a_damaged_file_of_a_run_is_named(tmp_path, name):
    folder = RunStore(tmp_path).folder(specs(seeds=(0,))[0])
    folder.path.mkdir()
    (folder.path / name).write_bytes(b"\xff\xfe,{")
    read = {"evaluations.csv": lambda: folder.table("evaluations")}.get(
        name, getattr(folder, name.split(".")[0], None)
    )
    with pytest.raises(StoreError, match=rf"{name} is damaged .*Delete the folder"):
        read()


def test_a_broken_checkpoint_is_named(tmp_path):
    store = RunStore(tmp_path)
    [run] = train(specs(seeds=(0,), steps=100), store=store, device="cpu")
    (run.folder.path / "checkpoint.safetensors").write_bytes(b"rubbish")
    with pytest.raises(StoreError, match=r"can't be read .*Delete the folder"):
        run.state()
    (run.folder.path / "checkpoint.safetensors").unlink()
    with pytest.raises(StoreError, match="is missing although the run is finished"):
        run.agent()


@pytest.mark.parametrize("header", [{}, {"step": "5"}], ids=["no step", "text"])
def test_a_checkpoint_without_its_step_is_named(tmp_path, header):
    folder = RunStore(tmp_path).folder(specs(seeds=(0,))[0])
    folder.save_tensors("checkpoint", {"x": torch.zeros(1)}, **header)
    for read in (folder.checkpoint_step, lambda: folder.load_tensors("checkpoint")):
        with pytest.raises(StoreError, match=r"can't be read \(.*step.*Delete the folder"):
            read()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is missing or lacks step, return, length, time-out, left goal"),
        (b"step,return,length\n0,1,1\n", "is missing or lacks time-out, left goal"),
        (b"return\n1\n", "columns step, length are missing"),
        (b"step,return,length\n0,much,1\n", "return must be numbers"),
    ],
    ids=["gone", "no outcome", "no step", "text"],
)
def test_evaluations_that_are_not_a_runs_are_named(tmp_path, content, said):
    [run] = train(offline(100)[:1], store=RunStore(tmp_path), device="cpu")
    file = run.folder.path / "evaluations.csv"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(StoreError, match=said):
        run.curve()


def test_an_interrupted_run_without_its_evaluations_does_not_go_on(tmp_path):
    store = RunStore(tmp_path)
    for run in train(offline(100), store=store, device="cpu"):
        (run.folder.path / "result.json").unlink()
        (run.folder.path / "evaluations.csv").unlink()
    with pytest.raises(StoreError, match=r"evaluations\.csv is missing"):
        train(offline(100), store=store, device="cpu")


def test_interrupted_runs_of_different_progress_resume_apart(tmp_path, uninterrupted):
    """Seed 0 was interrupted early, seed 1 not begun: both end as if trained together."""
    store = RunStore(tmp_path)
    child = start(tmp_path)
    wait_for_step(store, specs()[0], 200)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    for file in store.folder(specs()[1]).path.iterdir():
        file.unlink()
    assert_same(train(specs(), store=store, device="cpu"), uninterrupted)


def test_a_diverged_run_is_recorded_and_leaves_its_cohort_alone(tmp_path):
    [healthy] = specs(seeds=(0,), steps=200)
    # An infinite penalty makes every parameter of that run nan at its first update.
    [broken] = specs(seeds=(0,), steps=200, hyper={"epsilon": 0.3, "alpha": 1e39})  # of a float32
    assert healthy.cohort == broken.cohort
    runs = train([healthy, broken], store=RunStore(tmp_path / "both"), device="cpu")
    assert [run.folder.result()["diverged"] for run in runs] == [False, True]
    assert_same(runs[:1], train([healthy], store=RunStore(tmp_path / "one"), device="cpu"))


def test_what_earlier_sessions_took_and_were_is_kept(tmp_path, monkeypatch):
    store, [spec] = RunStore(tmp_path), specs(seeds=(0,), steps=200)[:1]
    train([spec.start], store=store, device="cpu")
    advance = Cohort.advance

    def until_150(cohort):
        if cohort.step == 150:
            raise KeyboardInterrupt
        time.sleep(0.002)
        advance(cohort)

    monkeypatch.setattr(Cohort, "advance", until_150)
    monkeypatch.setattr(training, "SAVING_SHARE", float("inf"))  # however slow the disk is
    monkeypatch.setattr(training, "environment", lambda device: {"commit": "first"})
    with pytest.raises(KeyboardInterrupt):
        train([spec], store=store, device="cpu", checkpoint_seconds=0)
    monkeypatch.setattr(Cohort, "advance", advance)
    monkeypatch.setattr(training, "environment", lambda device: {"commit": "second"})
    (run,) = train([spec], store=store, device="cpu")
    first, second = run.folder.environments()
    assert (first["commit"], second["commit"]) == ("first", "second")
    assert 50 < first["until"] <= 150, "the step of the last checkpoint"
    assert run.folder.environment()["commit"] == "second"
    assert run.folder.result()["seconds"] > first["until"] * 0.002


def test_a_clock_goes_on_from_earlier_sessions(monkeypatch):
    """Two runs between whose checkpoints a kill came; one from before processor time was kept."""
    older = {"step": 3, "seconds": 10.0}
    before = [older | {"processor_seconds": 3.0}, {"seconds": 12.0, "processor_seconds": 4.0}]
    now = {"monotonic": 100.0, "process_time": 50.0}
    for name in now:
        monkeypatch.setattr(training.time, name, lambda name=name: now[name])
    clock, partly, fresh = map(training.Clock, (before, [older, *before], []))
    now |= {"monotonic": 105.0, "process_time": 53.0}
    assert clock.spent() == {"seconds": 17.0, "processor_seconds": 7.0}
    assert partly.spent() == {"seconds": 17.0}, "of a part of it only"
    assert fresh.spent() == {"seconds": 5.0, "processor_seconds": 3.0}


def test_what_a_run_starts_from_is_a_part_of_what_it_was_trained_with(tmp_path, monkeypatch):
    store, (spec,) = RunStore(tmp_path), specs(seeds=(0,), steps=100)
    for one, commit in ((spec.start, "offline"), (spec, "online")):
        where = {"commit": commit, "device": "cpu", "packages": {"torch": f"2 {commit}"}}
        monkeypatch.setattr(training, "environment", lambda device, where=where: where)
        (run,) = train([one], store=store, device="cpu")
    assert [each["commit"] for each in run.environments()] == ["offline", "online"]
    everything = {"commit": ["offline", "online"], "device": ["cpu"], "bfloat16": ["None"]}
    everything["torch"] = ["2 offline", "2 online"]
    assert trained_with([run]) == {**everything, "mixed_starts": []}
    shutil.rmtree(store.folder(spec.start).path)
    assert trained_with([run])["commit"] == ["online"], "what is gone is not asked"


def test_runs_that_start_from_an_agent_and_from_one_trained_anew_are_told_apart(tmp_path):
    """The second rounds otherwise: an archive's runs, and those that are added on another processor."""
    store, every = RunStore(tmp_path), [specs((0, 1), 100, hyper={"alpha": a}) for a in (1, 2, 3)]
    first = train(every[0], store=store, device="cpu")
    folder = store.folder(every[0][0].start)
    tensors, header = folder.load_tensors("checkpoint")
    name = next(name for name in tensors if name.startswith("agent/"))
    folder.save_tensors("checkpoint", {**tensors, name: tensors[name] * (1 + 1e-6)}, **header)
    second = train(every[1], store=store, device="cpu")
    third = train(every[2], store=store, device="cpu")
    assert mixed_starts([*first, *second]) == [every[0][0].start.id], "seed 0's alone"
    assert mixed_starts([*second, *third]) == []
    assert trained_with([*first, *third])["mixed_starts"] == [every[0][0].start.id]
    file = first[0].folder.path / "environment.json"
    silent = {k: v for k, v in first[0].folder.environment().items() if k != "start"}
    write_json(file, silent)
    assert mixed_starts([*first, *second]) == [], "a record of earlier versions"


def test_what_a_resumed_run_started_from_stays(tmp_path):
    folder = RunStore(tmp_path).folder(specs()[0])
    folder.path.mkdir()
    write_json(folder.path / "environment.json", {"commit": "one", "start": "agent"})
    for commit in ("one", "two"):
        write_json(folder.path / "environment.json", folder.continued({"commit": commit}, 5))
    first, second = folder.environments()
    assert first == {"commit": "one", "start": "agent", "until": 5}
    assert second == {"commit": "two", "start": "agent"}


def test_a_resumed_run_of_the_same_versions_has_one_environment(tmp_path):
    folder = RunStore(tmp_path).folder(specs()[0])
    folder.path.mkdir()
    now = {"commit": "one", "dataset": {"parts": (1, 2)}}
    write_json(folder.path / "environment.json", folder.continued(now, 0))
    write_json(folder.path / "environment.json", folder.continued(now, 5))
    assert len(folder.environments()) == 1


def test_what_is_not_under_way_is_free_for_other_processes(tmp_path, monkeypatch):
    store = RunStore(tmp_path)
    one, other = specs(seeds=(0,), steps=100)[0], specs(seeds=(0,), steps=200)[0]
    assert one.cohort != other.cohort
    train([one.start, other.start], store=store, device="cpu")
    free, real = {}, training._train_cohort

    def look(cohort, *args):
        waiting = {one.id: other, other.id: one}[cohort[0].id]
        lock = store.folder(waiting).try_lock()
        free[cohort[0].id] = lock is not None
        lock.release()
        real(cohort, *args)

    monkeypatch.setattr(training, "_train_cohort", look)
    train([one, other], store=store, device="cpu")
    assert free == {one.id: True, other.id: True}


def test_a_missing_gpu_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="finds no GPU"):
        train(specs(), store=RunStore(tmp_path), device="cuda")
    with pytest.raises(UserError, match="'auto', 'cpu' or 'cuda'"):
        train(specs(), store=RunStore(tmp_path), device="gpu")


def test_the_oldest_transition_comes_first_and_only_those_asked_for_are_kept(tmp_path):
    (ring,) = train(specs(seeds=(0,), capacity=30), store=RunStore(tmp_path), device="cpu")
    (whole,) = train(specs(seeds=(0,), capacity=0), store=RunStore(tmp_path), device="cpu")
    kept, everything = ring.transitions(), whole.transitions()
    assert len(kept.obs) == 30
    assert (kept.next_obs[:-1] == kept.obs[1:])[~kept.terminated[:-1].bool()].float().mean() > 0.9
    assert len(everything.obs) == STEPS
    (bare,) = train(specs(seeds=(0,), keep_replay=False), store=RunStore(tmp_path), device="cpu")
    assert not any(key.startswith("replay/") for key in bare.state())
    with pytest.raises(UserError, match="keep_replay=True"):
        bare.transitions()


def test_a_run_killed_between_its_last_checkpoint_and_its_result_is_finished(tmp_path):
    store = RunStore(tmp_path)
    (run,) = train(specs(seeds=(0,), keep_replay=False), store=store, device="cpu")
    before = run.state()
    (run.folder.path / "result.json").unlink()
    (again,) = train(specs(seeds=(0,), keep_replay=False), store=store, device="cpu")
    assert again.folder.result()["steps"] == STEPS
    after = again.state()
    assert all((before[key] == after[key]).all() for key in before)


def test_a_missing_snapshot_is_named(uninterrupted):
    with pytest.raises(UserError, match="no snapshot at step 5; it has: none"):
        uninterrupted[0].agent(5)
