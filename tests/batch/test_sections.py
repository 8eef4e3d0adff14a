"""Batches with real workers and kernels: one fails, one is killed, all are interrupted."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
from filelock import FileLock
from nbformat.v4 import new_code_cell, new_notebook

from o2okit.batch.made import why_not_made
from o2okit.batch.plan import plan
from o2okit.batch.sections import default_workers
from o2okit.papers import study
from o2okit.papers.gde import toy_maze

ROOT = Path(__file__).parents[2]
MAZE, ABLATIONS, EXPLORATION = "gde/toy_maze", "gde/ablations", "gde/exploration"
PARAMETERS = """\
profile = "laptop"
tasks = seeds = sweep_seeds = None
dataset, source, device = "scripted", "auto", "auto"
"""
# Waits in the first call, with its process in a file; not in the second, which finds the file.
WAIT = """\
import os, pathlib, time
waits = pathlib.Path({file!r})
if not waits.exists():
    waits.with_suffix(".new").write_text(f"{{os.getpid()}} {{os.getppid()}}")
    waits.with_suffix(".new").rename(waits)
    time.sleep(600)
"""


def project(folder):
    (folder / "notebooks" / "gde").mkdir(parents=True)
    return folder


@pytest.fixture
def home(tmp_path):
    return project(tmp_path)


def write(home, key, *sources):
    cells = [
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        *map(new_code_cell, sources),
    ]
    nbformat.write(new_notebook(cells=cells), home / "notebooks" / f"{key}.ipynb")


MAIN = "import sys; from o2okit.cli import main; sys.exit(main(sys.argv[1:]))"


def started(home, *arguments, before=""):
    """The command ``o2okit``; ``before``: Python that its process executes first."""
    how = ("-c", f"{before}\n{MAIN}") if before else ("-m", "o2okit.cli")
    left_out = ("O2OKIT_RUNS", "O2OKIT_PROFILE", "O2OKIT_BATCH")
    environment = {key: value for key, value in os.environ.items() if key not in left_out}
    return subprocess.Popen(
        [sys.executable, *how, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "O2OKIT_HOME": str(home), "O2OKIT_DATA_DIR": str(home / "data")},
        start_new_session=True,
        # A shell that runs the tests in the background has them ignore Ctrl-C, and so their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def ended(process):
    """Status, output and the last state of each section of a command."""
    out, err = process.communicate(timeout=400)
    states = dict(re.findall(r"^(gde/\w+)  +(\w+(?: already)?)", out, re.MULTILINE))
    return SimpleNamespace(status=process.returncode, out=out, err=err, states=states)


def command(home, *arguments, **how):
    return ended(started(home, *arguments, **how))


def until(true, seconds=60):
    """Waits for something to become true."""
    for _ in range(int(seconds / 0.1)):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("that never happened")


def alive(pid):
    """Whether a process exists and is not merely waiting to be noticed by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def times(*folders):
    """When the files below some folders were last written; locks aside."""
    files = (file for folder in folders for file in folder.rglob("*") if file.is_file())
    return {file: file.stat().st_mtime_ns for file in files if not file.name.endswith("lock")}


def left(home):
    """What `o2okit plan` finds to do for the maze."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("O2OKIT_HOME", str(home))
        patch.delenv("O2OKIT_RUNS", raising=False)
        return plan([MAZE], {"profile": "smoke"})[0]


# --- a failure is isolated, a second call runs what is missing ------------------------------------
@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """The toy maze's own notebook beside a broken one; then the broken one is mended."""
    home = project(tmp_path_factory.mktemp("project"))
    shutil.copy(ROOT / "notebooks" / f"{MAZE}.ipynb", home / "notebooks" / f"{MAZE}.ipynb")
    write(home, ABLATIONS, "print('as far as this')", "1 / len([])", "print('never')")
    run = ("run", ABLATIONS, MAZE, "--profile", "smoke", "--workers", "1")
    before = left(home)
    first = command(home, *run)
    executed = home / "runs" / "notebooks" / "gde"
    log = (executed / "ablations.smoke.log").read_text()
    broken = nbformat.read(executed / "ablations.smoke.ipynb", as_version=4)
    maze = times(home / "runs" / "smoke-figures", *(home / "runs").glob("?" * 16))
    write(home, ABLATIONS, "print('mended')")
    second = command(home, *run)
    after = left(home)
    return SimpleNamespace(**locals())


def test_a_broken_notebook_does_not_stop_the_next(batch):
    assert batch.first.status == 1
    assert batch.first.states == {ABLATIONS: "failed", MAZE: "done"}
    assert "1 done, 1 failed" in batch.first.out
    assert "The same command runs what is missing" in batch.first.out
    assert batch.first.err == ""


