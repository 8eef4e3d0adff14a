import contextlib
import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import papermill
import pytest
from filelock import FileLock, Timeout
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

import o2okit
from o2okit import UserError
from o2okit.batch.notebook import (
    NotebookFailed,
    alone,
    declared_parameters,
    notebook_path,
    run_notebook,
)
from o2okit.cli import main
from o2okit.papers import STUDIES
from o2okit.papers.gde.toy_maze import ALPHAS, LOSSES

ROOT = Path(__file__).parents[2]
SECTION = "gde/toy_maze"
STUDY = STUDIES[SECTION]
PARAMETERS = """\
profile = "smoke"
seeds = None
sweep_seeds: list | None = None
dataset = "scripted"
device = "auto"
"""
VARIABLES = ("O2OKIT_HOME", "O2OKIT_RUNS", "O2OKIT_PROFILE", "O2OKIT_BATCH")


def code(source, *tags):
    return new_code_cell(source, metadata={"tags": list(tags)} if tags else {})


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project whose toy-maze notebook a test writes itself."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("O2OKIT_HOME", str(tmp_path))
    (tmp_path / "notebooks" / "gde").mkdir(parents=True)
    return tmp_path


def write(home, *cells):
    path = home / "notebooks" / f"{SECTION}.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    return path


VARIANT = "seeds-1"  # seed 1 instead of the profile's: results and notebook get names of their own


# --- the real notebook ----------------------------------------------------------------------------
@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The section's own notebook, run from the command line under ``smoke``: once, then again."""
    home = tmp_path_factory.mktemp("project")
    (home / "notebooks").symlink_to(ROOT / "notebooks")
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        patch.setenv("O2OKIT_HOME", str(home))
        before = dict(os.environ)
        first = command("run", SECTION, "--profile", "smoke", "-p", "seeds", "[1]")
        store = home / "runs"
        runs = {file: file.stat().st_mtime_ns for file in store.glob("*/*") if is_run(file)}
        record = json.loads((store / "smoke-figures" / f"{SECTION}.{VARIANT}.json").read_text())
        again = command("run", SECTION, "--profile", "smoke", "-p", "seeds", "[1]")
        claims = command("claims", "--json")
        after = dict(os.environ)
    return SimpleNamespace(
        home=home,
        store=store,
        figures=store / "smoke-figures" / "gde",
        first=first,
        again=again,
        claims=claims,
        runs=runs,
        record=record,
        executed=store / "notebooks" / "gde" / f"toy_maze.smoke.{VARIANT}.ipynb",
        environments=(before, after),
    )


