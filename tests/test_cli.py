import json
import os
import subprocess
import sys
from pathlib import Path

import papermill
import pytest
import torch
from filelock import FileLock

import o2okit
from o2okit.backbones import BACKBONES
from o2okit.cli import main
from o2okit.methods import METHODS
from o2okit.papers import STUDIES, values

ROOT = Path(__file__).parents[1]
SECTION = "gde/toy_maze"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A project with our notebooks, but its own run store and figures."""
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    monkeypatch.setenv("O2OKIT_HOME", str(tmp_path))
    for name in ("O2OKIT_RUNS", "O2OKIT_PROFILE", "O2OKIT_BATCH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def kernels(monkeypatch):
    """The notebooks that were handed to papermill; none is executed."""
    started = []
    monkeypatch.setattr(papermill, "execute_notebook", lambda *args, **kw: started.append(kw))
    return started


@pytest.fixture
def record(home):
    """The provenance record of a section that was run at laptop scale."""
    file = home / "figures" / f"{SECTION}.json"
    file.parent.mkdir(parents=True)
    value = {
        "study": SECTION,
        "title": "3.1 The toy maze",
        "profile": "laptop",
        "dataset": {"name": "kit-toy-maze-scripted", "source": "kit", "sha256": "71d92e474415" * 5},
        "seeds": [0, 1, 2, 5],
        "artefacts": {
            "figure_2b": {
                "caption": "Fig. 2b",
                "seeds": [0, 1, 2, 5],
                "files": ["figure_2b.pdf", "figure_2b.png"],
            }
        },
        "claims": [
            {
                "claim_id": "gde-36",
                "statement": values.claim("gde-36").statement,
                "verdict": "supported",
                "reason": "difference 35",
            },
            {
                "claim_id": f"o2okit:{SECTION}-1",
                "statement": "ours",
                "verdict": "undecided",
                "reason": "9 seeds would decide",
            },
        ],
        "runs": ["a", "b", "c"],
        "environment": {
            "o2okit": "0.1.0",
            "commit": "abc",
            "packages": {"torch": "2.13.0"},
            "device": "cpu",
        },
        "written": "2026-11-20T21:00:00+00:00",
    }
    file.write_text(json.dumps(value))
    return file


def refused(capsys, *arguments):
    """The message of a command that ends with status 2."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("o2okit: ")
    assert "Traceback" not in captured.err
    return captured.err


