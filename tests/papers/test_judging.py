"""The rules of claims over tasks and entries, on made-up scores."""

import numpy as np
import pytest
from tiny_grid import HOPPER, WALKER, Tiny

from o2okit import UserError
from o2okit.papers.gde import entries as e
from o2okit.report.verdicts import ClaimOutcome, ClaimVerdict, over_tasks

UP, DOWN, NOISE = [50, 51, 52, 51, 50], [10, 11, 12, 11, 10], [10, 90, 30, 80, 40]


def made_up(scores, profile="laptop"):
    """A study whose scores are given: task -> label -> score of each seed."""

    class MadeUp(Tiny):
        def scores(self, task, entry):
            return np.array(scores[task][entry.label], dtype=float)

    return MadeUp(profile=profile, tasks=list(scores), seeds=5)


def verdict_on_total(lhs, *others, profile="laptop"):
    entries = (e.QDAGGER, e.PEX)[: len(others)]
    scores = {"GDE": lhs} | {entry.label: o for entry, o in zip(entries, others, strict=True)}
    study = made_up({HOPPER: scores, WALKER: scores}, profile)
    return study.judge_total("gde-05", "locomotion", e.GDE, *entries)


@pytest.mark.parametrize(
    ("sides", "verdict"),
    [
        ((UP, DOWN), "supported"),
        ((DOWN, UP), "undecided"),  # seven of nine tasks were not run
        ((UP, NOISE), "undecided"),
        ((UP, DOWN, DOWN), "supported"),
        ((UP, DOWN, NOISE), "undecided"),
        ((NOISE, DOWN, UP), "undecided"),
        ((DOWN, NOISE, UP), "undecided"),
    ],
)
def test_a_total_must_be_above_each_of_the_others(folder, sides, verdict):
    row = verdict_on_total(*sides)
    assert row["verdict"] == verdict
    below = sides[0] is DOWN  # which would contradict the claim if these were all tasks
    assert row["reason"].endswith("sum of 2 of 9 tasks" + ", and the others could save it" * below)


def test_a_total_of_all_its_tasks_can_be_contradicted(folder):
    study = made_up({HOPPER: {"GDE": DOWN, "QDagger": UP}})
    row = study.judge_total("gde-05", [HOPPER], e.GDE, e.QDAGGER)
    assert (row["verdict"], row["reason"][-19:]) == ("contradicted", "sum of 1 of 1 tasks")


def test_smoke_is_never_judged_and_neither_is_a_group_that_was_not_run(folder):
    assert verdict_on_total(UP, DOWN, profile="smoke")["verdict"] == "not run"
    study = made_up({HOPPER: {"GDE": UP, "Offline": DOWN}})
    row = study.judge_total("gde-06", "antmaze", e.GDE, e.OFFLINE)
    assert (row["verdict"], row["reason"][-19:]) == ("not run", "sum of 0 of 6 tasks")
    for rule in ("some", "most", "all"):
        row = study.judge_tasks("gde-02", rule, "antmaze", e.GDE, [e.OFFLINE])
        assert (row["verdict"], row["reason"]) == ("not run", "none of its tasks was run")


@pytest.mark.parametrize(
    ("rule", "tasks", "verdict"),
    [
        ("some", (UP, DOWN), "supported"),
        ("most", (UP, DOWN), "undecided"),
        ("all", (UP, DOWN), "contradicted"),
        ("some", (DOWN, DOWN), "undecided"),  # seven of nine tasks were not run
        ("most", (UP, UP), "supported"),
        ("all", (UP, UP), "supported"),
    ],
)
def test_a_claim_about_tasks_counts_them(folder, rule, tasks, verdict):
    middle = [30, 31, 32, 31, 30]
    scores = {
        name: {"GDE": ours, "Offline": middle, "PEX": DOWN if ours is UP else UP}
        for name, ours in zip((HOPPER, WALKER), tasks, strict=True)
    }
    study = made_up(scores)
    for others in ([e.OFFLINE], [e.OFFLINE, e.PEX]):
        assert study.judge_tasks("gde-01", rule, "", e.GDE, others)["verdict"] == verdict
    random = study.judge_tasks("gde-01", rule, [WALKER], e.GDE, [e.OFFLINE])
    assert random["verdict"] == ("supported" if tasks[1] is UP else "contradicted")


def test_on_a_task_a_method_must_beat_every_other(folder):
    one = {"GDE": UP, "Offline": DOWN, "PEX": NOISE, "IQL": [60, 61, 62, 61, 60]}
    study = made_up({HOPPER: one})
    others = [e.OFFLINE, e.PEX, e.IQL]
    assert study.judge_tasks("gde-01", "all", [HOPPER], e.GDE, others[:1])["verdict"] == "supported"
    assert study.judge_tasks("gde-01", "all", [HOPPER], e.GDE, others[:2])["verdict"] == "undecided"
    assert study.judge_tasks("gde-01", "all", [HOPPER], e.GDE, others)["verdict"] == "contradicted"