def test_its_traceback_is_shown_and_its_log_and_notebook_are_kept(batch):
    shown = batch.first.out.partition("failed. The end of ")[2]
    assert shown.startswith(str(batch.executed / "ablations.smoke.log"))
    for said in (
        "----> 1 1 / len([])",
        "ZeroDivisionError: division by zero",
        "cell In [4] raised",
    ):
        assert said in shown
        assert said in batch.log
    assert "\x1b" not in batch.log
    assert "as far as this" in batch.log
    cells = {cell.source: cell for cell in batch.broken.cells}
    assert cells["1 / len([])"].outputs[0].ename == "ZeroDivisionError"


def test_a_log_of_the_batch_says_when_what_began_and_ended(batch):
    lines = [text.split()[1:3] for text in batch.first.out.splitlines() if text[2:3] == ":"]
    assert lines == [
        [ABLATIONS, "running"],
        [ABLATIONS, "failed"],
        [MAZE, "running"],
        [MAZE, "done"],
    ]


def test_the_second_call_runs_only_what_failed(batch):
    assert batch.second.status == 0, batch.second.out
    assert batch.second.states == {ABLATIONS: "done", MAZE: "done already"}
    assert len(batch.maze) > 50
    assert times(*{file.parent for file in batch.maze}) == batch.maze


def test_plan_before_and_after(batch):
    assert (batch.before.runs, batch.before.cohorts, batch.before.steps) == (12, 2, 4_000)
    assert (batch.after.runs, batch.after.cohorts, batch.after.steps) == (0, 0, 0)


# --- what "done already" means --------------------------------------------------------------------
@pytest.fixture
def made(batch, tmp_path, monkeypatch):
    """A copy of the finished project, to be spoilt; says why its maze has to be executed."""
    home = tmp_path / "copy"
    shutil.copytree(batch.home, home)
    monkeypatch.setenv("O2OKIT_HOME", str(home))
    for name in ("O2OKIT_RUNS", "O2OKIT_PROFILE"):
        monkeypatch.delenv(name, raising=False)

    def why(**changes):
        return why_not_made(study(MAZE, **{"profile": "smoke", **changes}))

    assert why() == ""
    return SimpleNamespace(
        why=why,
        record=home / "runs" / "smoke-figures" / f"{MAZE}.json",
        source=home / "notebooks" / f"{MAZE}.ipynb",
        executed=home / "runs" / "notebooks" / f"{MAZE}.smoke.ipynb",
        store=home / "runs",
    )


