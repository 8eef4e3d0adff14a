"""What the sections of the QCSE paper declare, and the numbers that only they have."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tiny_grid import fake

import o2okit
from o2okit.papers import SECTIONS, grid, histories, values
from o2okit.papers.grid import GridStudy, published
from o2okit.papers.qcse import acceleration, neighbours, pretrained_q
from o2okit.papers.qcse import entries as e

GRIDS = [cls for cls in SECTIONS if cls.key.startswith("qcse/") and issubclass(cls, GridStudy)]
TABLES = [
    (cls, name)
    for cls in GRIDS
    for name in cls.panels
    if name.startswith("table") and "curves" not in name
]


@pytest.fixture
def study(monkeypatch):
    """A study with data for all tasks; nothing is built."""
    monkeypatch.setattr(grid, "dataset", fake)
    monkeypatch.setattr(grid, "why_not", lambda name, _: "")
    return lambda key, profile="paper", **given: o2okit.study(
        key, profile=profile, device="cpu", **given
    )


@pytest.mark.parametrize(("cls", "name"), TABLES, ids=lambda value: getattr(value, "key", value))
def test_every_column_of_a_table_meets_its_published_cells(cls, name):
    panel = cls.panels[name]
    artefact = panel.printed or name
    printed = values.scores("qcse", artefact)
    assert set(printed["method"]) <= {entry.published for entry in panel.entries}
    tasks = [task for group in cls.groups.values() for task in group]
    for entry in panel.entries:
        for task in tasks:
            value, _ = published("qcse", artefact, task, entry, hours=panel.hours)
            assert math.isfinite(value), (entry.label, task)


def test_scores_and_hours_of_one_cell_are_told_apart():
    entry, pen = acceleration.CAL_QL[20], acceleration.PEN[0]
    assert published("qcse", "table_4", pen, entry)[0] == 98
    assert published("qcse", "table_4", pen, entry, hours=True)[0] == 7.393
    assert math.isnan(published("qcse", "table_1", e.GYM[0], e.CQL, hours=True)[0])


@pytest.mark.parametrize("cls", GRIDS, ids=lambda cls: cls.key)
def test_labels_of_a_panel_are_different_and_profiles_run_tasks_of_the_paper(cls):
    for panel in cls.panels.values():
        assert len({entry.label for entry in panel.entries}) == len(panel.entries)
    named = {task for group in cls.groups.values() for task in group}
    for amount in cls.amounts.values():
        assert set(amount.tasks) <= named | {cls.stand_in, e.STAND_IN}
    assert set(cls.amounts["paper"].tasks) == named


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
@pytest.mark.parametrize("cls", GRIDS, ids=lambda cls: cls.key)
def test_every_entry_is_a_valid_run_on_its_tasks(cls, profile, study):
    section = study(cls.key, profile)
    for artefact in section.panels:
        for task in section.tasks_of(artefact):
            for entry in section.entries_of(artefact, task):
                spec = section.spec(task, entry, 0)
                assert (spec.phase, spec.task) == ("online", task)
                assert spec.start.phase == "offline"
                half = spec.backbone in ("cql", "cal-ql")
                half &= spec.method not in ("apl", "balanced-replay", "sung")
                assert spec.replay == ("half" if half else "mixed")


def test_other_backbones_have_the_papers_settings_on_every_task(study):
    """specs/qcse.md 3: raw rewards; E19: IQL's cosine goes on online."""
    for profile in ("laptop", "paper"):
        main = study("qcse/main", profile)
        for task in main.tasks:
            hyper = {
                each.backbone: main.spec(task, each, 0).hyper for each in (e.IQL, e.AWAC, e.TD3_BC)
            }
            iql, awac, td3 = hyper["iql"], hyper["awac"], hyper["td3+bc"]
            assert {h["reward_scale"] for h in hyper.values()} == {1.0}
            assert {h["reward_bias"] for h in hyper.values()} == {0.0}
            assert (iql["expectile"], iql["beta"], awac["temperature"]) == (0.7, 3.0, 1.0)
            assert (td3["actor_lr"], td3["critic_lr"]) == (1e-4, 3e-4)
            assert iql["cosine_steps"] == main.amount.offline_steps


