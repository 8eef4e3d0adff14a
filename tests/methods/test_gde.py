"""GDE against specs/gde.md 2.10 and 6: stages, teacher, exploration loss, ablations."""

import functools

import pytest
import torch
from hosts import FEW, SEEDS, SMALL, TASK, B, disturb, make, minibatch

from o2okit.methods import METHODS
from o2okit.methods.gde import GDE
from o2okit.nn.distributions import normal_kl
from o2okit.streams import Streams
from o2okit.tasks import task
from o2okit.training import RunSpec
from o2okit.training.cohort import Cohort
from o2okit.training.obtain import stand_in

gde = functools.partial(make, "gde")


def at(method: GDE, step: int) -> GDE:
    """As if the training loop stood there."""
    method.step = step
    method.rho.copy_(method.hyper.rho * max(0.0, 1 - step / method.hyper.total_steps))
    return method


# --- stages ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("total", "fine_tune", "updates", "complete_stages"),
    [
        (250_000, 2_500, 82_500, 33),
        (250_000, 25_000, 205_000, 9),
        (1_000_000, 2_500, 332_500, 133),
        (1_000_000, 25_000, 830_000, 34),
    ],
)
def test_stages_add_up_to_the_budget(total, fine_tune, updates, complete_stages):
    method = gde(fine_tune_steps=fine_tune, total_steps=total)
    learning, ends = 0, 0
    for step in range(total):
        method.step = step
        learning += method.learns()
        ends += method.cuts() and not method.learns()
    assert (learning, total - learning, ends) == (updates, total - updates, complete_stages)


def test_the_teacher_changes_only_on_a_strictly_better_score():
    """Scores 120, 90, 150, 150, 160: after the stages 1, 3 and 5 (spec 6)."""
    method = gde(scoring_steps=1, fine_tune_steps=1)
    ended, changed = torch.tensor([False, False]), []
    for stage, score in enumerate((120, 90, 150, 150, 160)):
        before = method.teacher.parts[0].flat.clone()
        disturb(method.agent.policy)
        method.step = 2 * stage
        method.observe(torch.tensor([score, -score], dtype=torch.float64), ended)
        moved = [
            any(
                (a[run] != b[run]).any()
                for a, b in zip(
                    method.teacher.parts[0].views(before),
                    method.teacher.parts[0].weights,
                    strict=True,
                )
            )
            for run in range(2)
        ]
        changed.append(moved)
        method.step += 1
        method.observe(torch.tensor([1e6, 1e6]), ended)  # a learning stage is not scored
    assert [run[0] for run in changed] == [True, False, True, False, True]
    assert [run[1] for run in changed] == [True, True, False, False, False]
    assert method.best.tolist() == [160, -90]


def test_the_score_is_the_sum_of_rewards_or_the_mean_of_finished_episodes():
    rewards, ends = [1.0, 2.0, 4.0, 8.0], [False, True, True, False]
    for finished, expected in ((False, 15.0), (True, (3 + 4) / 2)):
        method = gde(scoring_steps=4, fine_tune_steps=3, finished_episodes=finished)
        for step, (reward, end) in enumerate(zip(rewards, ends, strict=True)):
            method.step = step
            method.observe(torch.full((2,), reward), torch.tensor([end, end]))
        assert method.best.tolist() == [expected, expected]
        assert (method.tally == 0).all()


def test_rho_falls_to_zero_over_the_budget():
    method = gde(rho=[0.3, 0.6])
    for step, expected in ((0, 0.3), (62_500, 0.225), (125_000, 0.15), (250_000, 0), (300_000, 0)):
        method.step = step
        method.observe(torch.zeros(2), torch.tensor([False, False]))
        assert method.rho.tolist() == pytest.approx([expected, 2 * expected])


@pytest.mark.parametrize(
    ("name", "total", "fine_tune", "scoring"),
    [
        ("hopper", 250_000, 2_500, 5_000),
        ("hopper", 1_000_000, 2_500, 5_000),
        ("hopper", 25_000, 2_500, 2_000),
        ("hopper", 60, 6, 4),
        ("hopper", 5, 1, 1),
        ("antmaze-umaze-v0", 250_000, 25_000, 5_000),
        ("antmaze-umaze-v0", 25_000, 2_500, 2_000),
    ],
)
def test_stages_are_the_papers_and_fit_into_a_smaller_budget(name, total, fine_tune, scoring):
    own = GDE.settings(task(name), total)
    assert (own["fine_tune_steps"], own["scoring_steps"]) == (fine_tune, scoring)
    assert (own["n"], own["total_steps"]) == (3 if "maze" in name else 1, total)


