"""What is found in algorithms that break what is promised of a run, and nothing in those that don't."""

import pytest
import torch

import o2okit
from o2okit.backbones import BACKBONES
from o2okit.backbones.td3_bc import TD3BC
from o2okit.errors import UserError
from o2okit.methods import METHODS, Naive
from o2okit.nn import Adam, StackedMLP
from o2okit.nn.policies import DeterministicPolicy

STEPS = 24


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """What a test registers is gone after it."""
    for table in (METHODS, BACKBONES):
        for name in ("mine", "other"):
            monkeypatch.setitem(table, name, None)
            del table[name]


class Clipped(Naive):
    def reward(self, batch):
        return batch.reward.clamp(max=0.5)


class Centred(Naive):
    """A mean over all runs."""

    def reward(self, batch):
        return batch.reward - batch.reward.mean()


class Forgetful(Naive):
    """Counts in a tensor that is not saved."""

    def build(self, seeds):
        self.count = torch.zeros(self.runs)

    def reward(self, batch):
        self.count += 1
        return batch.reward + self.count[:, None]


class Remembering(Forgetful):
    saved_tensors = ("count",)


class Throwing(Naive):
    """Noise that is not the run's."""

    def reward(self, batch):
        return batch.reward + torch.rand_like(batch.reward)


class Exploding(Naive):
    def reward(self, batch):
        return batch.reward * torch.inf


class Late(Naive):
    def reward(self, batch):
        return batch.reward + (1.0 if self.step > 10 * STEPS else 0.0)


class Unseen(Naive):
    """Acts by a policy with a number of Python's that changes."""

    def build(self, seeds):
        self.scales = scales = [1.0]

        class Scaled(DeterministicPolicy):
            def sample(self, obs, noise):
                return super().sample(obs, noise) * scales[0]

        self.explorer = Scaled(self.agent.actor.copy(), torch.zeros(self.runs))

    def act(self, obs, draws):
        self.scales[0] = 1 / (1 + self.step)
        return self.agent.act(obs, draws, self.explorer)


class Narrow(Naive):
    def reward(self, batch):
        return batch.reward[0]


class Alike(TD3BC):
    """All runs have the networks of the first."""

    def build(self, seeds):
        super().build([seeds[0]] * len(seeds))
        sizes = (self.obs_size, 8, 1)
        self.extra = StackedMLP([0] * len(seeds), sizes, name="extra", device=self.device)
        self.extra_adam = Adam([self.extra], 1e-3)

    def view(self, obs):
        return obs


def _rewards(value):
    return type("Wrong", (Naive,), {"__module__": __name__, "reward": lambda self, batch: value})


class Shaping(Naive):
    def shape(self, batch):
        return batch.reward[0], {}


def _extra(value):
    member = {"extra_updates": lambda self, batch: value}
    return type("Wrong", (Naive,), {"__module__": __name__, **member})


class Summing(Naive):
    @property
    def n_step(self):
        return 0


@pytest.mark.parametrize("method", [Clipped, Remembering])
def test_a_sound_method_passes_and_says_with_what(method, capsys):
    o2okit.register("mine", method)
    o2okit.check("mine", steps=STEPS)
    assert capsys.readouterr().out.splitlines() == [
        f"mine with td3+bc: 3 runs of {STEPS} steps are the same to the last bit alone, among others and "
        "interrupted, recorded or not"
    ]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            Centred,
            r"mine with td3\+bc:\nAlone and among others .*mean_per_run .* differs in agent/",
        ),
        (Forgetful, r"A run that was interrupted .* named in saved_tensors\. It differs in agent/"),
        (Throwing, r"random numbers come from self\.draws\. It differs in agent/"),
        (Unseen, r"With updates and actions that are recorded .* O2OKIT_RECORD=0 .* differs in"),
        (Exploding, r"Something is not finite: agent/"),
        (
            Narrow,
            r"method 'mine' gives rewards of shape \(16,\); a minibatch has \(3, 16\): runs, rows",
        ),
        (_rewards(None), r"method 'mine' gives None as reward; a minibatch has \(3, 16\)"),
        (Shaping, r"method 'Shaping' gives rewards of shape \(16,\); a minibatch has \(3, 16\)"),
        (_extra(None), r"'mine' returns None from extra_updates; .* \{\} for none"),
        (_extra({"loss": 1.0}), r"returns \{'loss': 1.0\} .* a tensor \(3,\) each"),
        (Summing, r"Summing\.n_step must be a whole number >= 1; got 0"),
    ],
)
def test_a_broken_promise_is_named_with_what_to_do(method, message):
    o2okit.register("mine", method)
    with pytest.raises(UserError, match=f"(?s){message}"):
        o2okit.check("mine", steps=STEPS)


def test_a_method_that_changes_nothing_is_told_so(capsys):
    o2okit.register("mine", Late)
    o2okit.check("mine", "iql", steps=STEPS)
    assert f"In these {STEPS} steps mine changed nothing" in capsys.readouterr().out


def test_a_backbone_is_tried_offline_and_online(capsys):
    class Mine(TD3BC):
        pass

    o2okit.register("mine", Mine)
    o2okit.check("mine", steps=STEPS, hyper={"alpha": 1.0})
    assert capsys.readouterr().out.startswith("mine with naive: 3 runs")
    o2okit.register("mine", Alike)
    with pytest.raises(UserError, match="different seeds have learnt the same"):
        o2okit.check("mine", steps=STEPS)


def test_few_steps_and_an_ensemble_are_enough(capsys):
    o2okit.check("naive", steps=3)
    o2okit.check("naive", "cql-ensemble", steps=4)
    assert capsys.readouterr().out.count("the same to the last bit") == 2


def test_discrete_agents_are_tried_in_the_maze(capsys):
    o2okit.check("gde-discrete", steps=STEPS, hyper={"hidden": (8,)})
    assert capsys.readouterr().out.startswith("gde-discrete with cql-discrete: 3 runs")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "clippt"}, "unknown method or backbone 'clippt'"),
        ({"name": "naive", "backbone": "iqll"}, "unknown backbone 'iqll'. Did you mean 'iql'"),
        ({"name": "iql", "backbone": "cql"}, "'iql' is a backbone; it is tried by itself"),
        ({"name": "reiql", "backbone": "cql"}, "'reiql' is not defined for backbone 'cql'"),
        ({"name": "qcse", "method_hyper": {"kk": 3}}, "Did you mean 'k'"),
        ({"name": "naive", "steps": 0}, "steps must be a whole number"),
        ({"name": "naive", "steps": 2}, "steps must be a whole number >= 3; got 2"),
        ({"name": "naive", "steps": "9"}, "steps must be a whole number >= 3"),
        ({"name": "naive", "backbone": ""}, "unknown backbone ''"),
        ({"name": ["naive"]}, r"unknown method or backbone \['naive'\]"),
        ({"name": "naive", "hyper": "x"}, "are a dictionary"),
        ({"name": "qcse"}, "begins with 1000 transitions"),
    ],
)
def test_mistakes_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        o2okit.check(**arguments)
