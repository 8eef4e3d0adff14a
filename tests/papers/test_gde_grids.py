"""GDE's sections 3.1-3.3 and 5.3 as grids: runs, stand-ins, whole histories, the divergence rule."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hosts import hopper_data
from tiny_grid import fake

import o2okit
from o2okit.papers import divergence, grid, histories
from o2okit.papers.gde import challenges, hyperparameters
from o2okit.papers.gde import entries as e
from o2okit.report import panels

HOPPER, WALKER = "hopper-medium-v2", challenges.WALKER
KEYS = ("gde/challenges", "gde/hyperparameters")


@pytest.fixture
def study(monkeypatch):
    """A study with data for all tasks but the ``missing`` ones; nothing is built."""

    def make(key, profile="paper", missing=(), **given):
        monkeypatch.setattr(grid, "dataset", fake)
        monkeypatch.setattr(grid, "why_not", lambda name, _: f"no {name}" * (name in missing))
        return o2okit.study(key, profile=profile, device="cpu", **given)

    return make


# --- the runs -------------------------------------------------------------------------------------
@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
@pytest.mark.parametrize("key", KEYS)
def test_every_entry_is_a_valid_run_on_its_tasks(key, profile, study):
    section = study(key, profile)
    for artefact in section.panels:
        assert section.tasks_of(artefact)
        for task in section.tasks_of(artefact):
            for entry in section.entries_of(artefact, task):
                spec = section.spec(task, entry, 0)
                assert (spec.phase, spec.task) == ("online", task)
                assert spec.start.phase == "offline"


def test_what_the_entries_of_the_challenges_are(study):
    section, task = study("gde/challenges"), challenges.HALFCHEETAH
    sweep = [section.spec(task, entry, 0) for entry in challenges.NARROW]
    plain = section.spec(task, challenges.PLAIN, 0)
    assert [spec.method_hyper["temperature"] for spec in sweep] == [0, 0.25, 0.5]
    assert len({spec.cohort for spec in sweep}) == 1
    assert {spec.start.id for spec in (*sweep, plain)} == {plain.start.id}
    assert plain.id == section.spec(task, e.ON_IQL, 0).id
    for mine, other in zip(challenges.WITHOUT, challenges.WITH, strict=True):
        mine, other = (section.spec(task, entry, 0) for entry in (mine, other))
        assert (mine.replay, other.replay) == ("online", "mixed")
        assert mine.start.id == other.start.id
        assert mine.hyper == other.hyper
    assert section.spec(task, challenges.WITH[0], 0).id == section.spec(task, e.IQL, 0).id
    assert (other.start.backbone, other.backbone) == ("cql", "sac")
    assert [other.hyper[name] for name in ("actor_lr", "critic_lr", "alpha_lr")] == [3e-4] * 3


def test_runs_that_gde_has_elsewhere_are_shared(study):
    section, task = study("gde/hyperparameters"), hyperparameters.MAZE
    gde = section.spec(task, e.GDE, 0).id
    ids = {entry.label: section.spec(task, entry, 0).id for entry in hyperparameters.TIMES}
    assert [label for label, each in ids.items() if each == gde] == ["N = 10"]
    specs = [section.spec(task, entry, 0) for entry in hyperparameters.RHOS]
    assert [spec.method_hyper["rho"] for spec in specs] == [0.001, 0.1, 0.3, 0.5, 1]
    assert specs[2].id == gde
    assert len({spec.cohort for spec in specs}) == 1
    stages = [section.spec(task, entry, 0) for entry in hyperparameters.TIMES]
    assert [s.method_hyper["fine_tune_steps"] for s in stages] == [50_000, 25_000, 12_500, 5_000]
    assert len({spec.cohort for spec in stages}) == 4


# --- tasks that stand in for others ---------------------------------------------------------------
def test_laptop_takes_hopper_only_where_antmaze_has_no_data(study):
    maze = hyperparameters.MAZE
    assert study("gde/hyperparameters", "laptop").tasks == [maze]
    section = study("gde/hyperparameters", "laptop", missing=[maze])
    assert (section.tasks, section.left_out) == ([HOPPER], {maze: f"no {maze}"})
    assert section.tasks_of("figure_6b") == [HOPPER]
    assert section.in_place("figure_6b") == f"{HOPPER} in place of {maze}"
    assert section.provenance()["in_place"]["figure_6c"] == section.in_place("figure_6c")
    assert section.variant == ""


def test_a_task_without_data_is_left_out_with_the_reason(study):
    section = study("gde/challenges", "laptop", missing=[WALKER])
    assert section.tasks == [challenges.HALFCHEETAH]
    assert {spec.task for spec in section.specs()} == {challenges.HALFCHEETAH}
    figure, numbers = section._draw("figure_3b")
    assert f"no {WALKER}" in figure.axes[0].texts[0].get_text()
    assert numbers.to_dict("records") == [{"task": WALKER, "not_run": f"no {WALKER}"}]
    assert section._table("figure_3b").equals(numbers)
    assert section.judge_diverged()["verdict"] == "not run"


def test_smoke_runs_hopper_for_all(study):
    for key in KEYS:
        section = study(key, "smoke")
        assert {spec.task for spec in section.specs()} == {HOPPER}
        assert all(section.in_place(name) for name in section.panels)
        assert section.run_of(next(iter(section.groups))) == [], "and no claim is about it"


# --- divergence -----------------------------------------------------------------------------------
def test_the_limit_is_five_times_the_largest_return(study):
    section = study("gde/challenges")
    spec = section.offline(WALKER, e.AWAC, 0)
    assert divergence.q_limit(spec) == pytest.approx(5 * 4 / (1 - 0.99))
    scaled = SimpleNamespace(
        dataset=fake(WALKER), hyper={"reward_scale": 2.0, "reward_bias": 5.0, "discount": 0.9}
    )
    assert divergence.q_limit(scaled) == pytest.approx(5 * 9 / 0.1), "as the agent sees rewards"
    assert section.limit("figure_3b", WALKER) == divergence.q_limit(spec)
    assert section.limit("figure_3c", WALKER) is None


def test_a_value_beyond_the_limit_or_none_at_all_counts_as_diverged():
    assert not divergence.exceeds([0, 10, -10], 10)
    assert divergence.exceeds([0, 10.1, 0], 10)
    assert divergence.exceeds([-11], 10)
    assert divergence.exceeds([1, math.nan], 10)
    assert divergence.exceeds([math.inf], 10)


@pytest.mark.parametrize(("q", "named"), [([1e9, 3.0], False), ([3.0, 1e9], True)])
def test_an_offline_agent_that_left_the_limit_in_the_end_is_named(study, monkeypatch, q, named):
    section = study("gde/challenges")
    spec = section.offline(WALKER, e.AWAC, 0)
    folder = SimpleNamespace(result=lambda: {"diverged": False})
    run = SimpleNamespace(spec=spec, folder=folder, metrics=lambda: pd.DataFrame({"q": q}))
    monkeypatch.setattr(section, "_runs", {"this": run})
    assert section.diverged() == (["this"] if named else [])


@pytest.mark.parametrize(
    ("broken", "end", "verdict"),
    [
        ((), 20.0, "not observed"),
        ((0, 1, 2), 12.0, "supported"),  # start 10: less than five points gained
        ((0, 1, 2), 40.0, "contradicted"),
        ((1,), 12.0, "undecided"),
    ],
)
def test_the_verdict_is_about_the_seeds_that_diverged(broken, end, verdict, study, monkeypatch):
    section = study("gde/challenges", "laptop")

    def q_of(study, spec, *, metric, before):
        assert (metric, before, spec.backbone) == ("q", True, "awac")
        return pd.DataFrame({"q": [1.0, 1e9 if spec.seed in broken else 2.0]})

    monkeypatch.setattr(challenges.histories, "history", q_of)
    scores = np.array([end, end + 1, end + 2])
    monkeypatch.setattr(type(section), "scores", lambda *_: scores)
    curve = pd.DataFrame({"step": [0, 500], "score": [10.0, 0.0]})
    monkeypatch.setattr(type(section), "curve", lambda *_: curve)
    row = section.judge_diverged()
    assert (row["claim_id"], row["verdict"]) == ("gde-39", verdict)
    assert f"none of {len(section.seeds)} seeds" in row["reason"] or "of 3 seeds" in row["reason"]


@pytest.mark.parametrize(
    ("start", "tail", "verdict"),
    [
        (80.0, [10.0, 5.0], "supported"),
        (80.0, [10.0, 70.0], "contradicted"),
        (80.0, [70.0, 10.0], "contradicted"),  # the fall has not lasted
        (0.0, [0.0, 0.0], "not observed"),
    ],
)
def test_a_crash_is_a_fall_that_lasts(start, tail, verdict, study, monkeypatch):
    section = study("gde/exploration", "paper", tasks=["antmaze-large-play-v0"])
    curve = pd.DataFrame({"score": [start, *[60.0] * 17, *tail]})
    monkeypatch.setattr(type(section), "curve", lambda *_: curve)
    assert section.judge_crash()["verdict"] == verdict


# --- claims ---------------------------------------------------------------------------------------
def test_the_claims_of_the_hyperparameters_follow_from_the_scores(study, monkeypatch):
    section = study("gde/hyperparameters", "laptop")
    finals = {"ρ = 0.001": 10.0, **{f"N = {n}": 50.0 for n in (5, 10, 20, 50)}}
    noise = np.array([0.0, 0.5, 1.0])
    scores = lambda _, task, entry: finals.get(entry.label, 50.0) + noise  # noqa: E731
    early = lambda _, task, entry: float(entry.label[-1] == "0") + noise / 100  # noqa: E731
    monkeypatch.setattr(type(section), "scores", scores)
    monkeypatch.setattr(type(section), "early", early)
    rows = {row["claim_id"]: row for row in section._judge()}
    assert {key: row["verdict"] for key, row in rows.items()} == dict.fromkeys(
        ("gde-11", "gde-12", "gde-13"), "supported"
    )
    assert rows["gde-12"]["reason"].count("~") == 12, "six pairs, each with its rule"
    finals["N = 50"] = 80.0
    assert section._judge()[1]["verdict"] == "contradicted"
    other = study("gde/hyperparameters", "laptop", missing=[hyperparameters.MAZE])
    assert other.tasks == [e.STAND_IN]
    assert {row["verdict"] for row in other._judge()} == {"not run"}, "a stand-in is not judged"


def test_the_papers_own_table_4_supports_its_claims(study, monkeypatch):
    section = study("gde/ablations")
    noise = np.array([-0.1, 0.0, 0.1, -0.05, 0.05])

    def printed(_, task, entry):
        return grid.published("gde", "table_4", task, entry)[0] + noise

    monkeypatch.setattr(type(section), "scores", printed)
    rows = {row["claim_id"]: row for row in section._judge()}
    assert {key: row["verdict"] for key, row in rows.items()} == dict.fromkeys(
        ("gde-16", "gde-17", "gde-18", "gde-19"), "supported"
    )
    assert rows["gde-16"]["reason"].count("w/o") == 3 + 4, "n-step sums on AntMaze alone"
    assert rows["gde-18"]["reason"].count("w/o") >= 3


def test_an_exploration_study_knows_only_the_mazes_of_table_1(study):
    section = study("gde/exploration")
    assert section.named("antmaze") == e.ANTMAZE[2:]
    with pytest.raises(o2okit.UserError, match="tasks"):
        study("gde/exploration", tasks=["antmaze-umaze-v0"])


def test_early_is_the_first_quarter(study, monkeypatch):
    section = study("gde/hyperparameters", "laptop")
    steps = np.arange(0, 25_001, 2_500)
    curve = pd.DataFrame({"step": steps, "score": np.where(steps <= 6_250, 8.0, 99.0)})
    monkeypatch.setattr(type(section), "curve", lambda *_: curve)
    assert section.early(hyperparameters.MAZE, e.GDE).tolist() == [8.0] * 3


# --- whole histories ------------------------------------------------------------------------------
def test_a_history_puts_the_pre_training_before_0():
    start = SimpleNamespace(task=HOPPER, steps=100, start=None)
    online = SimpleNamespace(task=HOPPER, steps=50, start=start)

    def run(steps, q):
        table = pd.DataFrame({"step": steps, "score": [100.0] * len(steps)})
        return SimpleNamespace(
            curve=lambda: table,
            metrics=lambda: table.iloc[1:].assign(q=q),  # none before the first update
        )

    runs = {id(start): run([0, 50, 100], [1.0, 2.0]), id(online): run([0, 25, 50], [3.0, 4.0])}
    section = SimpleNamespace(result=lambda spec: runs[id(spec)])
    q = histories.history(section, online, metric="q", before=True)
    assert q.to_dict("list") == {"step": [-50, 0, 25, 50], "q": [1.0, 2.0, 3.0, 4.0]}
    score = histories.history(section, online, before=True)
    assert score["step"].tolist() == [-100, -50, 0, 25, 50], "one row at 0"
    assert score["score"].unique().tolist() == [100.0]
    assert histories.history(section, online)["step"].tolist() == [0, 25, 50]


def test_the_figure_of_a_metric_shows_where_it_counts_as_diverged():
    frame = pd.DataFrame(
        {"task": "t", "entry": "AWAC", "seed": 0, "step": [-10, 0, 10], "q": [1.0, -5.0, 1e7]}
    )
    (place,) = panels.histories(frame, "title", "q", before=True, limits={"t": 2e3}).axes
    assert place.get_yscale() == "symlog"
    heights = [line.get_ydata()[0] for line in place.lines if line.get_linestyle() == "--"]
    assert heights == [-2e3, 2e3]
    low = frame.assign(q=[0.0, 1.0, 5.0])
    (place,) = panels.histories(low, "title", "q", limits={"t": 2e3}).axes
    assert place.get_ylim()[0] == 0, "no room for negative values where there are none"
    assert place.get_ylim()[1] > 2e3
    (place,) = panels.histories(frame, "title", "q").axes
    assert place.get_yscale() == "linear"
    assert len(place.lines) == 1


def test_the_smoke_study_draws_every_panel(monkeypatch, tmp_path):
    monkeypatch.setenv("O2OKIT_RUNS", str(tmp_path))
    monkeypatch.setattr(grid, "dataset", lambda *_, **__: hopper_data())
    section = o2okit.study("gde/challenges", profile="smoke", device="cpu")
    keep = {name: section.panels[name] for name in ("figure_3b", "figure_3c")}
    monkeypatch.setattr(type(section), "panels", keep)
    section.run()
    for name in keep:
        section.figure(name)
    q = pd.read_csv(tmp_path / "smoke-figures" / "gde" / "figure_3b.csv")
    assert q["step"].tolist() == [0, 25, 50], "the smoke pre-training has one evaluation"
    assert q.columns.tolist() == ["task", "entry", "seed", "step", "q", "limit"]
    score = pd.read_csv(tmp_path / "smoke-figures" / "gde" / "figure_3c.csv")
    assert score["step"].tolist() == [-20, 0, 25, 50]
    assert {row["verdict"] for row in section._judge()} == {"not run"}