def test_the_door_has_five_times_the_pens_steps(study):
    section = study("qcse/adroit")
    steps = [section.spec(task, e.CQL, 0).steps for task in ("pen-binary-v0", "door-binary-v0")]
    assert steps == section.online_steps() == [200_000, 1_000_000]
    assert "200,000 or 1,000,000 online" in section.label("table_2")


def test_the_bonus_begins_early_in_a_short_run(study):
    section = study("qcse/main", "laptop")
    spec = section.spec(section.tasks[0], e.CQL_QCSE, 0)
    assert spec.method_hyper["start"] == 250 == spec.steps // 20
    assert study("qcse/main").spec("hopper-medium-v2", e.CQL_QCSE, 0).method_hyper["start"] == 1_000


def test_hours_and_other_statistics_are_never_judged(study, monkeypatch):
    """Even of D4RL's data with the paper's amounts."""
    same = lambda task, **how: dataclasses.replace(fake(task, **how), source="d4rl")  # noqa: E731
    monkeypatch.setattr(grid, "dataset", same)
    for key, artefact, judged in (
        ("qcse/acceleration", "table_4", True),
        ("qcse/acceleration", "table_4_hours", False),
        ("qcse/main", "table_1", True),
        ("qcse/main", "table_1_best", True),
    ):
        section = study(key)
        section.scores = section.hours = lambda task, entry, statistic="": np.full(5, 7.0)
        cells = section.cells(artefact)
        printed = cells[cells["published"].notna()]
        assert len(printed), artefact
        decided = printed["verdict"] != "not comparable"
        if artefact == "table_1":
            assert not decided[printed["task"].isin(e.REPLAY)].any(), "the paper prints maxima"
            decided = decided[~printed["task"].isin(e.REPLAY)]
        assert decided.all() if judged else not decided.any(), artefact
        measured_once = cells["std"].isna() & (cells["each"] == "7") & np.isinf(cells["low"])
        assert measured_once.all() == (artefact == "table_4_hours"), "of all seeds together"


def test_the_neighbour_goes_with_the_task_unless_it_is_asked_for(study):
    section = study("qcse/neighbours")
    for task, k in neighbours.PRINTED.items():
        assert section.spec(task, e.CQL_QCSE, 0).method_hyper["k"] == k
        assert section.spec(task, neighbours.BY_K[85], 0).method_hyper["k"] == 85
    sweep = [section.spec(neighbours.HOPPER, entry, 0) for entry in neighbours.BY_K.values()]
    assert sweep[0].method == "naive", "k = 0"
    assert len({spec.cohort for spec in sweep[1:]}) == 1


def test_the_printed_neighbour_of_a_task_is_compared_on_that_task_alone(study):
    section = study("qcse/neighbours", "laptop", tasks=list(neighbours.PRINTED)[:2])
    k = {entry.label: k for k, entry in neighbours.BY_K.items()}

    def scores(task, entry):
        """Best at the printed neighbour of the task, and falling away from it."""
        best = neighbours.PRINTED[task]
        return 90 - abs(k.get(entry.label, 0) - best) + np.array([0.0, 0.1, 0.2])

    section.scores = scores
    rows = {row["claim_id"]: row for row in section._judge()}
    reason = rows["qcse-18"]["reason"]
    assert rows["qcse-18"]["verdict"] == "supported", reason
    assert reason.startswith("all of 6 comparisons: ")
    for task, best in list(neighbours.PRINTED.items())[:2]:
        assert all(f"{task}, k = {best} against k = {end}" in reason for end in (0, 110, 30 - best))


