"""Temperature against specs/gde.md 2.9: a ~ N(μ, (tσ)²), and nothing but acting changes."""

import pytest
import torch
from hosts import FEW, SEEDS, SMALL, TASK, hopper_data, make, minibatch

from o2okit.methods import METHODS
from o2okit.nn.distributions import normal_log_prob
from o2okit.streams import Streams
from o2okit.training import RunSpec, RunStore, protocol, train
from o2okit.training.cohort import Cohort

OBS = torch.randn(2, TASK.obs_size, generator=torch.Generator().manual_seed(1))
BACKBONES = METHODS["temperature"].backbones


def draws(step=0):
    return Streams(SEEDS, "online").at(step)


def ready(name, backbone="iql", **hyper):
    method = make(name, backbone, **hyper)
    method.agent.updates = 1  # else it acts uniformly
    return method


def test_an_action_is_the_mean_and_t_times_the_deviation():
    method = ready("temperature", temperature=[0.25, 2.0])
    mean, log_std = method.agent.policy.gaussian(OBS[:, None])
    noise = draws().normal("explore", 1, TASK.act_size)
    expected = mean + torch.tensor([0.25, 2.0])[:, None, None] * log_std.exp() * noise
    assert torch.allclose(method.act(OBS, draws()), expected.clamp(-1, 1)[:, 0])
    assert (expected.abs() < 1).any()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_t_0_acts_by_the_mean_and_t_1_as_the_backbone(backbone):
    method, plain = ready("temperature", backbone, temperature=[0.0, 1.0]), ready("naive", backbone)
    acted, mean = method.act(OBS, draws()), method.greedy(OBS[:, None], draws())[:, 0]
    assert (acted[0] == mean[0]).all()
    assert (acted[1] == plain.act(OBS, draws())[1]).all()
    assert (acted[1] != mean[1]).any()


def test_nothing_but_acting_knows_of_t():
    method, plain = ready("temperature", temperature=[0.0, 0.5]), ready("naive")
    for step in range(3):
        for each in (method, plain):
            each.draws = draws(step)
            each.agent.update(minibatch(step), draws(step))
    ours, theirs = method.agent.state(), plain.agent.state()
    assert all((ours[key] == theirs[key]).all() for key in theirs)
    assert (method.greedy(OBS[:, None], draws()) == plain.greedy(OBS[:, None], draws())).all()
    assert method.state() == {}
    action = torch.rand(2, 1, TASK.act_size)
    expected = normal_log_prob(action, *plain.agent.policy.gaussian(OBS[:, None]))
    assert (method.agent.log_prob(OBS[:, None], action) == expected).all(), "σ itself is not scaled"


def test_a_run_at_t_1_is_plain_fine_tuning_bit_for_bit_and_the_sweep_is_one_cohort(tmp_path):
    hyper = SMALL | FEW.get("iql", {})
    start = RunSpec("hopper", "iql", "offline", 5, 3, hyper=hyper, dataset=hopper_data())
    measured = {"replay": "online", "eval_every": 20, "eval_episodes": 1}
    sweep = [
        protocol.online(start, "temperature", 40, method_hyper={"temperature": t}, **measured)
        for t in (0.0, 0.5, 1.0)
    ]
    assert len({spec.cohort for spec in sweep}) == 1
    assert len({spec.id for spec in sweep}) == 3
    (begun,) = train([start], store=RunStore(tmp_path), device="cpu")
    cohorts = [Cohort(sweep), Cohort([protocol.online(start, "naive", 40, **measured)])]
    for cohort in cohorts:
        cohort.begin([begun.state()] * cohort.runs)
        for _ in range(40):
            cohort.advance()
        cohort.evaluate()
    ours, plain = (cohort.state() for cohort in cohorts)
    keys = [key for key in plain if key.startswith(("agent/", "replay/", "env/"))]
    assert all((ours[key][2] == plain[key][0]).all() for key in keys)
    assert cohorts[0].rows[2] == cohorts[1].rows[0]
    assert (ours["agent/actor.parameters"][0] != ours["agent/actor.parameters"][2]).any()
