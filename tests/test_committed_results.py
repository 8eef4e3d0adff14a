"""What is committed under figures/ follows from the runs it names, and the prose from it."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from o2okit.papers import overview, values
from o2okit.papers.gde import toy_maze
from o2okit.report import datasets
from o2okit.report.markdown import page, with_matrix
from o2okit.report.verdicts import claim_verdict
from o2okit.tasks import tasks_of

FIGURES = Path(__file__).parents[1] / "figures" / "gde"


def test_the_committed_verdict_follows_from_the_committed_curves():
    record = json.loads((FIGURES / "toy_maze.json").read_text())
    curves = pd.read_csv(FIGURES / "figure_2c.csv")
    last = curves.sort_values("step").groupby(["alpha", "seed"]).tail(toy_maze.LAST)
    finals = last.groupby(["alpha", "seed"])["return"].mean()
    assert sorted(finals[0].index) == record["seeds"] == list(range(5))
    sides = finals[3].to_numpy(), finals[0].to_numpy()
    verdict = claim_verdict(*sides, "<", profile="laptop", paired=True)
    [claim] = [claim for claim in record["claims"] if claim["claim_id"] == "gde-36"]
    assert claim["verdict"] == verdict.verdict == "supported"
    assert claim["reason"] == verdict.reason
    assert verdict.difference.high < 0
    # The same recipe on this machine gives the committed dataset.
    assert record["dataset"]["sha256"] == toy_maze.scripted().hash


def test_the_committed_report_is_that_of_the_committed_record():
    text = page(values.PAPERS, overview.artefact_rows(), overview.ledger(), overview.records())
    assert (FIGURES.parent / "REPORT.md").read_text() == text
    for record in overview.records().values():
        assert not any(commit.endswith("+") for commit in record["trained"]["commit"])


def test_the_readmes_matrix_is_that_of_the_committed_records():
    readme = (FIGURES.parents[1] / "README.md").read_text(encoding="utf-8")
    assert with_matrix(readme, "gde", overview.matrix("gde")) == readme, "run: o2okit report"
    assert "the toy maze](notebooks/gde/toy_maze.ipynb)" in readme
    assert "gde-36 supported" in readme
    assert with_matrix("no marks", "gde", overview.matrix("gde")) == "no marks"


def test_the_readme_states_the_committed_verdict():
    readme = (FIGURES.parents[1] / "README.md").read_text()
    record = json.loads((FIGURES / "toy_maze.json").read_text())
    [claim] = [claim for claim in record["claims"] if claim["claim_id"] == "gde-36"]
    difference = claim["reason"].split()[1]
    assert f"difference of the final returns {difference} over five seeds" in readme
    assert "**supported**" in readme
    text = re.sub(r"```.*?```", "", readme, flags=re.DOTALL)  # without decorators
    assert "@" not in text, "a placeholder was left"


def test_the_committed_visits_show_the_two_ways():
    visits = pd.read_csv(FIGURES / "figure_2b.csv").set_index(["row", "column"])
    near_left, near_right = (2, 1), (4, 19)  # the cells before the goals
    assert visits.loc[near_left, "visits_alpha_0"] > 20 * visits.loc[near_left, "visits_alpha_3"]
    assert visits.loc[near_right, "visits_alpha_3"] > 20 * visits.loc[near_right, "visits_alpha_0"]
    assert np.isclose(visits.sum().iloc[-2:], 5 * 20_000).all()


@pytest.mark.parametrize(
    ("backbones", "steps"),
    [(["bc", "td3+bc", "iql"], 20_000), (["bc", "td3+bc", "awac", "iql"], 100_000)],
)
def test_the_readme_states_the_committed_scores_of_the_backbones(backbones, steps):
    readme = (FIGURES.parents[1] / "README.md").read_text()
    name = f"hopper-medium-v2.{'-'.join(backbones)}.offline"
    name += ".steps-20000_eval_every-5000" if steps == 20_000 else ""
    assert f"figures/cells/{name}.png" in readme
    table = pd.read_csv(FIGURES.parent / "cells" / f"{name}.summary.csv")
    final = table[table["statistic"] == "final"]
    assert final["backbone"].tolist() == backbones
    ten = table[table["statistic"] == "last-10"].set_index("backbone")
    path = FIGURES.parent / "cells" / "hopper-medium-v2.td3+bc.offline.steps-200000.summary.csv"
    end, longer = (row for _, row in pd.read_csv(path).iterrows())
    shown = (f"{row.score:.1f} ({row.low:.1f} to {row.high:.1f})" for row in (end, longer))
    assert f"| `td3+bc`, 200,000 updates | | {' | '.join(shown)} |" in readme
    for row in final.to_dict("records"):
        (line,) = re.findall(
            rf"^\| `{re.escape(row['backbone'])}` \| [\d(|].*", readme, re.MULTILINE
        )
        assert f"| {row['score']:.1f} ({row['low']:.1f} to {row['high']:.1f}) |" in line
        assert row["steps"] == steps
        if steps == 100_000:
            last = ten.loc[row["backbone"]]
            # Where the data's own mean does not count the episode that the file breaks off.
            above = longer if row["backbone"] == "td3+bc" else last
            assert above.low > longer.data > 43.86, "the README: above the data"
            assert line.endswith(f" {last.score:.1f} ({last.low:.1f} to {last.high:.1f}) |")
    assert f"| the data's own mean | {final['data'].iloc[0]:.1f} |" in readme
    record = json.loads((FIGURES.parent / "cells" / f"{name}.json").read_text())
    assert not any(commit.endswith("+") for commit in record["trained"]["commit"])


def test_the_committed_comparison_of_datasets_follows_from_its_numbers():
    folder = FIGURES.parent / "data"
    frame = pd.read_csv(folder / "datasets.csv")
    assert list(frame.columns) == datasets.COLUMNS
    assert set(frame["task"]) >= {t.name for t in tasks_of("locomotion") if t.quality}
    published = pd.DataFrame([datasets.missing(name, "", "", "") for name in frame["task"]])
    columns = [name for name in published if name.startswith(("published", "nearest_"))]
    assert np.allclose(frame[columns], published[columns], rtol=1e-5, equal_nan=True)
    table = (folder / "datasets.md").read_text()
    assert all(f"| {name} " in table for name in frame["task"])
    ours = frame[frame["source"] == "kit"].set_index("task")
    made = json.loads((folder / "datasets.json").read_text())
    for name, row in ours[ours["status"] == "compared"].iterrows():
        assert row["episodes"] == made["datasets"][f"{name} (kit)"]["episodes"]
    readme = (FIGURES.parents[1] / "README.md").read_text()
    assert f"returns {-ours['difference_percent']['hopper-expert-v2']:.0f} % less" in readme
    medium = ours.loc["hopper-medium-v2"]
    assert abs(medium["difference_percent"]) < 2 * medium["error_percent"], "the README: matches"
    assert medium["state_distance"] > medium["nearest_distance"], "the README: differently"
    assert not made["environment"]["commit"].endswith("+")
