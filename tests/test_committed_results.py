"""What is committed under figures/ follows from the runs it names, and the prose from it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from o2okit.papers import overview, values
from o2okit.papers.gde import toy_maze
from o2okit.report.markdown import page
from o2okit.report.verdicts import claim_verdict

FIGURES = Path(__file__).parents[1] / "figures" / "gde"


def test_the_committed_verdict_follows_from_the_committed_curves():
    record = json.loads((FIGURES / "toy_maze.json").read_text())
    curves = pd.read_csv(FIGURES / "figure_2b.csv")
    last = curves.sort_values("step").groupby(["alpha", "seed"]).tail(toy_maze.LAST)
    finals = last.groupby(["alpha", "seed"])["return"].mean()
    assert sorted(finals[0].index) == record["seeds"] == list(range(5))
    verdict = claim_verdict(finals[3].to_numpy(), finals[0].to_numpy(), "<", profile="laptop")
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


def test_the_readme_states_the_committed_verdict():
    readme = (FIGURES.parents[1] / "README.md").read_text()
    record = json.loads((FIGURES / "toy_maze.json").read_text())
    [claim] = [claim for claim in record["claims"] if claim["claim_id"] == "gde-36"]
    difference = claim["reason"].split()[1]
    assert f"difference of the final returns {difference} over five seeds" in readme
    assert "**supported**" in readme
    assert "@" not in readme, "a placeholder was left"


def test_the_committed_visits_show_the_two_ways():
    visits = pd.read_csv(FIGURES / "figure_2c.csv").set_index(["row", "column"])
    near_left, near_right = (2, 1), (4, 19)  # the cells before the goals
    assert visits.loc[near_left, "visits_alpha_0"] > 20 * visits.loc[near_left, "visits_alpha_3"]
    assert visits.loc[near_right, "visits_alpha_3"] > 20 * visits.loc[near_right, "visits_alpha_0"]
    assert np.isclose(visits.sum().iloc[-2:], 5 * 20_000).all()