# --- the exploration loss -------------------------------------------------------------------------
def test_the_loss_is_the_specs():
    """Q = 5, ρ = .3 and the spec's two Gaussians: L = -4.127890."""
    method = at(gde(), 0)
    teacher = torch.tensor([0.2, -0.5]), torch.tensor([0.3, 0.5]).log()
    behaviour = torch.tensor([0.1, 0.0]), torch.tensor([0.4, 0.25]).log()

    class Fixed:
        def __init__(self, gaussian):
            self.gaussian = gaussian

        def mode(self, obs):
            return self.gaussian[0].expand(2, B, 2)

        def kl(self, other, obs):
            return normal_kl(*self.gaussian, *other.gaussian).expand(2, B)

    method.teacher, method.behaviour = Fixed(teacher), Fixed(behaviour)
    method.agent.q = lambda critic, obs, action, frozen: torch.tensor([5.0, 7.0])[
        None, :, None
    ].expand(2, 2, B)
    loss, metrics = method.exploration_loss(minibatch())
    assert loss.tolist() == pytest.approx([-4.127890] * 2, abs=1e-5)
    assert metrics["guidance"].tolist() == pytest.approx([0.3 * 2.907035] * 2, abs=1e-5)


@pytest.mark.parametrize("backbone", GDE.backbones)
def test_the_gradient_reaches_the_exploring_policy_alone(backbone):
    method = at(gde(backbone), 0)
    disturb(method.behaviour)
    agent_before = {key: value.clone() for key, value in method.agent.state().items()}
    teacher = [part.flat.clone() for part in method.teacher.parts]
    behaviour = [part.flat.clone() for part in method.behaviour.parts]
    metrics = method.extra_updates(minibatch())
    assert (metrics["guidance"] > 0).all()
    after = method.agent.state()
    assert all((after[key] == value).all() for key, value in agent_before.items())
    assert all((a.flat == b).all() for a, b in zip(method.teacher.parts, teacher, strict=True))
    assert all((a.flat != b).any() for a, b in zip(method.behaviour.parts, behaviour, strict=True))


@pytest.mark.parametrize("backbone", GDE.backbones)
def test_equal_policies_are_not_pulled_at_and_rho_zero_removes_the_teacher(backbone):
    method = at(gde(backbone, rho=[0.3, 0.0]), 0)
    gradients = method.adam.gradient(method.guidance(method.behaviour, minibatch().obs).mean(-1))
    assert all(gradient.abs().max() < 1e-7 for gradient in gradients)
    disturb(method.teacher)
    guided = method.exploration_loss(minibatch())[0]
    other = at(gde(backbone, rho=0.0), 0)
    free = other.exploration_loss(minibatch())[0]
    assert guided[0] > free[0]
    assert guided[1] == free[1]


@pytest.mark.parametrize("backbone", GDE.backbones)
def test_the_exploiting_policy_and_the_critics_never_depend_on_rho(backbone):
    """Given the same batches."""
    with_teacher, without = at(gde(backbone, rho=0.3), 0), at(gde(backbone, rho=0.0), 0)
    streams = Streams(SEEDS, "online")
    for step in range(4):
        for method in (with_teacher, without):
            disturb(method.teacher, 0.1)
            method.agent.update(minibatch(step), streams.at(step))
            method.extra_updates(minibatch(step))
    ours, theirs = with_teacher.agent.state(), without.agent.state()
    assert all((ours[key] == theirs[key]).all() for key in ours)
    pairs = zip(with_teacher.behaviour.parts, without.behaviour.parts, strict=True)
    assert any((a.flat != b.flat).any() for a, b in pairs)


def test_reversed_it_is_the_other_divergence():
    forward, back = at(gde(), 0), at(gde(reverse=True), 0)
    for method in (forward, back):
        disturb(method.behaviour)
    obs = minibatch().obs
    expected = 0.3 * back.behaviour.kl(back.teacher, obs)
    assert torch.allclose(back.guidance(back.behaviour, obs), expected)
    assert not torch.allclose(forward.guidance(forward.behaviour, obs), expected)


# --- ablations ------------------------------------------------------------------------------------
def test_without_exploration_the_exploiting_policy_acts_and_is_guided():
    whole, ablated = (
        at(gde(fine_tune_steps=5), 5_001),
        at(gde(fine_tune_steps=5, explore=False), 5_001),
    )
    obs, streams = torch.randn(2, TASK.obs_size), Streams(SEEDS, "online")
    for method in (whole, ablated):
        disturb(method.behaviour)
        disturb(method.teacher)
        assert method.learns()
    assert (ablated.act(obs, streams.at(9)) != whole.act(obs, streams.at(9))).any()
    whole.behaviour.copy_from(whole.agent.policy)
    assert (ablated.act(obs, streams.at(9)) == whole.act(obs, streams.at(9))).all()
    batch = minibatch()
    own = lambda: (torch.tensor([1.0, 2.0]), {})  # noqa: E731
    guided = ablated.actor_loss(batch, own)[0] - own()[0]
    expected = ablated.guidance(ablated.agent.policy, batch.obs).mean(-1)
    assert torch.allclose(guided, expected)
    assert (expected > 0).all()
    assert (whole.actor_loss(batch, own)[0] == own()[0]).all()
    assert ablated.extra_updates(batch) == {}


