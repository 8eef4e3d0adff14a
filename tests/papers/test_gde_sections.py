"""What the sections of the GDE paper declare."""

import math

import numpy as np
import pytest
from tiny_grid import MAZE

import o2okit
from o2okit.papers import SECTIONS, values
from o2okit.papers.gde import entries as e
from o2okit.papers.gde import n_step
from o2okit.papers.grid import GridStudy, published

GRIDS = [cls for cls in SECTIONS if issubclass(cls, GridStudy) and cls.key.startswith("gde/")]
TABLES = [
    (cls, name)
    for cls in GRIDS
    for name, panel in cls.panels.items()
    if not (panel.curves or panel.aggregate) and name.startswith("table")
]


@pytest.mark.parametrize(("cls", "name"), TABLES, ids=lambda value: getattr(value, "key", value))
def test_every_column_of_a_table_meets_its_published_cells(cls, name):
    panel, printed = cls.panels[name], values.scores("gde", name)
    assert set(printed["method"]) <= {entry.published for entry in panel.entries}
    tasks = panel.tasks or [task for group in cls.groups.values() for task in group]
    for entry in panel.entries:
        assert entry.published, f"{entry.label} has no published name"
        where = [t for t in tasks if entry.family in ("", o2okit.tasks.task(t).family)]
        assert [t for t in where if math.isnan(published("gde", name, t, entry)[0])] == []
    run = {t for entry in panel.entries for t in tasks}
    assert set(printed["task"]) <= run


def test_a_published_value_may_be_another_artefacts():
    entry = e.renamed(e.ON_IQL, "OnIQL", "table_9:on_iql (250k)")
    assert published("gde", "table_5", MAZE, entry) == (94.8, 2.4)
    assert math.isnan(published("gde", "table_5", MAZE, e.ON_IQL)[0])
    assert math.isnan(published("gde", "table_5", MAZE, e.renamed(e.ON_IQL, "OnIQL", ""))[0])


@pytest.mark.parametrize("cls", GRIDS, ids=lambda cls: cls.key)
def test_labels_of_a_panel_are_different_and_profiles_run_tasks_of_the_paper(cls):
    for panel in cls.panels.values():
        assert len({entry.label for entry in panel.entries}) == len(panel.entries)
    named = {task for group in cls.groups.values() for task in group}
    assert set(cls.amounts) == {"smoke", "laptop", "paper"}
    for amount in cls.amounts.values():
        assert set(amount.tasks) <= named | {cls.stand_in}
    chosen = {"gde/atari"}  # the paper doesn't name its games: any can be asked for
    assert set(cls.amounts["paper"].tasks) == named or cls.key in chosen


def test_every_claim_is_judged_once(folder):
    judged = [row["claim_id"] for cls in GRIDS for row in made_up_claims(cls)]
    numbers = [int(key.removeprefix("gde-")) for key in judged if key.startswith("gde-")]
    assert sorted(numbers) == [*range(1, 36), *range(37, 43)]  # 36: the toy maze


def made_up_claims(cls):
    class Without(cls):
        def scores(self, task, entry):
            return np.zeros(len(self.seeds))

        def tasks_of(self, artefact):
            return []

    return Without(profile="smoke")._judge()


def test_horizons_are_gdes_own_and_others():
    assert [dict(entry.method_hyper)["n"] for entry in n_step.HORIZONS] == [1, 3, 5, 10]