# --- list -----------------------------------------------------------------------------------------
def test_list_shows_papers_sections_artefacts_parameters_and_what_has_no_notebook(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for paper, title in values.PAPERS.items():
        assert f"{paper}: {title}" in out
    for key, cls in STUDIES.items():
        assert f"{key}: {cls.title}" in out
        assert [name for name in (*cls.artefacts, *cls.parameters) if name not in out] == []
    assert "not made yet" in out
    assert "no notebook yet: figure_3, " in out
    assert "no notebook yet: \n" not in out, "papers of which nothing is left do not say so"
    shown = [line.split() for line in out.splitlines()]
    names = {name for cls in STUDIES.values() for name in cls.artefacts}
    assert names <= {words[0] for words in shown if words}, "names and status stand apart"


def test_list_json_has_a_row_for_every_artefact_of_every_paper(capsys):
    assert main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    keys = {"paper", "section", "artefact", "caption", "status", "files"}
    assert {frozenset(row) for row in rows} == {frozenset(keys)}
    assert {row["paper"] for row in rows} == set(values.PAPERS)
    ours = {row["artefact"] for row in rows if row["section"] == SECTION}
    assert ours == set(STUDIES[SECTION].artefacts)


def test_list_of_one_paper_leaves_the_others_out(capsys):
    assert main(["list", "--paper", "gde", "--json"]) == 0
    assert {row["paper"] for row in json.loads(capsys.readouterr().out)} == {"gde"}
    assert main(["list", "--paper", "samg"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("samg: ")
    assert "gde" not in out


def test_list_says_what_was_made_and_with_which_seeds(capsys, record):
    assert main(["list", "--json"]) == 0
    rows = {row["artefact"]: row for row in json.loads(capsys.readouterr().out) if row["section"]}
    assert rows["figure_2b"]["status"] == "made: laptop, seeds 0-2, 5"
    assert rows["figure_2b"]["files"] == ["figure_2b.pdf", "figure_2b.png"]
    assert rows["figure_2a"]["status"] == "not made yet"


def test_an_artefact_is_not_taken_for_another_whose_number_begins_alike(capsys, monkeypatch):
    class Table10(STUDIES[SECTION]):
        key = "samg/table_10"
        artefacts = {"table_10": "Table 10"}  # noqa: RUF012

    monkeypatch.setitem(STUDIES, Table10.key, Table10)
    assert main(["list", "--paper", "samg", "--json"]) == 0
    rows = {row["artefact"]: row["status"] for row in json.loads(capsys.readouterr().out)}
    assert rows["table_1"] == "no notebook yet"
    assert rows["table_10"] == "not made yet"
    assert main(["list", "--paper", "gde", "--json"]) == 0
    rows = {row["artefact"] for row in json.loads(capsys.readouterr().out)}
    assert "figure_2" not in rows  # its parts are figure_2a, figure_2b, ...


def test_list_methods_shows_which_backbones_each_is_defined_for(capsys):
    assert main(["list", "--methods"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    table = {
        name: dict(zip(head.split(), cells, strict=True)) for name, *cells in map(str.split, rows)
    }
    assert set(table) == set(METHODS)
    assert table["gde"]["iql"] == table["naive"]["bc"] == "yes"
    assert table["gde"]["bc"] == table["bp-iql"]["td3+bc"] == "-"
    assert main(["list", "--methods", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["reiql"] == {name: name == "iql" for name in BACKBONES}


def test_list_hyper_shows_what_can_be_set_and_what_a_task_takes(capsys):
    assert main(["list", "--hyper", "qcse", "--task", "hopper-medium-v2"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["default", "hopper-medium-v2"]
    (k,) = (row.split() for row in rows if row.split()[0] == "k")
    assert k[:3] == ["k", "15", "10"]
    assert k[6:8] == ["per", "run"]
    assert main(["list", "--hyper", "iql", "--json"]) == 0
    values = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert values["expectile"]["default"] == 0.7
    assert values["expectile"]["per run"] is True
    assert main(["list", "--hyper", "naive"]) == 0
    assert capsys.readouterr().out == "naive has no hyper-parameters\n"
    assert "--hyper NAME" in refused(capsys, "list", "--task", "hopper-medium-v2")
    assert "Did you mean 'qcse'" in refused(capsys, "list", "--hyper", "qsce")


# --- claims, report -------------------------------------------------------------------------------
def test_claims_json_holds_every_published_claim_and_none_is_judged_before_a_run(capsys):
    assert main(["claims", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["claim_id"] for row in rows] == list(values.claims()["claim_id"])
    assert {row["verdict"] for row in rows} == {"not run"}
    keys = {"paper", "claim_id", "artefact", "statement", "verdict", "reason", "profile"}
    assert {frozenset(row) for row in rows} == {frozenset(keys)}


def test_claims_take_the_verdict_the_reason_and_the_profile_from_the_record(capsys, record):
    assert main(["claims", "--paper", "gde", "--json"]) == 0
    rows = {row["claim_id"]: row for row in json.loads(capsys.readouterr().out)}
    judged = {key: row["verdict"] for key, row in rows.items() if row["verdict"] != "not run"}
    assert judged == {"gde-36": "supported", "o2okit:gde/toy_maze-1": "undecided"}
    assert rows["gde-36"]["artefact"] == values.claim("gde-36").artefact
    assert main(["claims", "--paper", "gde"]) == 0
    assert "difference 35 (laptop)" in capsys.readouterr().out
    assert main(["claims", "--paper", "samg", "--json"]) == 0
    assert {row["paper"] for row in json.loads(capsys.readouterr().out)} == {"samg"}


def test_a_smoke_record_enters_no_verdict(capsys, home, record):
    smoke = home / "runs" / "smoke-figures" / f"{SECTION}.json"
    smoke.parent.mkdir(parents=True)
    record.rename(smoke)
    assert main(["claims", "--json"]) == 0
    assert {row["verdict"] for row in json.loads(capsys.readouterr().out)} == {"not run"}


def test_a_report_before_any_run_says_what_to_run(capsys, home):
    assert main(["report"]) == 0
    report = home / "figures" / "REPORT.md"
    assert capsys.readouterr().out == f"report: {report}\n"
    text = report.read_text()
    assert f"Claims of the papers: {len(values.claims())} not run. Findings of ours: none." in text
    assert f"`{SECTION}` was not run yet: `o2okit run {SECTION}`." in text
    assert [title for title in values.PAPERS.values() if f"## {title}\n" not in text] == []


def test_a_report_shows_figures_origin_and_verdicts(home, record):
    assert main(["report"]) == 0
    text = (home / "figures" / "REPORT.md").read_text()
    assert "![figure_2b](gde/figure_2b.png)" in text
    assert "source: kit" in text
    assert "3 runs" in text
    row = next(line for line in text.splitlines() if line.startswith("| gde-36"))
    assert "supported" in row
    assert "difference 35" in row


@pytest.mark.parametrize("command", ["list", "claims", "report"])
def test_a_damaged_record_is_named_with_what_to_do(capsys, record, command):
    record.write_text(record.read_text()[:100])
    message = refused(capsys, command)
    assert str(record) in message
    assert f"o2okit run {SECTION}" in message


@pytest.mark.parametrize("command", ["list", "claims"])
def test_an_unknown_paper_is_refused_with_those_that_exist(capsys, command):
    message = refused(capsys, command, "--paper", "gdf")
    assert "unknown paper 'gdf'" in message
    assert "Did you mean 'gde'?" in message
    assert [paper for paper in values.PAPERS if paper not in message] == []


# --- status, doctor -------------------------------------------------------------------------------
def run_folder(store, name, **result):
    folder = store / name
    folder.mkdir(parents=True)
    spec = {
        "task": "toy-maze",
        "backbone": "dqn",
        "method": "rnd",
        "phase": "online",
        "seed": 4,
        "steps": 20_000,
        "start": {"phase": "offline"},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    if result:
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_status_of_an_empty_store_says_so(capsys, home):
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert f"run store {home / 'runs'}: 0.0 MB" in out
    assert "no runs yet" in out


def test_status_tells_finished_diverged_running_and_interrupted_runs_apart(capsys, home):
    store = home / "runs"
    run_folder(store, "a", diverged=False)
    run_folder(store, "b", diverged=False)
    run_folder(store, "c", diverged=True)
    (run_folder(store, "d") / "evaluations.csv").write_bytes(b"x" * 1_200_000)
    with FileLock(run_folder(store, "e") / "lock"):
        assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert ": 1.2 MB" in out
    counts = "toy-maze dqn rnd online: 1 diverged, 2 finished, 1 interrupted, 1 running"
    assert counts in out
    assert "d  toy-maze dqn rnd online, seed 4: interrupted at 0 of 20,000" in out
    assert "e  toy-maze dqn rnd online, seed 4: running at 0 of 20,000" in out


def test_status_of_a_store_that_can_only_be_read(capsys, home, monkeypatch):
    run_folder(home / "runs", "d")

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    assert main(["status"]) == 0
    assert "1 interrupted" in capsys.readouterr().out


def test_status_does_not_stumble_over_a_file_that_is_replaced_meanwhile(capsys, home, monkeypatch):
    folder = run_folder(home / "runs", "a", diverged=False)
    (folder / "gone").touch()
    stat, looks = Path.stat, []

    def vanishing(path, **options):
        if path.name == "gone":
            looks.append(path)
            if len(looks) > 1:
                raise FileNotFoundError(path)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", vanishing)
    assert main(["status"]) == 0
    assert "1 finished" in capsys.readouterr().out
    assert looks


@pytest.mark.parametrize("name", ["spec.json", "result.json"])
@pytest.mark.parametrize("content", ['{"task": ', "{}", "[]", "5", "null"])
def test_status_names_a_run_that_is_damaged_and_counts_the_others(capsys, home, name, content):
    folder = run_folder(home / "runs", "a", diverged=False)
    run_folder(home / "runs", "b", diverged=False)
    (folder / name).write_text(content)
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert f"\ndamaged:\n  {folder / name} is damaged" in out
    assert f"Delete the folder {folder}" in out
    assert "toy-maze dqn rnd online: 1 finished\n" in out


def test_doctor_lists_versions_device_folders_and_data(capsys, home, monkeypatch):
    data = home / "d4rl"
    data.mkdir()
    (data / "hopper_medium-v2.hdf5").touch()
    monkeypatch.setenv("D4RL_DATASET_DIR", str(data))
    monkeypatch.setenv("O2OKIT_DATA_DIR", "")
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.split()[0] not in ("ok", "note")] == []
    found = {line[5:27].strip(): line[27:] for line in lines}
    assert found["o2okit"] == o2okit.__version__
    assert found["torch"] == torch.__version__
    assert found["project"] == str(home)
    assert found["run store"].startswith(f"{home / 'runs'}, ")
    assert found["D4RL's cache"] == f"{data}: 1 HDF5 files"
    assert found["O2OKIT_DATA_DIR"] == "not set"


def test_doctor_notes_a_named_folder_that_is_not_there(capsys, home, monkeypatch):
    monkeypatch.setenv("O2OKIT_DATA_DIR", str(home / "nope"))
    assert main(["doctor"]) == 0
    assert f"{home / 'nope'} is not there: a typo in O2OKIT_DATA_DIR?" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variable", "place"), [("O2OKIT_HOME", "missing"), ("O2OKIT_RUNS", "file/runs")]
)
def test_doctor_reports_a_folder_that_cannot_be_used(capsys, home, monkeypatch, variable, place):
    (home / "file").touch()
    monkeypatch.setenv(variable, str(home / place))
    assert main(["doctor"]) == 1
    bad = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]
    assert len(bad) == 1
    assert variable in bad[0]
    assert str(home / place) in bad[0]


# --- run ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-p", "seed", "3"], "unknown parameter 'seed'. Did you mean 'seeds'"),
        (["-p", "smoke", "true"], "unknown parameter 'smoke'"),
        (["-p", "seeds", "true"], "seeds must be how many"),
        (["-p", "seeds", "[0,"], "got '[0,'"),
        (["-p", "seeds", "0"], "got 0"),
        (["-p", "seeds", "-3"], "got -3"),
        (["-p", "seeds", "2.0"], "got 2.0"),
        (["-p", "seeds", "{[1]: 2}"], "got '{[1]: 2}'"),
        (["-p", "sweep_seeds", "1,1"], "got (1, 1)"),
        (["-p", "profile", "Smoke"], "unknown profile 'Smoke'. Did you mean 'smoke'?"),
        (["--profile", "tiny"], "unknown profile 'tiny'. Allowed: smoke, laptop, paper."),
        (["-p", "dataset", "d4rl"], "unknown dataset 'd4rl'. Allowed: scripted, checkpoints."),
        (["-p", "device", "tpu"], "unknown device 'tpu'."),
        (["-p", "device", "cuda"], "PyTorch finds no GPU"),
        (["-p", "seeds", "3", "-p", "seeds", "3"], "parameter 'seeds' is given twice"),
        (["--profile", "smoke", "-p", "profile", "smoke"], "profile is given twice"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_malformed_run_is_refused_before_a_kernel_starts(
    capsys, home, monkeypatch, kernels, arguments, said
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert said in refused(capsys, "run", SECTION, *arguments)
    assert kernels == []
    assert [entry.name for entry in home.iterdir()] == ["notebooks"]


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name sections, or a paper with --paper"),
        ([SECTION, "--paper", "gde"], "name sections, or a paper with --paper"),
        (["--paper", "gdf"], "unknown paper 'gdf'. Did you mean 'gde'?"),
        ([SECTION, "gde/table"], "unknown section 'gde/table'."),
        (["--paper", "gde", "--profile", "tiny"], "unknown profile 'tiny'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_sections_that_do_not_exist_are_refused(capsys, kernels, command, arguments, said):
    assert said in refused(capsys, command, *arguments)
    assert kernels == []


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_paper_without_sections_is_refused_with_those_that_have_some(
    capsys, monkeypatch, command
):
    for key in [key for key in STUDIES if key.startswith("samg/")]:
        monkeypatch.delitem(STUDIES, key)
    message = refused(capsys, command, "--paper", "samg")
    assert "paper 'samg' has no sections yet" in message
    assert "gde" in message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--paper", "gde", "--workers", "0"], "--workers must be at least 1; got 0."),
        (["--paper", "gde", "--workers", "-2"], "got -2."),
        ([SECTION, "--workers", "2"], "--workers is for several sections"),
        (["--paper", "gde", "-p", "sweep_seeds", "2"], "unknown parameter 'sweep_seeds'"),
        (["--paper", "gde", "-p", "seeds", "0"], f"{SECTION}: seeds must be"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_malformed_batch_is_refused_before_a_process_starts(
    capsys, home, monkeypatch, arguments, said
):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **options: started.append(args))
    assert said in refused(capsys, "run", *arguments)
    assert started == []
    assert [entry.name for entry in home.iterdir()] == ["notebooks"]


def test_a_plan_takes_the_notebooks_parameters(capsys):
    command = ["plan", "gde/ablations", "--profile", "smoke"]
    runs = []
    for given in ([], ["-p", "seeds", "[4, 7, 9]"]):
        assert main([*command, *given]) == 0
        (row,) = (r for r in capsys.readouterr().out.splitlines() if r.startswith("gde/ablations"))
        runs.append(int(row.split()[1]))
    assert runs[1] == 3 * runs[0] > 0
    assert "given twice" in refused(capsys, *command, "-p", "profile", "laptop")
    assert "unknown parameter 'seed'" in refused(capsys, *command, "-p", "seed", "1")


def test_where_no_section_has_data_nothing_is_started(capsys, monkeypatch):
    monkeypatch.setattr("o2okit.papers.grid.why_not", lambda task, source: "no data here")
    message = refused(capsys, "run", "gde/ablations", "gde/exploration")
    assert message.count("no data here") == 2
    assert main(["plan", "gde/ablations", "--profile", "smoke"]) == 0
    assert "gde/ablations can't be run: " in capsys.readouterr().out


def test_a_run_of_an_unknown_section_is_refused_with_those_that_exist(capsys, kernels):
    message = refused(capsys, "run", "gde/toy-maze")
    assert f"Did you mean '{SECTION}'" in message
    assert kernels == []


def test_a_wrong_profile_in_the_environment_is_refused_before_a_kernel_starts(
    capsys, monkeypatch, kernels
):
    monkeypatch.setenv("O2OKIT_PROFILE", "fast")
    assert "unknown profile 'fast'" in refused(capsys, "run", SECTION)
    assert kernels == []


def test_a_run_store_that_cannot_be_written_is_refused(capsys, home, monkeypatch, kernels):
    (home / "file").touch()
    monkeypatch.setenv("O2OKIT_RUNS", str(home / "file" / "runs"))
    assert "Set O2OKIT_RUNS" in refused(capsys, "run", SECTION)
    assert kernels == []


def test_a_run_hands_typed_parameters_on_and_names_the_output(capsys, home, kernels):
    arguments = ["-p", "seeds", "[0, 3]", "-p", "sweep_seeds", "2", "-p", "device", "cpu"]
    assert main(["run", SECTION, "--profile", "smoke", *arguments]) == 0
    assert kernels[0]["parameters"] == {
        "profile": "smoke",
        "seeds": [0, 3],
        "sweep_seeds": [0, 1],
        "device": "cpu",
    }
    output = home / "runs" / "notebooks" / "gde" / "toy_maze.smoke.seeds-0+3_sweep_seeds-0-1.ipynb"
    assert capsys.readouterr().out == f"executed notebook: {output}\n"


def test_without_the_notebook_extra_a_run_says_how_to_install_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "papermill", None)
    monkeypatch.delitem(sys.modules, "o2okit.batch.notebook", raising=False)
    message = refused(capsys, "run", SECTION, "--profile", "smoke")
    assert "needs papermill" in message
    assert "pip install 'o2okit[notebook]'" in message


# --- the command itself ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "arguments are required: COMMAND"),
        (["replicate"], "invalid choice"),
        (["run", SECTION, "--workers", "many"], "invalid int value"),
        (["list", "--paper", "gde", "--methods"], "not allowed with argument"),
        (["run", SECTION, "-p", "seeds"], "expected 2 arguments"),
        (["run", SECTION, "--seeds", "3"], "unrecognized arguments"),
    ],
)
def test_a_wrong_usage_ends_with_status_2(capsys, arguments, said):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_an_interrupt_ends_with_130_and_says_how_to_go_on(capsys, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("o2okit.training.status.summary", interrupted)
    assert main(["status"]) == 130
    assert "goes on from the last checkpoint" in capsys.readouterr().err


def command(*arguments, **options):
    code = f"import sys; from o2okit.cli import main; sys.exit(main({list(arguments)}))"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], **pipes, **options)


def test_version_is_printed_without_waiting_for_the_heavy_libraries():
    heavy = ("torch", "pandas", "matplotlib", "scipy", "numpy", "gymnasium", "papermill")
    code = f"""
import sys
from o2okit.cli import main
try:
    main(["--version"])
except SystemExit as ended:
    print(ended.code, [name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"o2okit {o2okit.__version__}\n0 []\n"


def test_the_installed_command_is_this_one():
    command = Path(sys.executable).with_name("o2okit")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"o2okit {o2okit.__version__}\n"


def test_a_closed_pipe_ends_the_command_without_noise():
    environment = {key: v for key, v in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with command("claims", "--paper", "gde", env=environment) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