def test_without_exploitation_the_exploring_policy_is_scored_and_reported():
    whole, ablated = gde(scoring_steps=2), gde(scoring_steps=2, exploit=False)
    obs, draws = torch.randn(2, 4, TASK.obs_size), Streams(SEEDS, "evaluation").at(0)
    for method in (whole, ablated):
        disturb(method.behaviour)
        explored, exploited = (
            policy.mode(obs) for policy in (method.behaviour, method.agent.policy)
        )
        expected = exploited if method is whole else explored
        assert (method.greedy(obs, draws) == expected).all()
        scored = method.act(obs[:, 0], draws)
        assert torch.allclose(scored, expected[:, 0], atol=1e-6)
        for method.step in range(2):
            method.observe(torch.ones(2), torch.tensor([False, False]))
        assert (method.teacher.mode(obs) == expected).all()


# --- in the training loop -------------------------------------------------------------------------
@pytest.mark.parametrize("backbone", GDE.backbones)
def test_stages_in_the_training_loop(backbone):
    """Who acts, when there are updates, where episodes are cut, and what a checkpoint must hold."""
    stages = {"scoring_steps": 20, "fine_tune_steps": 10, "n": 3, "total_steps": 100}
    specs = [
        RunSpec(
            "hopper",
            backbone,
            "online",
            100,
            seed,
            hyper=SMALL | FEW.get(backbone, {}),
            method="gde",
            method_hyper=stages,
            replay="online",
            eval_every=100,
        )
        for seed in SEEDS
    ]
    whole = Cohort(specs)
    whole.begin()
    scores = []
    while whole.step < 100:
        whole.advance()
        scores.append(whole.method.best.clone())
    assert whole.agent.updates == 30
    ends = [row["step"] for row in whole.rows[0]["episodes"]]
    assert {20, 30, 50, 60, 80, 90} <= set(ends)
    assert (whole.replay.ends[[19, 29, 49, 119, 129]]).all()
    assert not scores[18].isfinite().any()
    assert scores[19].isfinite().all()
    part = Cohort(specs)
    part.begin()
    while part.step < 44:
        part.advance()
    state = part.state()
    resumed = Cohort([specs[1]])
    resumed.load_state([{key: value[1].clone() for key, value in state.items()}], 44)
    while resumed.step < 100:
        resumed.advance()
    ours, theirs = resumed.state(), whole.state()
    assert all((ours[key][0] == theirs[key][1]).all() for key in theirs)


def test_a_teacher_without_a_score_is_no_divergence():
    """No episode is finished within a scoring stage: its score stays -inf."""
    stages = {"scoring_steps": 4, "fine_tune_steps": 6, "finished_episodes": True}
    run = {"method": "gde", "method_hyper": stages, "replay": "online", "eval_every": 20}
    cohort = Cohort([RunSpec("halfcheetah", "iql", "online", 20, 0, hyper=SMALL, **run)])
    cohort.begin()
    while cohort.step < 20:
        cohort.advance()
    cohort.evaluate()
    assert cohort.rows[0]["metrics"][-1]["teacher_score"] == -torch.inf
    assert not cohort.diverged.any()


def test_gde_is_refused_where_it_is_not_defined():
    from o2okit.errors import UserError

    assert METHODS["gde"] is GDE
    with pytest.raises(UserError, match=r"not defined for backbone 'bc'\. Allowed: iql, td3"):
        RunSpec("hopper", "bc", "online", 10, 0, method="gde", replay="online")


@pytest.mark.parametrize("name", ["antmaze-umaze-v0", "pen", "hopper"])
def test_stages_alternate_on_every_family_of_tasks(name):
    spec = RunSpec(
        *(name, "iql", "online", 8, 0),
        hyper=SMALL,
        method="gde",
        method_hyper={"scoring_steps": 2, "fine_tune_steps": 3},
        dataset=stand_in(task(name), 2_000),
        replay="mixed",
    )
    cohort = Cohort([spec])
    cohort.begin()
    for _ in range(8):
        cohort.advance()
    assert cohort.agent.updates == 4, "steps 2, 3, 4 and 7"
    lengths = [row["length"] for row in cohort.rows[0]["episodes"]]
    assert lengths[:2] == [2, 3], "an episode is cut at every border"