def test_k_matters_where_shuffles_do_not_reach_its_spread(study):
    """Numbers that differ by chance alone support nothing; real differences do."""
    rng = np.random.default_rng(0)
    section = study("qcse/neighbours", "paper", tasks=[neighbours.HOPPER])
    noise = {entry.label: rng.normal(size=3) for entry in neighbours.BY_K.values()}

    def verdict(effect):
        section.scores = lambda task, entry: (
            noise.get(entry.label, np.zeros(3)) + effect * (entry.label == "k = 15")
        )
        return {row["claim_id"]: row["verdict"] for row in section._judge()}["qcse-17"]

    assert verdict(0.0) == "undecided"
    assert verdict(10.0) == "supported"


def test_a_claim_about_several_tasks_says_how_many_were_not_run(study):
    """One task of each section, where three seeds are clear."""

    def reasons(key, task, **numbers):
        section = study(key, "paper", tasks=[task])
        for name, value in numbers.items():
            setattr(section, name, value)
        return {row["claim_id"]: row["reason"] for row in section._judge()}

    def rising(task, entry):
        return np.arange(3.0) + len(entry.label)

    found = reasons("qcse/neighbours", neighbours.HOPPER, scores=rising)
    assert "of 1 comparison:" in found["qcse-17"]
    assert "2 not run" in found["qcse-17"]
    assert "3 not run" in found["qcse-18"]
    assert found["qcse-19"] == "none of its tasks was run"
    main = reasons("qcse/main", e.GYM[0], scores=rising, area=rising, gap=rising)
    assert "of 2 comparisons" in main["qcse-07"]
    assert "22 not run" in main["qcse-07"]
    table = reasons("qcse/exploration", "halfcheetah-medium-v2", scores=rising)
    for claim in ("qcse-13", "qcse-14", "o2okit:qcse/exploration-1"):
        assert "; sum of 1 of 5 tasks" in table[claim]
    aggregates = reasons("qcse/aggregates", e.GYM[0], scores=rising)
    assert "; over 1 of 12 tasks" in aggregates["qcse-32"]


def test_sections_share_their_runs(study):
    """Fig. 11 is Table 1's runs; AWAC's of Fig. 2 are Fig. 4's."""
    ids = {
        key: {spec.id for spec in study(f"qcse/{key}").specs()}
        for key in ("main", "aggregates", "condition", "backbones")
    }
    assert ids["aggregates"] < ids["main"]
    assert len(ids["condition"] & ids["backbones"]) == 2 * 8 * 5  # alone and with QCSE


def test_every_claim_is_judged_once(study):
    judged = []
    for cls in GRIDS:
        section = study(cls.key, "smoke")

        def ones(task, entry, seeds=section.seeds):
            return np.ones(len(seeds))

        for name in ("scores", "hours", "area", "gap", "log_radius"):
            if hasattr(section, name):
                setattr(section, name, ones)
        rows = section._judge()
        assert {row["verdict"] for row in rows} == {"not run"}  # smoke decides nothing
        judged += [row["claim_id"] for row in rows]
    numbers = [int(key.removeprefix("qcse-")) for key in judged if key.startswith("qcse-")]
    assert sorted(numbers) == [*range(1, 34)]
    assert {row for row in judged if not row.startswith("qcse-")} == {
        *(f"o2okit:qcse/exploration-{number}" for number in range(1, 6)),
        "o2okit:qcse/what_the_bonus_is-1",
        "o2okit:qcse/what_the_bonus_is-2",
    }