def test_seeds_are_paired_where_both_start_from_the_same_agent(folder):
    low, high = [0, 20, 40, 60, 80], [1, 22, 41, 62, 81]
    study = made_up({HOPPER: {"GDE": high, "Offline": low, "FromScratch": low, "AWAC": low}})

    def judged(rhs):
        return study.judge_total("gde-05", "locomotion", e.GDE, rhs)["verdict"]

    assert judged(e.OFFLINE) == "supported"
    assert judged(e.SCRATCH) == judged(e.AWAC) == "undecided"


def test_spreads_and_interquartile_means_are_numbers_per_seed(folder):
    study = made_up({HOPPER: {"GDE": [0, 10, 20, 30, 40]}, WALKER: {"GDE": [5, 5, 5, 5, 5]}})
    assert study.spread(e.GDE, "").tolist() == [10, 5, 0, 5, 10]
    assert study.spread(e.GDE, [HOPPER]).tolist() == [20, 10, 0, 10, 20]
    assert study.middle(e.GDE, "").tolist() == [2.5, 7.5, 12.5, 17.5, 22.5]
    sides = {"wide": (np.array(UP), np.array(DOWN)), "narrow": (np.array(DOWN), np.array(UP))}
    assert study.judge_sides("gde-41", "some", sides)["verdict"] == "supported"
    assert study.judge_sides("gde-41", "all", sides)["verdict"] == "contradicted"


def verdict(letter):
    names = {"s": "supported", "c": "contradicted", "u": "undecided", "n": "not run"}
    return ClaimVerdict(ClaimOutcome(names[letter]), None, None, f"because {letter}")


@pytest.mark.parametrize(
    ("rule", "each", "outcome"),
    [
        ("some", "sc", "supported"),
        ("some", "su", "supported"),
        ("some", "cc", "contradicted"),
        ("some", "cu", "undecided"),
        ("some", "cn", "undecided"),  # it may hold on the other
        ("most", "ssc", "supported"),
        ("most", "sccn", "contradicted"),
        ("most", "scn", "undecided"),
        ("all", "cn", "contradicted"),
        ("most", "ssun", "supported"),
        ("most", "sc", "contradicted"),  # half is not most
        ("most", "su", "undecided"),
        ("most", "suc", "undecided"),
        ("most", "s", "supported"),
        ("nearly all", "ssss", "supported"),
        ("nearly all", "sssc", "contradicted"),
        ("nearly all", "ssssssssssc", "supported"),  # ten of eleven
        ("nearly all", "sssssssssscc", "contradicted"),  # ten of twelve
        ("nearly all", "sssssssssuu", "undecided"),
        ("all", "ss", "supported"),
        ("all", "ssn", "supported"),
        ("all", "sc", "contradicted"),
        ("all", "uc", "contradicted"),
        ("all", "su", "undecided"),
        *[(rule, each, "not run") for rule in ("some", "most", "all") for each in ("", "nn")],
    ],
)
def test_rules_over_tasks(rule, each, outcome):
    verdicts = {f"task {i}": verdict(letter) for i, letter in enumerate(each)}
    found = over_tasks(verdicts, rule)
    assert found.verdict == outcome
    run = [name for name, letter in zip(verdicts, each, strict=True) if letter != "n"]
    if run:
        plural = "s" if len(run) > 1 else ""
        assert found.reason.startswith(f"{rule} of {len(run)} comparison{plural}: ")
        assert all(f"{name}: because" in found.reason for name in run)


@pytest.mark.parametrize(
    ("rule", "missing", "outcome"),
    [
        ("some", 0, "contradicted"),
        ("some", 1, "undecided"),
        ("most", 1, "contradicted"),
        ("most", 2, "contradicted"),
        ("most", 3, "undecided"),
        ("all", 9, "contradicted"),
    ],
)
def test_tasks_that_are_missing_may_save_a_claim(rule, missing, outcome):
    found = over_tasks({"a": verdict("c"), "b": verdict("c")}, rule, missing)
    assert found.verdict == outcome
    assert (f"0 supported, 2 contradicted, {missing} not run." in found.reason) == (missing > 0)


def test_an_unknown_rule_is_refused():
    with pytest.raises(UserError, match=r"unknown rule 'many'.*some, most, nearly all, all"):
        over_tasks({"task": verdict("s")}, "many")