def changed(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_other_parameters_are_other_results_and_the_device_is_not(made):
    assert made.why(device="cpu") == ""
    assert "not been executed" in made.why(seeds=[1])
    assert "not been executed" in made.why(profile="laptop")
    changed(made.record, parameters={"profile": "smoke", "seeds": [4]})
    assert "other parameters" in made.why()


def test_a_lost_file_is_noticed(made):
    (made.record.parent / "figure_2b.pdf").unlink()
    assert "figure_2b.pdf is missing" in made.why()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", '{"parameters": {}}'])
def test_a_damaged_record_is_none(made, content):
    made.record.write_text(content)
    assert "missing or damaged" in made.why()
    made.record.unlink()
    assert "missing or damaged" in made.why()


def test_an_artefact_that_came_since_is_noticed(made, monkeypatch):
    cls = toy_maze.ToyMazeStudy
    monkeypatch.setattr(cls, "artefacts", {**cls.artefacts, "figure_9": "Fig. 9"})
    assert "figure_9 is missing" in made.why()


def test_runs_that_the_store_has_lost_are_noticed(made):
    run = json.loads(made.record.read_text())["runs"][0]
    (made.store / run / "result.json").unlink()
    assert "does not hold all of its runs" in made.why()


def test_settings_that_changed_since_are_noticed(made, monkeypatch):
    monkeypatch.setitem(toy_maze.AMOUNTS["smoke"], "online_steps", 500)
    assert "settings, data or algorithms have changed" in made.why()


def test_a_notebook_that_changed_since_is_noticed(made):
    notebook = nbformat.read(made.source, as_version=4)
    notebook.cells[0].source += "Prose may change."
    nbformat.write(notebook, made.source)
    assert made.why() == ""
    notebook.cells[-1].source += "\nprint(3)"
    nbformat.write(notebook, made.source)
    assert "not been executed" in made.why()


@pytest.mark.parametrize("about", [{"exception": True}, {"end_time": None}])
def test_a_notebook_that_failed_or_was_killed_after_its_results_is_not_done(made, about):
    notebook = nbformat.read(made.executed, as_version=4)
    notebook.metadata.papermill.update(about)
    nbformat.write(notebook, made.executed)
    assert "not been executed" in made.why()


# --- processes that end early ---------------------------------------------------------------------
@pytest.fixture
def waiting(home, request):
    """A batch of two whose first one does what the test says and waits; its kernel and worker."""
    write(home, MAZE, getattr(request, "param", "pass"), WAIT.format(file=str(home / "waits")))
    write(home, ABLATIONS, "print('here')")
    run = ("run", MAZE, ABLATIONS, "--profile", "smoke", "--workers", "1")
    process = started(home, *run)
    until(lambda: (home / "waits").exists(), 120)
    kernel, worker = map(int, (home / "waits").read_text().split())
    assert alive(kernel)
    assert alive(worker)
    yield SimpleNamespace(home=home, run=run, process=process, kernel=kernel, worker=worker)
    if process.poll() is None:
        process.kill()
        process.communicate()


TRAIN = f"import o2okit; o2okit.study('{MAZE}', profile=profile).run()"


@pytest.mark.parametrize("waiting", [TRAIN], indirect=True, ids=["trained"])
def test_what_a_killed_batch_leaves_ends_by_itself_and_a_second_call_completes(waiting):
    runs = times(*(waiting.home / "runs").glob("?" * 16))
    waiting.process.send_signal(signal.SIGKILL)
    waiting.process.communicate()
    second = command(waiting.home, *waiting.run)
    assert not alive(waiting.kernel)
    assert not alive(waiting.worker)
    assert second.status == 0, second.out
    assert second.states == {MAZE: "done", ABLATIONS: "done"}
    assert len(runs) > 50
    assert times(*(waiting.home / "runs").glob("?" * 16)) == runs


def test_an_interrupted_batch_ends_its_processes_and_says_where_it_stood(waiting):
    waiting.process.send_signal(signal.SIGINT)
    done = ended(waiting.process)
    assert not alive(waiting.worker)
    until(lambda: not alive(waiting.kernel), 5)
    assert done.status == 130
    assert done.states == {MAZE: "interrupted", ABLATIONS: "interrupted"}
    assert "2 interrupted" in done.out
    assert "Traceback" not in done.out + done.err
    assert not (waiting.home / "runs" / "notebooks" / f"{ABLATIONS}.smoke.ipynb").exists()


def write_two_that_wait_for_each_other(home):
    """With one worker they would wait for ever."""
    for mine, other in ((ABLATIONS, EXPLORATION), (EXPLORATION, ABLATIONS)):
        wait = f"import pathlib, time; pathlib.Path({str(home)!r}, {mine[4:]!r}).touch()\n"
        wait += f"while not pathlib.Path({str(home)!r}, {other[4:]!r}).exists(): time.sleep(0.1)"
        write(home, mine, wait)


def test_killed_workers_are_failures_and_several_run_at_once(home):
    pid = home / "pid"
    murder = (
        f"import os, pathlib, signal, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))"
    )
    write(home, MAZE, f"{murder}\nos.kill(os.getppid(), signal.SIGKILL); time.sleep(600)")
    write_two_that_wait_for_each_other(home)
    keys = (MAZE, ABLATIONS, EXPLORATION)
    done = command(home, "run", *keys, "--profile", "smoke", "--workers", "2")
    assert done.status == 1
    assert done.states == {MAZE: "failed", ABLATIONS: "done", EXPLORATION: "done"}
    assert "killed by SIGKILL; was it out of memory?" in done.out
    until(lambda: not alive(pid.read_text()), 10)


def test_a_worker_waits_for_another_that_executes_the_same_notebook(home):
    write(home, MAZE, "print('executed')")
    log = home / "runs" / "notebooks" / f"{MAZE}.smoke.log"
    log.parent.mkdir(parents=True)
    with FileLock(log.with_suffix(".lock")):
        process = started(home, "run", MAZE, MAZE, ABLATIONS, "--profile", "smoke")
        until(lambda: log.is_file() and "another process executes" in log.read_text())
    done = ended(process)
    assert done.states == {MAZE: "done", ABLATIONS: "failed"}
    assert log.read_text().splitlines()[-1] == "executed"
    missing = (home / "runs" / "notebooks" / f"{ABLATIONS}.smoke.log").read_text()
    assert "ablations.ipynb is missing" in missing


@pytest.mark.parametrize(
    ("cores", "gpu", "device", "workers"),
    [
        (1, False, "auto", 1),
        (2, False, "auto", 2),
        (2, True, "cpu", 2),
        (64, False, "cpu", 4),
        (64, True, "auto", 1),
    ],
)
def test_as_many_sections_at_once_as_there_are_cores(cores, gpu, device, workers, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert default_workers(device) == workers


def test_two_sections_run_at_once_where_nobody_says_how_many(home):
    write_two_that_wait_for_each_other(home)
    before = "import os; os.sched_getaffinity = lambda pid: {0, 1}\n"
    before += "import torch; torch.cuda.is_available = lambda: False"
    done = command(home, "run", ABLATIONS, EXPLORATION, "--profile", "smoke", before=before)
    assert done.states == {ABLATIONS: "done", EXPLORATION: "done"}
