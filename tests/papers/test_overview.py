"""Which results stand for a section in the lists, the ledger and the report."""

import json
from pathlib import Path

import pytest

from o2okit.papers import overview
from o2okit.report.markdown import page

COMMITTED = Path(__file__).parents[2] / "figures" / "gde" / "toy_maze.json"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("O2OKIT_HOME", str(tmp_path))
    monkeypatch.delenv("O2OKIT_RUNS", raising=False)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "figures" / "gde").mkdir(parents=True)
    return tmp_path / "figures" / "gde"


def write(folder, name, **changes):
    (folder / f"{name}.json").write_text(json.dumps(json.loads(COMMITTED.read_text()) | changes))


def of_the_maze():
    rows = overview.artefact_rows()
    status = set(rows[rows["section"] == "gde/toy_maze"]["status"])
    ledger = overview.ledger("gde").set_index("claim_id")
    return status, ledger.loc["gde-36", "profile"]


def test_the_papers_amounts_stand_before_the_laptops(folder):
    assert of_the_maze() == ({"not made yet"}, "")
    write(folder, "toy_maze.seeds-0+2")
    assert of_the_maze() == ({"not made yet"}, ""), "a variant answers another question"
    write(folder, "toy_maze")
    status, profile = of_the_maze()
    assert profile == "laptop"
    assert all(each.startswith("made: laptop") for each in status)
    write(folder, "toy_maze.paper", profile="paper")
    status, profile = of_the_maze()
    assert profile == "paper"
    assert all(each.startswith("made: paper") for each in status)
    assert set(overview.records()) == {
        *("gde/toy_maze", "gde/toy_maze.seeds-0+2", "gde/toy_maze.paper"),
    }


def test_the_report_shows_the_papers_amounts_and_the_laptops_as_another_result(folder):
    def headings():
        rows = overview.artefact_rows(), overview.ledger(), overview.records()
        return [line for line in page({"gde": "GDE"}, *rows).splitlines() if line.startswith("###")]

    title = f"### {json.loads(COMMITTED.read_text())['title']}"
    write(folder, "toy_maze.paper", profile="paper")
    assert headings() == [title]
    write(folder, "toy_maze")
    write(folder, "toy_maze.seeds-0+2")
    assert headings() == [
        title,
        "### Variant `gde/toy_maze`",
        "### Variant `gde/toy_maze.seeds-0+2`",
    ]


def test_the_matrix_says_how_many_of_the_tasks_were_run(folder):
    made = {"table_1": {"seeds": [0, 1], "caption": "Table 1", "files": []}}

    def status(*tasks):
        write(folder, "exploration", tasks=list(tasks), artefacts=made)
        rows = overview.matrix("gde").set_index("artefacts")
        [found] = rows.loc[rows.index.str.startswith("Table 1, "), "status"]
        text, link = found[1:-1].split("](")
        assert link.startswith("figures/REPORT.md#")
        return text

    assert status("hopper-medium-v2") == "made: laptop, seeds 0-1; 1 of 13 tasks"
    assert status("hopper-medium-v2", "halfcheetah-medium-v2").endswith("; 2 of 13 tasks")
    assert status("toy-maze").endswith("; toy-maze stands in")


def test_an_artefact_of_which_nothing_was_run_is_not_called_made(folder):
    made = {
        "table_1": {"seeds": [0, 1], "caption": "Table 1", "files": []},
        "figure_4": {"seeds": [], "caption": "Fig. 4", "files": []},
    }
    made["figure_4_successes"] = made["figure_4"]
    write(folder, "exploration", artefacts=made)
    rows = overview.artefact_rows()
    status = rows[rows["section"] == "gde/exploration"].set_index("artefact")["status"]
    assert status["table_1"] == "made: laptop, seeds 0-1"
    assert status["figure_4"] == "not run at profile laptop"
    assert "Table 1, Fig. 4 (not run)" in set(overview.matrix("gde")["artefacts"])


def test_a_section_that_judges_only_findings_of_ours_is_not_called_not_run(folder):
    own = {"claim_id": "o2okit:gde/exploration-1", "verdict": "undecided"}
    write(folder, "exploration", claims=[own])
    matrix = overview.matrix("gde")
    row = matrix[matrix["section"].str.contains("exploration.ipynb")].iloc[0]
    assert row["verdicts"] == "only ours"
