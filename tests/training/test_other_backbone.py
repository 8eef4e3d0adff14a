"""An agent goes on with the backbone that its own derives from: SAC's losses on a CQL agent."""

import pytest
import torch
from hosts import FEW, SEEDS, SMALL, TASK, hopper_data, minibatch

from o2okit.backbones import BACKBONES
from o2okit.errors import UserError
from o2okit.hyper import complete
from o2okit.nn.distributions import tanh_normal_sample
from o2okit.streams import Streams
from o2okit.training import RunSpec, RunStore, protocol, train
from o2okit.training.cohort import Cohort


@pytest.fixture(scope="module")
def data():
    return hopper_data()


def offline(backbone, data, seed=3) -> RunSpec:
    hyper = SMALL | FEW.get(backbone, {})
    return RunSpec("hopper", backbone, "offline", 4, seed, hyper=hyper, dataset=data)


def test_sac_takes_over_the_cql_agent_whole(data, tmp_path):
    start = offline("cql", data)
    spec = protocol.online(
        start, "naive", 20, backbone="sac", replay="online", hyper={"actor_lr": 3e-4}
    )
    assert (spec.backbone, spec.hyper["actor_lr"], spec.hyper["normalise"]) == ("sac", 3e-4, False)
    assert spec.hyper["alpha_lr"] == start.hyper["alpha_lr"], "what is not given stays"
    assert "weight" not in spec.hyper
    (run,) = train([start], store=RunStore(tmp_path), device="cpu")
    cohort = Cohort([spec])
    cohort.begin([run.state()])
    before, agent = run.state(), cohort.agent.state()
    assert all((before[f"agent/{key}"] == value[0]).all() for key, value in agent.items())
    assert agent["updates"].item() == 4
    (trained,) = train([spec], store=RunStore(tmp_path), device="cpu")
    assert "cql_difference" not in trained.metrics()
    assert trained.agent().updates == 24


def test_the_losses_are_sac_s_with_cql_s_networks(data):
    """Entropy in the target, no penalty: written out with the CQL agent's own networks."""
    kind = BACKBONES["cql"]
    cql = kind(TASK, [complete(kind.Hyperparameters, SMALL | FEW["cql"])] * 2, SEEDS)
    for step in range(3):
        cql.update(cql.prepare(minibatch(step)), Streams(SEEDS, "offline").at(step))
    own = complete(BACKBONES["sac"].Hyperparameters, SMALL | {"normalise": False})
    sac = BACKBONES["sac"](TASK, [own] * 2, SEEDS)
    sac.load_state(cql.state())
    batch, draws = sac.prepare(minibatch(9)), Streams(SEEDS, "online").at(0)
    noise = draws.normal("update", 2, sac.hyper.batch_size, TASK.act_size)[:, 0]
    with torch.no_grad():
        action, log_prob = tanh_normal_sample(*cql.policy.gaussian(batch.next_obs), noise)
        value = cql.q(cql.target_critic, batch.next_obs, action).amin(1)
        soft = value - cql.log_alpha.values().exp() * log_prob
        target = batch.reward + 0.99 * (1 - batch.terminated) * soft
        error = cql.q(cql.critic, batch.obs, batch.action) - target[:, None]
    metrics = sac.update(batch, draws)
    assert torch.allclose(metrics["critic_loss"], error.square().mean(-1).sum(-1))
    assert (sac.critic.flat != cql.critic.flat).any()


@pytest.mark.parametrize(("first", "then"), [("sac", "cql"), ("iql", "awac"), ("td3+bc", "sac")])
def test_others_are_refused(first, then, data):
    with pytest.raises(UserError, match="one of the same backbone"):
        protocol.online(offline(first, data), "naive", 5, backbone=then, replay="online")


def test_the_networks_must_fit(data):
    with pytest.raises(UserError, match="same networks"):
        protocol.online(
            offline("cql", data),
            "naive",
            5,
            backbone="sac",
            replay="online",
            hyper={"hidden": (8,)},
        )


def test_without_another_backbone_nothing_changes(data):
    start = offline("cql", data)
    assert protocol.online(start, "naive", 5).hyper == start.hyper
    assert (
        protocol.online(start, "naive", 5).id
        == protocol.online(start, "naive", 5, backbone="cql").id
    )