def test_claims_of_the_paper_hold_for_its_own_cells(study):
    """Table 1's and Table 3's printed means in the place of three equal seeds."""
    for key, expected in (
        ("qcse/main", {"qcse-01": "supported", "qcse-02": "supported", "qcse-04": "supported"}),
        ("qcse/exploration", {"qcse-13": "supported", "qcse-14": "supported"}),
        (
            "qcse/acceleration",
            {"qcse-24": "supported", "qcse-28": "supported", "qcse-30": "supported"},
        ),
    ):
        section = study(key)
        table = next(iter(section.panels))

        def printed(task, entry, hours=False, table=table):
            value, _ = published("qcse", table, task, entry, hours=hours)
            return np.full(3, 0.0 if math.isnan(value) else value)

        section.scores = printed
        section.hours = lambda task, entry, printed=printed: printed(task, entry, True)
        for name in ("area", "gap"):
            setattr(section, name, printed)
        verdicts = {row["claim_id"]: row["verdict"] for row in section._judge()}
        assert {claim: verdicts[claim] for claim in expected} == expected


def test_hours_are_a_runs_share_of_its_cohort(study):
    section = study("qcse/acceleration")
    spent = {"seconds": 14_400.0, "processor_seconds": 7_200.0, "runs_in_cohort": 4}
    for device, hours in (("cpu (2 cores)", 0.5), ("NVIDIA H200", 1.0)):
        folder = SimpleNamespace(result=lambda: spent, environment=lambda d=device: {"device": d})
        section.result = lambda spec, folder=folder: SimpleNamespace(folder=folder)
        assert section.hours(acceleration.PEN[0], acceleration.CQL[1]).tolist() == [hours] * 5
    old = {"seconds": 14_400.0, "runs_in_cohort": 4}
    folder = SimpleNamespace(
        result=lambda: old, environment=lambda: {"device": "cpu (2 cores)"}, path="runs/0"
    )
    section.result = lambda spec: SimpleNamespace(folder=folder)
    with pytest.raises(o2okit.UserError, match="before processor time was recorded"):
        section.hours(acceleration.PEN[0], acceleration.CQL[1])


def test_the_entropy_of_a_runs_states(study):
    """At each evaluation of the states until then, 5,000 at most; none where there are too few."""
    rng = np.random.default_rng(0)
    states = rng.standard_normal((6_000, 3)).astype(np.float32)
    states[3_000:] *= 4  # the second half is spread out

    class Tensor:
        def numpy(self):
            return states

    run = SimpleNamespace(
        spec=SimpleNamespace(seed=0),
        transitions=lambda: SimpleNamespace(obs=Tensor()),
        evaluations=lambda: pd.DataFrame({"step": [0, 5, 3_000, 6_000]}),
    )
    found = histories.state_entropies(run)
    assert found["step"].tolist() == [3_000, 6_000]
    first, second = found["state_entropy"]
    # Of 3 Gaussian dimensions, less the 0.103 that Eq. 19 reads too low with k = 5.
    assert first == pytest.approx(1.5 * math.log(2 * math.pi * math.e) - 0.103, abs=0.1)
    assert second > first + 1


def test_successes_are_counted_since_the_evaluation_before():
    run = SimpleNamespace(
        evaluations=lambda: pd.DataFrame({"step": [0, 100, 200, 300]}),
        episodes=lambda: pd.DataFrame(
            {"step": [40, 100, 101, 150, 290, 310], "return": [1.0, 1.0, 0.0, 1.0, 0.0, 1.0]}
        ),
    )
    found = histories.successes_per_step(run)
    assert found["step"].tolist() == [100, 200, 300]
    assert found["successes_per_step"].tolist() == [0.02, 0.01, 0.0]
    none = SimpleNamespace(evaluations=run.evaluations, episodes=pd.DataFrame)
    assert histories.successes_per_step(none)["successes_per_step"].tolist() == [0.0] * 3


def test_only_runs_whose_states_are_looked_at_keep_them(study):
    section = study("qcse/pretrained_q")
    kept = {
        spec.method_hyper.get("cond_net", "naive"): spec.keep_replay
        for spec in section.specs()
        if spec.start
    }
    assert kept == {"naive": True, "online": True, "random": False, "frozen": False}
    assert [line.keep_replay for line in pretrained_q.LINES] == [True, False, False, True]
