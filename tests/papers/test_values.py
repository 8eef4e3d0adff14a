import csv
from pathlib import Path

import pandas as pd
import pytest

from o2okit.errors import UserError
from o2okit.papers import values

PUBLISHED = Path(values.__file__).parent / "published"
SHIPPED = {
    "published": [
        "README.md",
        "claims.csv",
        "d4rl_datasets.csv",
        "hyperparameters.csv",
        "scores.csv",
        "totals.csv",
    ],
    "specs": ["gde.md", "ocr_cft.md", "qcse.md", "samg.md", "tasks.md"],
}
ORIGINALS = Path(__file__).parents[3] / "shared"


@pytest.mark.parametrize("folder", SHIPPED)
def test_only_data_is_shipped(folder):
    assert sorted(path.name for path in (PUBLISHED.parent / folder).iterdir()) == SHIPPED[folder]


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="no folder with the originals beside this one")
@pytest.mark.parametrize(
    ("folder", "name"), [(folder, name) for folder, names in SHIPPED.items() for name in names]
)
def test_shipped_files_are_the_originals(folder, name):
    shipped, original = (root / folder / name for root in (PUBLISHED.parent, ORIGINALS))
    assert shipped.read_bytes() == original.read_bytes()


def test_papers_are_those_of_the_files_in_our_order():
    assert list(values.PAPERS) == ["gde", "qcse", "samg", "ocr_cft"]
    for table in (values.scores(), values.claims(), values.hyperparameters()):
        assert set(table["paper"]) == set(values.PAPERS)
    readme = (PUBLISHED / "README.md").read_text(encoding="utf-8")
    assert all(f"| {title} |" in readme for title in values.PAPERS.values())


@pytest.mark.parametrize(
    ("lookup", "rows"),
    [
        (values.scores, 1212),
        (values.totals, 177),
        (values.claims, 132),
        (values.hyperparameters, 192),
    ],
)
def test_unfiltered_lookup_has_every_row(lookup, rows):
    assert len(lookup()) == rows


def test_every_row_of_scores_is_one_cell():
    with (PUBLISHED / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[::11]:
        key = [row[name] for name in ("paper", "artefact", "task", "method", "metric")]
        cell = values.cell(*key)
        assert cell.value == float(row["value"])
        assert cell.std == (float(row["std"]) if row["std"] else None)
        assert cell.offline_value == (float(row["offline_value"]) if row["offline_value"] else None)
        assert (cell.base, cell.section) == (row["base"], row["section"])
        assert (cell.unit, cell.source_note) == (row["unit"], row["source_note"])


def test_cell_by_hand():
    cell = values.cell("gde", "table_2", "hopper-medium-v2", "iql+gde")
    assert (cell.value, cell.std, cell.offline_value) == (101.9, 6.9, None)
    assert cell.metric == "normalized_score"
    assert cell.source_note.startswith("L207 ")
    assert values.cell("ocr_cft", "table_1", "antmaze-umaze-v2", "iql").offline_value == 80.8


def test_ambiguous_cell_says_what_to_add():
    key = ("qcse", "table_4", "pen-binary-v0", "cql")
    with pytest.raises(UserError, match=r"2 published cells fit.*metric: 'score', 'hours'"):
        values.cell(*key)
    assert values.cell(*key, "hours").value == 8.293
    assert values.cell(*key, metric="score").unit == "points (0-100)"


def test_filters_combine():
    table = values.scores(paper="gde", artefact="table_2", method="iql+gde")
    assert len(table) == 15
    assert set(table["artefact"]) == {"table_2"}
    assert list(table.index) == list(range(15))
    assert len(values.totals("qcse", "table_1", "antmaze")) == 7


def test_a_cell_that_names_several_is_found_by_each():
    both = values.claim("gde-42")
    assert both.artefact == "table_1; table_5"
    for artefact in ("table_1", "table_5"):
        assert both.claim_id in set(values.claims("gde", artefact)["claim_id"])
    threshold = values.hyperparameters("samg", "iql+samg")
    assert "awac+samg, iql+samg, cal_ql+samg" in set(threshold["method"])


def test_claim():
    claim = values.claim("gde-36")
    assert (claim.artefact, claim.lhs, claim.direction, claim.rhs) == (
        "figure_2",
        "cql",
        "<",
        "dqn",
    )
    assert values.claim("gde-39").rhs == ""


@pytest.mark.parametrize(
    ("lookup", "words"),
    [
        (lambda: values.scores("gdee"), ["unknown paper 'gdee'", "'gde'", "values.PAPERS"]),
        (lambda: values.scores(3), ["unknown paper 3"]),
        (lambda: values.scores(["gde"]), ["unknown paper ['gde']"]),
        (lambda: values.scores(method="iql_gde"), ["unknown method", "'iql+gde'", "scores.csv"]),
        (lambda: values.scores("gde", metric="hours"), ["for gde 'hours'", "normalized_score"]),
        (lambda: values.cell("gde", "table_2", "hopper-medium", "awac"), ["'hopper-medium-v2'"]),
        (lambda: values.totals("samg"), ["paper in totals.csv 'samg'", "qcse"]),
        (lambda: values.totals(group="antmazes"), ["unknown group", "'antmaze'"]),
        (lambda: values.claims("gde", "table_6"), ["artefact in claims.csv for gde 'table_6'"]),
        (lambda: values.claim("gde-99"), ["unknown claim_id", "'gde-39'"]),
        (lambda: values.hyperparameters("samg", "sac"), ["unknown method", "for samg"]),
        (lambda: values.artefacts("GDE"), ["unknown paper 'GDE'"]),
        (lambda: values.printed("score"), ["'scores'"]),
    ],
)
def test_unknown_values_are_refused_with_the_allowed_ones(lookup, words):
    with pytest.raises(UserError) as error:
        lookup()
    for word in words:
        assert word in str(error.value)


def test_artefacts_in_natural_order():
    gde = values.artefacts("gde")
    assert gde.index("table_2") < gde.index("table_10")
    assert gde[:2] == ["figure_2", "figure_3"]
    assert len(gde) == len(set(gde))
    # Table 6 of ocr_cft has totals and claims, figures have claims only.
    assert {"table_6", "figure_13", "figure_14", "text:C.2"} <= set(values.artefacts("ocr_cft"))
    assert not any(";" in name for paper in values.PAPERS for name in values.artefacts(paper))


def test_printed_keeps_every_digit_and_blank():
    table = values.printed("totals")
    row = table[(table["artefact"] == "table_3") & (table["method"] == "cql+vcse")].iloc[-1]
    assert row["value"] == "458.0"
    assert (values.printed("scores")["std"] == "").sum() == 305


@pytest.mark.parametrize(
    ("lookup", "column"),
    [
        (values.scores, "value"),
        (lambda: values.scores("gde"), "value"),
        (values.claims, "lhs"),
        (lambda: values.printed("totals"), "value"),
    ],
)
def test_a_caller_cannot_change_what_the_next_one_reads(lookup, column):
    before = lookup()
    changed = lookup()
    changed[column] = changed[column].iloc[0]
    changed.drop(changed.index[:3], inplace=True)
    changed.loc[changed.index[0], column] = changed[column].iloc[-1]
    pd.testing.assert_frame_equal(lookup(), before)
