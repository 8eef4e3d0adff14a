"""A run is its seed: alone or beside others, interrupted or not, it is the same to the last bit."""

import pytest
import torch
from hosts import DISCRETE

from o2okit.data.maze import scripted
from o2okit.methods import METHODS
from o2okit.streams import BLOCK, Streams
from o2okit.tasks import task
from o2okit.tasks.maze import GEOMETRY
from o2okit.training import RunSpec, threads
from o2okit.training.cohort import Cohort, evaluate

SHORT = {"gde-discrete": {"scoring_steps": 20, "fine_tune_steps": 30, "total_steps": 700}}
DATA = scripted(transitions=2_000)


def spec(seed: int, phase: str = "online", method: str = "naive", **hyper) -> RunSpec:
    return RunSpec(
        "toy-maze",
        "cql-discrete",
        phase,
        700,
        seed,
        hyper={"target_period": 50, "epsilon": 0.3, **hyper},
        method=method,
        method_hyper=SHORT.get(method, {}),
        dataset=DATA,
        replay="mixed" if phase == "online" else "offline",
        eval_every=50,
    )


def trained(specs, steps=300) -> Cohort:
    cohort = Cohort(specs)
    cohort.evaluate()
    while cohort.step < steps:
        cohort.advance()
        if cohort.step % 50 == 0:
            cohort.evaluate()
    return cohort


def same(a: Cohort, run_a: int, b: Cohort, run_b: int) -> bool:
    left, right = a.state(), b.state()
    assert left.keys() == right.keys()
    return all((left[key][run_a] == right[key][run_b]).all() for key in left)


@pytest.mark.parametrize(("backbone", "method"), DISCRETE)
def test_every_algorithm_from_scratch_is_the_same_alone_and_among_others(backbone, method):
    """Online only, with a warm-up, and past the first block of random numbers."""
    specs = [
        RunSpec(
            "toy-maze",
            backbone,
            "online",
            BLOCK + 50,
            seed,
            hyper={"epsilon_start": 1.0, "epsilon_steps": 300},
            method=method,
            method_hyper=SHORT.get(method, {}),
            replay="online",
            learning_starts=BLOCK - 50,
        )
        for seed in (3, 0, 8)
    ]
    alone, among = trained(specs[:1], BLOCK + 50), trained(specs[::-1], BLOCK + 50)
    assert same(alone, 0, among, 2)
    assert alone.agent.updates == (60 if method in SHORT else 100)  # a stage of 10 and 30 steps


@pytest.mark.parametrize(
    ("phase", "method"), [("offline", "naive"), ("online", "naive"), ("online", "rnd")]
)
def test_seed_three_alone_is_seed_three_among_five(phase, method):
    alone = trained([spec(3, phase, method)])
    among = trained([spec(seed, phase, method) for seed in range(5)])
    assert same(alone, 0, among, 3)
    assert alone.rows[0] == among.rows[3]
    assert not same(alone, 0, among, 2)


def test_a_setting_is_the_same_beside_other_settings():
    alone = trained([spec(3, alpha=0.0)])
    swept = trained(
        [
            spec(seed, alpha=a, huber_delta=d)
            for seed in (3, 4)
            for a, d in ((3.0, 1.0), (0.0, 1.0), (1.0, float("inf")))
        ]
    )
    assert same(alone, 0, swept, 1)
    assert alone.rows[0] == swept.rows[1]


def test_random_numbers_depend_on_seed_stream_and_step_alone():
    three, one = Streams((5, 3, 9), "online"), Streams((3,), "online")
    for step in (0, 1, BLOCK - 1, BLOCK, 7 * BLOCK + 3, 2):  # in any order
        a, b = three.uniform("minibatch", step, 8), one.uniform("minibatch", step, 8)
        assert (a[1] == b[0]).all()
        assert ((a >= 0) & (a < 1)).all()
    draws = [
        Streams((3,), "online").uniform("minibatch", 0, 8),
        Streams((3,), "offline").uniform("minibatch", 0, 8),
        Streams((3,), "online").uniform("explore", 0, 8),
        Streams((3,), "online").uniform("minibatch", 1, 8),
        Streams((3,), "online").uniform("minibatch", BLOCK, 8),
        Streams((3,), "online").uniform("minibatch", 2 * BLOCK, 8),
        Streams((4,), "online").uniform("minibatch", 0, 8),
    ]
    assert len({tuple(draw[0].tolist()) for draw in draws}) == len(draws)


def test_evaluation_changes_neither_the_agent_nor_the_training_stream():
    often, never = Cohort([spec(1), spec(2)]), Cohort([spec(1), spec(2)])
    for _ in range(120):
        often.advance()
        often.evaluate()
        never.advance()
    assert same(often, 0, never, 0)
    assert same(often, 1, never, 1)


