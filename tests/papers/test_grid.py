"""Grid studies: a tiny one on real runs."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from tiny_grid import HOPPER, MAZE, MEDIUM, ONLINE_STEPS, TINY, WALKER, Tiny

import o2okit
from o2okit import UserError
from o2okit.papers import SECTIONS, grid, values
from o2okit.papers import parameters as p
from o2okit.papers.gde import entries as e
from o2okit.papers.gde import long, n_step
from o2okit.papers.grid import Amounts
from o2okit.report.statistics import bootstrap_interval, iqm
from o2okit.report.tables import scores as scores_table
from o2okit.training import MissingAgentError
from o2okit.training.obtain import why_not


@pytest.fixture(scope="module")
def study(folder):
    return Tiny(profile="laptop", device="cpu").run()


# --- runs -----------------------------------------------------------------------------------------
def test_what_panels_share_is_trained_once(study):
    ids = [spec.id for spec in study.specs()]
    assert len(ids) == len(set(ids))
    runs = {(spec.task, spec.method, spec.steps, spec.phase) for spec in study.specs()}
    assert len(ids) == len(study.seeds) * len(runs)
    assert ("hopper", "naive", ONLINE_STEPS, "online") in runs, "from scratch: without a dataset"
    assert (HOPPER, "naive", 2 * ONLINE_STEPS, "online") in runs, (
        "an entry with a length of its own"
    )


def test_from_scratch_is_one_run_for_all_datasets_of_a_robot(study):
    assert study.spec(HOPPER, e.SCRATCH, 0).id == study.spec(MEDIUM, e.SCRATCH, 0).id
    assert study.spec(HOPPER, e.SCRATCH, 0).id != study.spec(HOPPER, e.SCRATCH, 1).id
    assert study.spec(HOPPER, e.PRELOADED, 0).task == HOPPER
    assert study.spec(HOPPER, e.PRELOADED, 0).dataset is study.datasets[HOPPER]


def test_equal_entries_are_equal_runs_in_every_section(folder, monkeypatch):
    found = {}
    for name in ("main", "ablations", "offline_data", "sac", "long", "n_step"):
        cls = next(cls for cls in SECTIONS if cls.key == f"gde/{name}")
        monkeypatch.setattr(cls, "amounts", {"smoke": TINY})
        monkeypatch.setattr(cls, "stand_in", HOPPER)
        given = cls.parameters | {"tasks": p.names([HOPPER, WALKER], doc="tasks")}
        monkeypatch.setattr(cls, "parameters", given)
        found[name] = cls(profile="smoke", tasks=[HOPPER])
    ids = {
        (name, entry.label): study.spec(HOPPER, entry, 0).id
        for name, study in found.items()
        for panel in study.panels
        for entry in study.entries_of(panel, HOPPER)
    }
    gde = ids["main", "GDE"]
    assert gde == ids["ablations", "GDE"] == ids["sac", "GDE"] == ids["long", "GDE"]
    assert gde == ids["offline_data", "GDE"] == ids["n_step", "n = 1"], "n = 1 in locomotion"
    assert ids["main", "FromScratch"] == ids["sac", "SAC"]
    assert ids["main", "IQL"] == ids["offline_data", "IQL"] != ids["offline_data", "OnIQL"]
    assert ids["long", "OnIQL"] == ids["offline_data", "OnIQL"] != ids["long", "OnIQL, long"]
    assert len({id for (name, _), id in ids.items() if name == "n_step"}) == 4


def test_a_longer_run_scales_what_depends_on_its_length(study):
    short, longer = (study.spec(HOPPER, entry, 0) for entry in (e.GDE, long.GDE))
    assert longer.steps == 4 * short.steps == 4 * short.method_hyper["total_steps"]
    assert longer.method_hyper["total_steps"] == longer.steps, "rho falls over the whole run"
    assert longer.start.id == short.start.id
    assert study.online_steps() == [ONLINE_STEPS, 2 * ONLINE_STEPS]
    assert f"{ONLINE_STEPS} or {2 * ONLINE_STEPS} online" in study.label("smooth")
    assert f", {ONLINE_STEPS} online" in study.label("table_8")


# --- numbers --------------------------------------------------------------------------------------
def test_cells_carry_our_scores_and_the_published_values(study):
    cells = study.cells("table_8").set_index(["task", "entry"])
    assert set(cells.index) == {
        (t, x) for t in (HOPPER, WALKER) for x in ("Offline", "FromScratch", "GDE")
    }
    cell = cells.loc[HOPPER, "GDE"]
    printed = values.cell("gde", "table_8", HOPPER, "iql+gde")
    assert (cell["published"], cell["published_std"]) == (printed.value, printed.std) == (92.6, 7.0)
    ours = study.scores(HOPPER, e.GDE)
    assert cell["score"] == pytest.approx(ours.mean())
    assert cell["std"] == pytest.approx(ours.std(ddof=1))
    assert cell["seeds"] == 2
    assert cell["difference"] == pytest.approx(ours.mean() - 92.6)
    assert cell["verdict"] == "not comparable", "the kit's data are not D4RL's"
    assert math.isnan(cells.loc[HOPPER, "Offline"]["published"]), "Table 8 prints no Offline"
    assert cells.loc[HOPPER, "Offline"]["verdict"] == ""


def test_scores_follow_the_papers_statistic_and_offline_is_the_last_agent(study):
    curves = [study.curve(HOPPER, e.GDE, seed)["score"] for seed in study.seeds]
    assert study.scores(HOPPER, e.GDE).tolist() == [curve[1:].tail(10).mean() for curve in curves]
    before = [study.curve(HOPPER, e.OFFLINE, seed)["score"] for seed in study.seeds]
    assert study.scores(HOPPER, e.OFFLINE).tolist() == [curve.iloc[-1] for curve in before]
    assert all(len(curve) > 1 for curve in before)


def test_sums_over_tasks(study):
    each = {task: study.scores(task, e.GDE) for task in (HOPPER, WALKER)}
    assert study.run_of("locomotion") == study.run_of("") == [HOPPER, WALKER]
    assert study.run_of([WALKER, MEDIUM]) == [WALKER]
    assert study.total(e.GDE, "locomotion") == pytest.approx(each[HOPPER] + each[WALKER])
    assert study.total(e.GDE, [HOPPER]) == pytest.approx(each[HOPPER])
    assert study.total(e.GDE, "antmaze").size == study.middle(e.GDE, "antmaze").size == 0
    assert study.spread(e.GDE, "antmaze").size == 0
    assert study.middle(e.GDE, "") == pytest.approx((each[HOPPER] + each[WALKER]) / 2)
    table = study.table("table_8").set_index("task")
    assert list(table.index) == [HOPPER, WALKER, "locomotion, 2 of 9"]
    total = each[HOPPER].mean() + each[WALKER].mean()
    assert table.loc["locomotion, 2 of 9", "GDE"] == f"{total:.1f} (125.9)"  # 92.6 + 33.3


def test_an_entry_for_one_family_is_not_run_on_another(study):
    assert e.NO_N_STEP in Tiny.panels["table_8"].entries
    assert e.NO_N_STEP.label not in study.table("table_8").columns
    assert e.NO_N_STEP in study.entries_of("table_8", MAZE)


def test_the_aggregate_pools_all_runs_and_resamples_within_tasks(study):
    table = study.table("over_all").set_index("entry")
    by_task = [study.scores(task, e.GDE) for task in (HOPPER, WALKER)]
    expected = bootstrap_interval(by_task, iqm)
    assert table.loc["GDE", "iqm"] == pytest.approx(expected.estimate)
    assert tuple(table.loc["GDE", ["low", "high"]]) == pytest.approx((expected.low, expected.high))
    assert (table["tasks"] == 2).all()


# --- figures --------------------------------------------------------------------------------------
def lines(figure):
    return [line for axes in figure.axes for line in axes.lines]


def test_a_smoothed_curve_is_a_running_mean_of_numbers_that_stay(study, folder):
    figure = study.figure("smooth")
    raw = pd.read_csv(folder / "figures" / "gde" / "smooth.csv")
    part = raw[(raw["task"] == HOPPER) & (raw["entry"] == "GDE")]
    mean = part.groupby("step")["score"].mean()
    assert mean.tolist() == pytest.approx(
        np.mean([study.curve(HOPPER, e.GDE, seed)["score"] for seed in study.seeds], axis=0),
        rel=1e-4,
    )
    drawn = lines(figure)[0].get_ydata()
    first = (mean.iloc[0] + mean.iloc[1]) / 2  # the window is cut off at both ends
    middle = mean.iloc[1:4].mean()
    assert (drawn[0], drawn[2]) == pytest.approx((first, middle), rel=1e-4)
    assert len(drawn) == len(mean)


def test_a_line_per_seed(study):
    figure = study.figure("seeds")
    assert len(lines(figure)) == 2 * len(study.seeds)
    assert len({line.get_color() for line in lines(figure)}) == 2
    last = study.curve(HOPPER, e.OFF2ON, 1)["score"].iloc[-1]
    assert lines(figure)[1].get_ydata()[-1] == last


def test_a_metric_of_the_updates_is_drawn_against_steps(study):
    figure = study.figure("share")
    numbers = study.curves("share")
    assert list(numbers.columns) == ["task", "entry", "seed", "step", "online_share"]
    assert numbers["online_share"].between(0, 1).all()
    assert set(numbers["step"]) == {2, 4, 6, 8}, "none before the first update"
    assert figure.axes[0].get_ylabel() == "online share"


def test_a_panel_without_tasks_says_why(study):
    [text] = [text.get_text() for axes in study.figure("maze").axes for text in axes.texts]
    assert text.startswith("Not run.")
    assert MAZE in text
    assert study.table("maze")["task"].tolist() == [MAZE]
    assert study.seeds_of("maze") == []
    assert study.label("maze") == "profile laptop · not run", "no data, no seeds: nothing was run"


def test_the_record_and_the_verdicts(study, folder):
    study.figure("table_8")
    claims = study.claims().set_index("claim_id")
    assert claims.loc["gde-05", "reason"].endswith("sum of 2 of 9 tasks")
    assert claims.loc["gde-05", "verdict"] != "not run"
    assert claims.loc["gde-02", "verdict"] == "not run"
    record = json.loads((folder / "figures" / "gde" / "tiny.json").read_text())
    assert record["tasks"] == [HOPPER, WALKER]
    assert record["steps"] == {"offline": 2, "online": [ONLINE_STEPS, 2 * ONLINE_STEPS]}


def test_verdicts_of_another_kernel_leave_what_was_drawn_in_the_record(study, folder):
    figures = folder / "figures" / "gde"

    def kernel(*artefacts):
        """What the record has after a kernel that draws some artefacts and judges."""
        fresh = type(study)(profile="laptop", device="cpu").run()
        for name in artefacts:
            fresh.figure(name)
        fresh.claims()
        return list(json.loads((figures / "tiny.json").read_text())["artefacts"])

    (figures / "tiny.json").unlink(missing_ok=True)
    assert kernel("table_8", "seeds") == ["table_8", "seeds"]
    assert kernel() == ["table_8", "seeds"]
    (figures / "seeds.png").unlink()
    assert kernel() == ["table_8"]
    record = json.loads((figures / "tiny.json").read_text())
    (figures / "tiny.json").write_text(json.dumps(record | {"runs": ["others"]}))
    assert kernel() == [], "drawn from other runs"


def test_what_needs_agents_that_an_archive_left_out_stays_as_it_was(study, folder, monkeypatch):
    figures = folder / "figures" / "gde"

    def kernel():
        fresh = type(study)(profile="laptop", device="cpu").run()
        figure = fresh.figure("seeds")
        verdicts = fresh.claims().set_index("claim_id")["verdict"]
        return figure, verdicts, [path.name for path in fresh.files()]

    def without_agents(self, artefact):
        raise MissingAgentError("the checkpoint is missing")

    (figures / "tiny.json").unlink(missing_ok=True)
    _, judged, files = kernel()
    drawn = (figures / "seeds.png").read_bytes()
    monkeypatch.setattr(type(study), "_draw", without_agents)
    monkeypatch.setattr(type(study), "total", lambda *_: np.array([]))
    figure, again, still = kernel()
    assert "not drawn anew: the checkpoint is missing" in figure.axes[0].texts[0].get_text()
    assert (figures / "seeds.png").read_bytes() == drawn
    assert again.equals(judged)
    assert still == files
    (figures / "tiny.json").unlink()
    _, again, still = kernel()
    assert again["gde-05"] == "not run" != judged["gde-05"]
    assert (figures / "seeds.png").read_bytes() != drawn
    assert still == files


# --- tasks and sources ----------------------------------------------------------------------------
@pytest.fixture
def no_mazes(monkeypatch):
    """As on a machine without AntMaze data; the kit may learn to make them."""
    monkeypatch.setattr(
        grid, "why_not", lambda task, source: "no ant" if task.startswith("antmaze") else ""
    )


def test_tasks_whose_files_are_not_here_are_left_out_whatever_the_source(folder):
    for source in ("d4rl", "minari"):
        assert "no dataset of hopper-medium-v2" in why_not("hopper-medium-v2", source)
    with pytest.raises(o2okit.UserError, match="there are data for none of its tasks"):
        o2okit.study("gde/main", profile="laptop", source="d4rl")


def test_tasks_without_data_are_left_out_with_the_reason(folder, no_mazes, monkeypatch):
    with_maze = Amounts(**{**vars(TINY), "tasks": (HOPPER, MAZE)})
    monkeypatch.setattr(Tiny, "amounts", {"smoke": with_maze})
    left = Tiny(profile="smoke")
    assert (left.tasks, left.left_out) == ([HOPPER], {MAZE: "no ant"})
    assert left.variant == "", "nobody asked for anything else"
    assert left.missing("maze")["not_run"].tolist() == ["no ant"]
    with pytest.raises(UserError, match="no ant"):
        Tiny(profile="smoke", tasks=[HOPPER, MAZE])


def test_where_there_are_no_data_for_any_task_another_stands_in_and_is_not_judged(folder, no_mazes):
    found = o2okit.study("gde/n_step", profile="laptop")
    assert found.tasks == [MEDIUM] == found.tasks_of("table_10")
    assert found.run_of("") == [], "and so nothing is judged by it"
    assert list(found.left_out) == ["antmaze-umaze-v0", "antmaze-umaze-diverse-v0"]
    assert (found.variant, found.run_for("antmaze-umaze-v0")) == ("", MEDIUM)
    for said in (
        f"tasks ['{MEDIUM}']",
        f"{MEDIUM} stands in",
        "left out for want of data: antmaze",
    ):
        assert said in repr(found)
    asked = o2okit.study("gde/n_step", profile="laptop", tasks=MEDIUM)
    assert asked.tasks == [MEDIUM]
    assert o2okit.study("gde/n_step", profile="smoke").tasks == [MEDIUM]


def test_a_section_without_any_data_and_without_a_stand_in_says_so(folder, no_mazes, monkeypatch):
    monkeypatch.setattr(n_step.NStepStudy, "stand_in", "")
    with pytest.raises(UserError) as refused:
        o2okit.study("gde/n_step", profile="laptop")
    for said in ("gde/n_step", "none of its tasks", "no ant"):
        assert said in str(refused.value)


def test_a_figure_of_a_stand_in_says_so(folder, study, monkeypatch):
    monkeypatch.setattr(study, "groups", {"locomotion": (HOPPER,)})
    assert study.label().endswith(f" · {WALKER} stands in")
    assert "stands in" not in study.label("seeds"), "whose task is the section's own"


def test_files_are_named_after_the_tasks_that_were_asked_for(folder):
    assert Tiny(profile="smoke", tasks=[WALKER]).variant == f"tasks-{WALKER}"
    assert Tiny(profile="smoke", tasks=[WALKER, MEDIUM]).variant == f"tasks-{WALKER}+{MEDIUM}"
    many = [
        f"{robot}-{kind}-v2"
        for robot in ("hopper", "walker2d", "halfcheetah")
        for kind in ("random",)
    ]
    five = [*many, MEDIUM, "hopper-medium-replay-v2"]
    assert len(Tiny(profile="smoke", seeds=list(range(0, 200, 2))).variant) < 40, "a file's name"
    names = {Tiny(profile="smoke", tasks=each).variant for each in (five, five[::-1])}
    assert len(names) == 2
    assert all(re.fullmatch(r"tasks-5-[0-9a-f]{8}", name) for name in names), "short enough"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tasks": "hopper-medium"}, ("tasks must be None or a list", "hopper-medium-v2")),
        ({"tasks": ["hopper-expert-v2"]}, ("tasks", "hopper-random-v2", "['hopper-expert-v2']")),
        ({"tasks": []}, ("tasks", "[]")),
        ({"tasks": 3}, ("tasks", "got 3")),
        ({"tasks": [HOPPER, 3]}, ("tasks", "3]")),
        ({"source": ""}, ("source", "d4rl", "''")),
        ({"source": None}, ("source", "kit", "None")),
        ({"task": HOPPER}, ("'task'", "Did you mean 'tasks'")),
    ],
    ids=str,
)
def test_a_mistaken_parameter_is_refused_with_what_is_allowed(folder, given, said):
    with pytest.raises(UserError) as refused:
        Tiny(profile="smoke", **given)
    assert [part for part in said if part not in str(refused.value)] == []


def test_a_source_that_does_not_exist_is_refused_before_anything_is_trained(folder):
    with pytest.raises(UserError, match="d4rk"):
        Tiny(profile="smoke", source="d4rk").specs()


def test_one_task_may_be_given_by_its_name_and_twice_is_once(folder):
    assert Tiny(profile="smoke", tasks=HOPPER).tasks == [HOPPER]
    assert Tiny(profile="smoke", tasks=[HOPPER, HOPPER]).tasks == [HOPPER]


# --- tables ---------------------------------------------------------------------------------------
def test_a_table_sums_only_what_is_complete_and_averages_over_groups():
    rows = [
        ("a", "x", 1.0, 0.5, 10.0),
        ("b", "x", 2.0, math.nan, math.nan),
        ("c", "x", 6.0, math.nan, 1.0),
        ("a", "y", 3.0, math.nan, 1.0),
        ("c", "y", 4.0, math.nan, 2.0),
    ]
    cells = pd.DataFrame(rows, columns=["task", "entry", "score", "std", "published"])
    table = scores_table(cells, {"first": ("a", "b", "z"), "second": ("c",)}).set_index("task")
    assert list(table.index) == ["a", "b", "c", "first, 2 of 3", "mean, 3 of 4"]
    assert table["x"].tolist() == ["1.0 ± 0.5 (10.0)", "2.0", "6.0 (1.0)", "3.0", "3.0"]
    assert table["y"].tolist() == ["3.0 (1.0)", "", "4.0 (2.0)", "", ""]


def test_a_figure_names_the_datasets_of_its_own_tasks_or_counts_them(study, monkeypatch):
    both = ", ".join(study.datasets[task].name for task in (HOPPER, WALKER))
    assert study.label().startswith(
        f"data {both} (source: kit) · profile laptop, steps: 2 offline, "
    )
    assert study.label("seeds").startswith(f"data {study.datasets[HOPPER].name} (source: kit)")
    monkeypatch.setattr(grid, "MOST_NAMES", 1)
    assert study.label().startswith("data 2 datasets (source: kit) · profile laptop")
    assert study.label().endswith("seeds 0-1")