def command(*arguments):
    """Status and output of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())


def is_run(file):
    """Whether a file belongs to a run; the lock alone may be touched again."""
    return (file.parent / "spec.json").is_file() and file.name != "lock"


def test_a_smoke_run_ends_well_and_says_where_the_notebook_is(smoke):
    assert smoke.first.status == 0, smoke.first.err
    assert f"executed notebook: {smoke.executed}" in smoke.first.out
    assert "profile smoke" in smoke.first.out  # what the cells print is shown as they run
    assert "Traceback" not in smoke.first.err


def test_a_run_leaves_this_process_with_its_environment(smoke):
    before, after = smoke.environments
    assert after == before


@pytest.mark.parametrize("artefact", STUDY.artefacts)
def test_every_artefact_is_a_pdf_a_png_and_a_csv_with_something_in_them(smoke, artefact):
    assert (smoke.figures / f"{artefact}.{VARIANT}.pdf").read_bytes().startswith(b"%PDF-")
    with Image.open(smoke.figures / f"{artefact}.{VARIANT}.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 300
        assert len(image.convert("L").getcolors()) > 20  # more than an empty canvas
    assert len(pd.read_csv(smoke.figures / f"{artefact}.{VARIANT}.csv")) > 0


def test_the_numbers_of_the_figures_have_their_columns(smoke):
    tables = {
        name: pd.read_csv(smoke.figures / f"{name}.{VARIANT}.csv") for name in STUDY.artefacts
    }
    assert list(tables["figure_2a"]) == ["row", "column", "visits"]
    assert tables["figure_2a"]["visits"].sum() == 2_000  # the dataset of the smoke profile
    assert list(tables["figure_2c"]) == ["alpha", "seed", "step", "return", "length"]
    assert set(tables["figure_2c"]["alpha"]) == {0.0, 3.0}
    assert set(tables["figure_2c"]["seed"]) == {1}
    assert list(tables["figure_2b"]) == ["row", "column", "visits_alpha_3", "visits_alpha_0"]
    assert tables["figure_2b"][["visits_alpha_3", "visits_alpha_0"]].sum().tolist() == [400, 400]
    columns = ["td_loss", "alpha", "seed", "offline_return", "final_return"]
    assert list(tables["figure_2_loss"]) == columns
    table = pd.read_csv(smoke.figures / f"toy_maze_table.{VARIANT}.csv")
    columns = ["td_loss", "alpha", "seeds", "offline_return", "final_return", "low", "high"]
    assert list(table)[:7] == columns
    assert len(table) == len(ALPHAS) * len(LOSSES)
    assert len(tables["figure_2_loss"]) == len(ALPHAS) * len(LOSSES)


def test_the_record_says_where_every_number_comes_from(smoke):
    record = smoke.record
    assert (record["study"], record["profile"]) == (SECTION, "smoke")
    assert record["parameters"]["seeds"] == record["seeds"] == [1]
    assert record["sweep_seeds"] == [0]
    data = record["dataset"]
    assert (data["source"], data["transitions"], len(data["sha256"])) == ("kit", 2_000, 64)
    for name in STUDY.artefacts:
        files = [f"{name}.{VARIANT}.{ending}" for ending in ("pdf", "png", "csv")]
        assert record["artefacts"][name]["files"] == files
    environment = record["environment"]
    assert environment["o2okit"] == o2okit.__version__
    assert {"torch", "numpy"} <= environment["packages"].keys()
    assert {"commit", "python", "platform", "device"} <= environment.keys()


def test_the_record_names_runs_that_the_store_holds_with_the_same_dataset(smoke):
    # Seed 1 with and without the penalty, seed 0 with every α and both losses.
    assert len(smoke.record["runs"]) == 2 + len(ALPHAS) * len(LOSSES)
    for run in smoke.record["runs"]:
        spec = json.loads((smoke.store / run / "spec.json").read_text())
        assert (spec["phase"], spec["steps"]) == ("online", 400)
        assert spec["dataset"]["sha256"] == smoke.record["dataset"]["sha256"]
        assert json.loads((smoke.store / run / "result.json").read_text())["steps"] == 400


def test_smoke_artefacts_are_kept_apart_from_the_real_figures(smoke):
    assert sorted(entry.name for entry in smoke.home.iterdir()) == ["notebooks", "runs"]
    names = {file.name for file in smoke.figures.iterdir()}
    files = {f"{name}.{VARIANT}.{e}" for name in STUDY.artefacts for e in ("pdf", "png", "csv")}
    assert names == {*files, f"toy_maze_table.{VARIANT}.csv", f"toy_maze.{VARIANT}.json"}


def test_smoke_results_judge_no_claim(smoke):
    judged = [claim["claim_id"] for claim in smoke.record["claims"]]
    assert "gde-36" in judged
    assert len(set(judged)) == len(judged) > 1  # ours as well
    assert {claim["verdict"] for claim in smoke.record["claims"]} == {"not run"}
    assert {row["verdict"] for row in json.loads(smoke.claims.out)} == {"not run"}


def test_the_executed_notebook_holds_the_injected_parameters_and_every_output(smoke):
    notebook = nbformat.read(smoke.executed, as_version=4)
    injected = [
        cell for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", ())
    ]
    assert len(injected) == 1
    given = {}
    exec(injected[0].source, given)
    assert (given["profile"], given["seeds"]) == ("smoke", [1])
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    images = sum("image/png" in o.get("data", {}) for cell in cells for o in cell.outputs)
    assert images == len(STUDY.artefacts)  # each once: shown by the cell, not again by pyplot
    errors = [o for cell in cells for o in cell.outputs if o.get("name") == "stderr"]
    assert errors == []


def test_a_second_call_is_served_from_the_store(smoke):
    assert smoke.again.status == 0, smoke.again.err
    assert len(smoke.runs) >= 4 * len(smoke.record["runs"])
    assert {file: file.stat().st_mtime_ns for file in smoke.runs} == smoke.runs
    assert {file for file in smoke.store.glob("*/*") if is_run(file)} == set(smoke.runs)


# --- what papermill would let through -------------------------------------------------------------
@pytest.fixture
def kernels(monkeypatch):
    """The notebooks that were handed to papermill; none is executed."""
    started = []
    monkeypatch.setattr(papermill, "execute_notebook", lambda *args, **kw: started.append(kw))
    return started


def test_a_notebook_without_a_parameters_cell_is_refused(home, kernels):
    path = write(home, new_markdown_cell("# Text"), code(PARAMETERS))
    with pytest.raises(UserError, match="has 0 cells with the tag 'parameters'") as refused:
        run_notebook(SECTION, {"profile": "smoke"})
    assert str(path) in str(refused.value)
    assert kernels == []


def test_a_notebook_with_two_parameters_cells_is_refused(home, kernels):
    write(home, code(PARAMETERS, "parameters"), code("seeds = 3", "parameters"))
    with pytest.raises(UserError, match="has 2 cells with the tag 'parameters'"):
        run_notebook(SECTION, {"profile": "smoke"})
    assert kernels == []


def test_a_parameters_tag_on_text_does_not_count(home, kernels):
    text = new_markdown_cell("seeds = 3", metadata={"tags": ["parameters"]})
    write(home, text, code(PARAMETERS))
    with pytest.raises(UserError, match="has 0 cells"):
        run_notebook(SECTION, {"profile": "smoke"})
    assert kernels == []


def test_a_parameter_that_the_notebook_does_not_assign_is_refused(home, kernels):
    shorter = PARAMETERS.replace("seeds = None\n", "print('seeds')\n", 1)
    write(home, code(shorter, "parameters"), code("seeds = 3"))
    with pytest.raises(UserError, match="parameters cell does not assign seeds"):
        run_notebook(SECTION, {"profile": "smoke", "seeds": 3})
    assert kernels == []
    run_notebook(SECTION, {"profile": "smoke"})
    assert len(kernels) == 1


def test_a_parameters_cell_that_is_not_plain_python_is_refused(home, kernels):
    write(home, code("seeds = 3\n%matplotlib inline", "parameters"))
    with pytest.raises(UserError, match=r"not plain Python \(invalid syntax, line 2\)"):
        run_notebook(SECTION, {"profile": "smoke"})
    assert kernels == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"not a notebook",
        b"[]",
        b"null",
        b"{}",
        b'{"cells": 3}',
        b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
        b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [3]}',
        b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code"}]}',
        b'{"nbformat": 9, "nbformat_minor": 0, "metadata": {}, "cells": []}',
        b"\xff\xfe\x00",
    ],
)
def test_a_file_that_is_no_notebook_is_refused(home, kernels, content):
    path = home / "notebooks" / f"{SECTION}.ipynb"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not a notebook") as refused:
        run_notebook(SECTION, {"profile": "smoke"})
    assert str(path) in str(refused.value)
    assert kernels == []


def test_a_missing_notebook_is_named(home, kernels):
    with pytest.raises(UserError, match=r"notebooks/gde/toy_maze\.ipynb is missing"):
        run_notebook(SECTION, {"profile": "smoke"})
    assert kernels == []


def test_every_form_of_assignment_in_the_parameters_cell_is_seen(home):
    source = "from o2okit import study\na = b = 1\nc: int = 2\nd = {'e': 3}\nd['f'] = 4"
    assert declared_parameters(write(home, code(source, "parameters"))) == {"a", "b", "c", "d"}
    assert declared_parameters(ROOT / "notebooks" / f"{SECTION}.ipynb") == set(STUDY.parameters)


@pytest.mark.parametrize(
    "arguments",
    [
        ("-p", "sead", "3"),
        ("-p", "profile", "SMOKE"),
        ("-p", "seeds", "[0,"),
        ("-p", "seeds", "false"),
        ("-p", "seeds", "1e-4"),
    ],
)
def test_what_papermill_would_run_with_defaults_or_as_text_is_refused(home, kernels, arguments):
    write(home, code(PARAMETERS, "parameters"))
    done = command("run", SECTION, *arguments)
    assert (done.status, done.out, kernels) == (2, "", [])
    assert arguments[1] in done.err


def test_only_given_parameters_are_injected_in_their_final_type(home, kernels):
    write(home, code(PARAMETERS, "parameters"))
    run_notebook(SECTION, {"seeds": 2, "sweep_seeds": None})
    assert kernels[0]["parameters"] == {"seeds": [0, 1], "sweep_seeds": [0, 1, 2]}


def test_the_output_is_named_after_the_profile_that_runs(home, kernels, monkeypatch):
    write(home, code(PARAMETERS, "parameters"))
    folder = home / "runs" / "notebooks" / "gde"
    assert run_notebook(SECTION, {}) == folder / "toy_maze.laptop.ipynb"
    monkeypatch.setenv("O2OKIT_PROFILE", "smoke")
    assert run_notebook(SECTION, {}) == folder / "toy_maze.smoke.ipynb"
    assert run_notebook(SECTION, {"profile": "paper"}) == folder / "toy_maze.paper.ipynb"
    assert notebook_path(SECTION) == home / "notebooks" / "gde" / "toy_maze.ipynb"


# --- real kernels ---------------------------------------------------------------------------------
def test_a_cell_that_raises_is_named_with_the_file_that_holds_the_traceback(home):
    write(
        home,
        code(PARAMETERS, "parameters"),
        new_markdown_cell("text"),
        code("print('as far as this')"),
        code("1 / len([])"),
        code("print('never')"),
    )
    done = command("run", SECTION, "--profile", "smoke")
    output = home / "runs" / "notebooks" / "gde" / "toy_maze.smoke.ipynb"
    assert done.status == 1
    assert "cell In [4] raised ZeroDivisionError: division by zero" in done.err
    assert str(output) in done.err
    assert "Traceback" not in done.err
    assert done.out == "as far as this\n"
    cells = {cell.source: cell for cell in nbformat.read(output, as_version=4).cells}
    assert cells["1 / len([])"].execution_count == 4
    assert cells["1 / len([])"].outputs[0].ename == "ZeroDivisionError"
    assert cells["1 / len([])"].outputs[0].traceback
    assert cells["print('never')"].execution_count is None


def test_a_kernel_that_is_killed_is_a_failure_of_the_notebook(home):
    write(
        home,
        code(PARAMETERS, "parameters"),
        code("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
    )
    with pytest.raises(NotebookFailed, match=r"gde/toy_maze: Kernel died\. .*memory") as failed:
        run_notebook(SECTION, {"profile": "smoke"})
    output = home / "runs" / "notebooks" / "gde" / "toy_maze.smoke.ipynb"
    assert failed.value.output == output
    assert len(nbformat.read(output, as_version=4).cells) == 3


def test_a_kernel_works_with_the_same_store_and_project_as_the_command(home, monkeypatch):
    write(
        home,
        code(PARAMETERS, "parameters"),
        code("from o2okit import paths; print(paths.home(), paths.runs(), seeds)"),
    )
    monkeypatch.chdir(home)
    monkeypatch.setenv("O2OKIT_HOME", ".")
    monkeypatch.setenv("O2OKIT_RUNS", "elsewhere")  # the kernel starts in another folder
    done = command("run", SECTION, "-p", "seeds", "2")
    assert done.status == 0, done.err
    assert done.out.startswith(f"{home} {home / 'elsewhere'} [0, 1]\n")
    assert sorted(entry.name for entry in home.iterdir()) == ["elsewhere", "notebooks"]
    assert (os.environ["O2OKIT_HOME"], os.environ["O2OKIT_RUNS"]) == (".", "elsewhere")
    assert "O2OKIT_BATCH" not in os.environ


@pytest.mark.parametrize("where", ["the lock", "papermill"])
def test_a_full_disk_is_a_message(home, monkeypatch, where):
    write(home, code(PARAMETERS, "parameters"))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    if where == "papermill":
        monkeypatch.setattr(papermill, "execute_notebook", full)
    else:
        monkeypatch.setattr(FileLock, "acquire", full)
    with pytest.raises(UserError, match=r"could not write .*No space left.*O2OKIT_RUNS"):
        run_notebook(SECTION, {"profile": "smoke"})


def test_one_process_at_a_time_writes_a_notebook(home, tmp_path, monkeypatch):
    """A single `o2okit run` beside a batch: two kernels must not write one file."""
    write(home, code(PARAMETERS, "parameters"))
    output, seen = tmp_path / "executed.ipynb", []

    def execute(*args, **kw):
        with pytest.raises(Timeout):
            FileLock(output.with_suffix(".lock")).acquire(timeout=0)  # as another process would
        seen.append(args)

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    with alone(output):  # a batch's worker holds it already
        run_notebook(SECTION, {"profile": "smoke"}, output)
    assert len(seen) == 1
    with FileLock(output.with_suffix(".lock"), timeout=0):
        pass  # given back


def test_a_kernel_that_can_not_be_reached_is_no_full_disk(home, monkeypatch):
    write(home, code(PARAMETERS, "parameters"))

    def gone(*_, **__):
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(papermill, "execute_notebook", gone)
    with pytest.raises(NotebookFailed, match=r"reset by peer\. Was it out of memory\?"):
        run_notebook(SECTION, {"profile": "smoke"})
