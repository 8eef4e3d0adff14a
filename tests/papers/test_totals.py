from decimal import Decimal

import pandas as pd
import pytest

from o2okit.errors import UserError
from o2okit.papers import totals, values
from o2okit.papers.totals import CELLS_ELSEWHERE, KNOWN_MISMATCHES, NO_CELLS, Key, Status, recompute


@pytest.fixture(scope="module")
def results():
    return {result.key: result for result in recompute()}


def corrupted(name, change, **where):
    """A file as text with one column of the rows in question changed."""
    table = values.printed(name)
    rows = pd.Series(True, index=table.index)
    for column, value in where.items():
        rows &= table[column] == value
    assert rows.sum() == 1
    for column, value in change.items():
        table.loc[rows, column] = value
    return table


def of(results, *key):
    return next(result for result in results if result.key == Key(*key))


def test_every_printed_total_is_judged_as_expected(results):
    assert len(results) == 177
    for status, keys in [
        (Status.KNOWN, set(KNOWN_MISMATCHES)),
        (Status.NO_CELLS, NO_CELLS),
        (Status.UNEXPECTED, set()),
    ]:
        assert {key for key, result in results.items() if result.status is status} == keys
    assert (len(KNOWN_MISMATCHES), len(NO_CELLS)) == (24, 3)


def test_sum_average_offline_and_increase_by_hand(results):
    total = results[Key("gde", "table_2", "antmaze", "iql+gde")]
    assert (total.from_cells, total.n_cells) == (Decimal("530.6"), 6)
    average = results[Key("qcse", "table_1", "antmaze+gym_mujoco", "iql")]
    assert (average.from_cells, average.n_cells) == (Decimal(296 + 688) / 12, 12)
    before = results[Key("ocr_cft", "table_1", "antmaze (offline)", "o2sac")]
    after = results[Key("ocr_cft", "table_1", "antmaze", "o2sac")]
    assert (before.from_cells, after.from_cells) == (Decimal("136.6"), Decimal("173.4"))
    gain = results[Key("ocr_cft", "table_4", "antmaze (increase)", "o2ppo")]
    assert (gain.printed, gain.from_cells) == (Decimal("77.16"), Decimal("77.13"))


def test_half_buffer_total_comes_from_another_table(results):
    (key,) = CELLS_ELSEWHERE
    assert results[key].status is Status.MATCH
    assert (results[key].printed, results[key].n_cells) == (Decimal("225.54"), 12)


@pytest.mark.parametrize("value", ["102.2", "-101.9"])
def test_a_corrupted_cell_is_detected(value):
    where = {"paper": "gde", "artefact": "table_2", "task": "hopper-medium-v2", "method": "iql+gde"}
    found = recompute(scores=corrupted("scores", {"value": value}, **where))
    broken = {result.key for result in found if result.status is Status.UNEXPECTED}
    assert Key("gde", "table_2", "locomotion", "iql+gde") in broken
    assert Key("gde", "table_2", "antmaze", "iql+gde") not in broken
    assert {key.artefact for key in broken} == {"table_2"}


def test_a_corrupted_total_is_detected_even_where_a_mismatch_is_known():
    where = {"paper": "gde", "artefact": "table_9", "group": "locomotion"}
    key = (*where.values(), "iql+gde (1m)")
    for value, remark in [
        ("905.7", "not on the list of known mismatches"),
        ("894.7", "listed as a mismatch"),
    ]:
        table = corrupted("totals", {"value": value}, **where, method=key[-1])
        result = of(recompute(totals=table), *key)
        assert (result.status, result.remark) == (Status.UNEXPECTED, remark)


def test_missing_cells_are_detected():
    scores = values.printed("scores")
    found = recompute(scores=scores[scores["paper"] != "gde"])
    assert all(r.status is Status.UNEXPECTED for r in found if r.key.paper == "gde")
    scores["offline_value"] = ""
    result = of(recompute(scores=scores), "ocr_cft", "table_4", "antmaze (offline)", "iql")
    assert result.status is Status.UNEXPECTED


def test_half_a_unit_of_the_last_digit_still_matches():
    key = {"paper": "gde", "artefact": "table_2", "group": "antmaze", "method": "iql+gde"}
    for printed, status in [
        ("530.6", Status.MATCH),
        ("531", Status.MATCH),
        ("530.60", Status.MATCH),
        ("530.7", Status.UNEXPECTED),
        ("530", Status.UNEXPECTED),
        ("530.61", Status.UNEXPECTED),
    ]:
        table = corrupted("totals", {"value": printed}, **key)
        assert of(recompute(totals=table), *key.values()).status is status


@pytest.mark.parametrize("group", ["antmazes", "antmaze (online)"])
def test_unknown_group_is_refused(group):
    key = {"paper": "gde", "artefact": "table_2", "group": "antmaze", "method": "iql+gde"}
    with pytest.raises(UserError, match="unknown group of tasks"):
        recompute(totals=corrupted("totals", {"group": group}, **key))


def test_command_prints_a_line_per_total_and_succeeds(capsys):
    assert totals.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 178
    assert lines[-1].endswith("150 match, 24 known mismatch, 0 UNEXPECTED, 3 no cells")


def test_command_fails_on_an_unexpected_mismatch(monkeypatch, capsys):
    key = Key("gde", "table_10", "antmaze", "iql+gde (n=1)")
    monkeypatch.delitem(totals.KNOWN_MISMATCHES, key)
    assert totals.main() == 1
    assert "1 UNEXPECTED" in capsys.readouterr().out