@pytest.mark.parametrize(
    ("phase", "method"), [("offline", "naive"), ("online", "naive"), ("online", "rnd")]
)
def test_a_restored_state_continues_exactly_even_in_another_company(phase, method):
    whole = trained([spec(seed, phase, method) for seed in range(3)], steps=300)
    part = trained([spec(seed, phase, method) for seed in range(3)], steps=130)
    state = part.state()
    resumed = Cohort([spec(seed, phase, method) for seed in (2, 0)])
    resumed.load_state([{k: v[run].clone() for k, v in state.items()} for run in (2, 0)], part.step)
    while resumed.step < 300:
        resumed.advance()
    assert same(resumed, 0, whole, 2)
    assert same(resumed, 1, whole, 0)


def test_evaluation_counts_steps_and_outcomes():
    class Walker:
        """Goes up and right for ever: ends at neither goal, and is cut off."""

        device, runs = "cpu", 2

        def greedy(self, obs, draws):
            return torch.full_like(obs, 3)

    rows = evaluate(Walker(), task("toy-maze"), [0, 1], 3, "evaluation")
    assert (
        rows
        == [
            {
                "return": -200.0,
                "length": 200.0,
                "time-out": 1.0,
                "left goal": 0.0,
                "right goal": 0.0,
            }
        ]
        * 2
    )


def test_only_the_first_episode_of_an_evaluation_counts():
    """The vector environment starts anew while others are still under way."""

    class TwoWays:
        """Run 0 walks to L, then to R; run 1 bumps into the wall for ever."""

        device, runs = "cpu", 2

        def greedy(self, obs, draws):
            goal = 1 if draws.step < 34 else 2
            moves = torch.from_numpy(GEOMETRY.optimal_actions(goal).argmax(1))[obs]
            moves[1] = 2
            return moves

    first, second = evaluate(TwoWays(), task("toy-maze"), [0, 1], 1, "evaluation")
    assert (first["return"], first["length"], first["left goal"]) == (-34.0, 34.0, 1.0)
    assert (second["return"], second["length"], second["time-out"]) == (-200.0, 200.0, 1.0)


def test_the_replay_holds_the_true_successors():
    """Not the first observation of the next episode."""
    cohort = trained([spec(seed, epsilon=1.0, epsilon_start=1.0) for seed in (0, 1)], steps=700)
    obs, action, _, next_obs, terminated = cohort.replay.state()["rows"].unbind(-1)
    following = torch.from_numpy(GEOMETRY.successor)[obs.long(), action.long()]
    assert (next_obs == following).all()
    ends = torch.from_numpy(GEOMETRY.outcome > 0)[next_obs.long()]
    assert (terminated == ends).all()
    assert len(cohort.rows[0]["episodes"]) >= 3, "the test needs episodes that end"


def test_episode_rows_add_up_to_the_steps():
    cohort = trained([spec(0, epsilon=1.0, epsilon_start=1.0)], steps=700)
    rows = cohort.rows[0]["episodes"]
    assert rows
    assert sum(row["length"] for row in rows) == rows[-1]["step"] <= 700
    assert all(row["return"] == -row["length"] for row in rows)
    assert all((row["length"] == 200) == (row["outcome"] == "time-out") for row in rows)


def test_the_number_of_threads_changes_no_bit():
    """``training.threads`` changes it in the middle of a run."""
    specs = [spec(seed, method="rnd") for seed in range(12)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = trained(specs, steps=60)
        torch.set_num_threads(2)
        two = trained(specs, steps=60)
    finally:
        torch.set_num_threads(before)
    assert all(same(one, run, two, run) for run in range(12))
    assert one.rows == two.rows


def test_threads_are_chosen_by_the_clock(monkeypatch):
    now, asked = [0.0], []
    monkeypatch.setattr(threads.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(threads.torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(threads.torch, "set_num_threads", asked.append)
    for one, many, wanted in ((1.0, 0.6, 4), (1.0, 8.0, 1)):
        asked.clear()
        with threads.Threads(torch.device("cpu")) as chooser:
            for _ in range(threads.PERIOD):
                chooser.tick()
                now[0] += one if asked[-1] == 1 else many
        assert asked == [1, 1, 4, wanted, 4]  # at first, timed, timed, chosen, restored


GOLDEN = {
    "naive": 1.821698e-3,
    "gde-discrete": 1.629068e-3,
    "qdagger": 1.821698e-3,  # as long as the agent is its teacher, it is left alone
    "rnd": 1.642277e-3,
}


@pytest.mark.parametrize("method", [n for n, m in METHODS.items() if m.fits("cql-discrete")])
def test_results_change_only_with_a_version(method):
    """If this fails on purpose: raise the ``version`` of what changed (the method, the task, the backbone,
    or ``training.spec.VERSION``) and put the new number here."""
    cohort = trained([spec(1, method=method), spec(2, method=method, alpha=0.0)], steps=30)
    versions = cohort.specs[0].describe()["versions"]
    assert versions == {"training": 2, "task": 1, "backbone": 1, "method": 1}
    assert cohort.agent.q.flat.double().square().mean().item() == pytest.approx(
        GOLDEN[method], rel=1e-3
    )
