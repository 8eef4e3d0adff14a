"""Methods of one's own, which are recorded unless they change the update: what they may do around it."""

import copy
import gc
import weakref
from dataclasses import replace

import pytest
import torch
from hosts import SHORT, fine_tuning, hopper_data
from recorded import recorded_equals_eager

from o2okit.methods import METHODS, Naive
from o2okit.methods.qcse import QCSE
from o2okit.nn import Adam, StackedMLP
from o2okit.training import capture
from o2okit.training.cohort import Cohort

LATE = 12  # steps: what begins then begins after the recording


@pytest.fixture(scope="module")
def data():
    return hopper_data()


@pytest.fixture
def runs(data, monkeypatch):
    """Specs of a method's runs."""

    def made(method, backbone="td3+bc"):
        monkeypatch.setitem(METHODS, "mine", method)
        return fine_tuning(backbone, "mine", data)

    return made


class Novelty(Naive):
    """An error that is computed once, with its graph: the bonus, and afterwards the loss.

    Its networks have the hidden layers of the agent's, so that they share memory with those in eager work.
    """

    def build(self, seeds):
        sizes = (self.task.obs_size, *self.agent.hyper.hidden, 8)
        self.fixed = StackedMLP(seeds, sizes, name="fixed", trainable=False)
        self.learnt = StackedMLP(seeds, sizes, name="learnt")
        self.adam = Adam([self.learnt], 1e-2)

    def begun(self):
        return self.step >= LATE

    def reward(self, batch):
        if not self.begun():
            return batch.reward
        self.error = (self.learnt(batch.next_obs) - self.fixed(batch.next_obs)).square().sum(-1)
        return batch.reward + 0.01 * self.error.detach()

    def extra_updates(self, batch):
        if not self.begun():
            return {}
        self.adam.step(self.error.mean(-1))
        return {"novelty": self.error.detach().mean(-1)}


class NoveltyNowAndThen(Novelty):
    def begun(self):
        return self.agent.updates % 3 == 0


class Distilled(Novelty):
    """The agent acts between a student's forward and backward pass."""

    def reward(self, batch):
        return batch.reward

    def extra_updates(self, batch):
        normaliser, size = self.agent.normaliser, self.task.act_size
        raw = batch.obs * normaliser.std + normaliser.mean
        if not self.begun():
            self.agent.greedy(raw)
            return {}
        mine = self.learnt(batch.obs)[..., :size]
        self.adam.step((mine - self.agent.greedy(raw)).square().mean((1, 2)))
        return {}


class Sticky(Naive):
    """Keeps an action from one step to the next."""

    saved_tensors = ("last",)

    def build(self, seeds):
        self.last = torch.zeros(self.runs, self.task.act_size)

    def act(self, obs, draws):
        own, last = self.agent.act(obs, draws), self.last
        self.last = own
        return torch.where(draws.uniform("sticky", 1) < 0.5, last, own)


class BestOfTwo(Naive):
    """Two actions in one step."""

    def act(self, obs, draws):
        actions = [self.agent.act(seen, draws) for seen in (obs, obs + 0.1)]
        seen = self.agent.view(obs[:, None])
        first, second = (
            self.agent.q(self.agent.critic, seen, action[:, None]).amin(1) for action in actions
        )
        return torch.where(first > second, *actions)


class Unnoisy(Naive):
    """The policy's noise is another tensor from some step on."""

    def observe(self, reward, ended):
        if self.step == LATE:
            self.agent.policy.noise = self.agent.policy.noise * 0.1


class Exchanged(Naive):
    """The policy is another one from some step on."""

    def build(self, seeds):
        self.other = self.agent.policy.copy(trainable=True)
        with torch.no_grad():
            self.other.parts[0].flat.add_(0.3)

    def observe(self, reward, ended):
        if self.step == LATE:
            self.agent.policy = self.other


class Led(Naive):
    """A copy of what the agent was acts, and decides in evaluations."""

    def build(self, seeds):
        self.leader = self.agent.greedy

    def observe(self, reward, ended):
        if self.step == LATE:
            self.leader = copy.deepcopy(self.agent.greedy)

    def act(self, obs, draws):
        self.agent.greedy(obs[:, None])
        return self.leader(obs[:, None])[:, 0]

    def greedy(self, obs, draws):
        return self.leader(obs)


class KeptDraws(Novelty):
    """Random numbers that are used again in the next update; what else the draws know."""

    def reward(self, batch):
        return batch.reward

    def extra_updates(self, batch):
        noise = self.draws.normal("kept", 16, self.task.obs_size)
        if self.draws.step > LATE:
            self.adam.step(self.learnt(noise - self.old).square().mean((1, 2)))
        self.old = noise
        return {}


class Growing(Naive):
    """Minibatches of several sizes, of one row among them."""

    def sample(self, replay):
        u = self.draws.uniform("minibatch", self.agent.hyper.batch_size)
        return replay.sample(u[:, : (8, 16, 1)[self.step // 8 % 3]])


class WithoutAutograd(Naive):
    @torch.inference_mode()
    def act(self, obs, draws):
        return self.agent.act(obs, draws)


class NowAndThenWithoutAutograd(Naive):
    def act(self, obs, draws):
        with torch.inference_mode(self.step % 2 == 0):
            action = self.agent.act(obs, draws)
        return action.clone()


class Widened(Naive):
    """What observations are divided by is another tensor from some step on; it acts greedily."""

    def observe(self, reward, ended):
        if self.step == LATE:
            self.agent.normaliser.std = self.agent.normaliser.std * 2

    def act(self, obs, draws):
        return self.agent.greedy(obs[:, None])[:, 0]


@pytest.mark.parametrize(
    ("method", "backbone"),
    [
        *((each, "td3+bc") for each in (Novelty, NoveltyNowAndThen, Distilled)),
        *((each, "td3+bc") for each in (Sticky, BestOfTwo)),
        *((each, "td3+bc") for each in (WithoutAutograd, NowAndThenWithoutAutograd)),
        *((each, "td3") for each in (Unnoisy, Widened)),
        *((each, "td3+bc") for each in (Exchanged, Led, KeptDraws)),
        (Growing, "iql"),
    ],
)
def test_it_is_what_it_is_without_recordings(method, backbone, runs, monkeypatch):
    recorded_equals_eager(runs(method, backbone), "cpu", monkeypatch, steps=40)


def test_a_bonus_whose_critics_learn_by_another_loss_is_of_its_own_minibatch(runs, monkeypatch):
    class Weighted(QCSE):
        def critic_loss(self, batch, target, own):
            q = self.agent.q(self.agent.critic, batch.obs, batch.action)
            loss = (q - target[:, None]).square().mean(-1).sum(-1)
            return loss, {"critic_loss": loss.detach()}

    monkeypatch.setitem(SHORT, "mine", {"start": 10, "size": 8})  # no rows beside it
    specs = [replace(spec, replay="half") for spec in runs(Weighted)]
    recorded_equals_eager(specs, "cpu", monkeypatch, steps=40)


def test_rewards_with_a_gradient_hold_no_memory(runs):
    class Attached(Novelty):
        def reward(self, batch):
            error = (self.learnt(batch.next_obs) - 1).square().sum(-1)
            self.graphs = [*getattr(self, "graphs", []), weakref.ref(error)]
            return batch.reward + 0.01 * error

        def extra_updates(self, batch):
            return {}

    cohort = Cohort(runs(Attached))
    cohort.begin()
    while cohort.step < 40:
        cohort.advance()
    gc.collect()
    places = [place for kind in cohort.update.kinds.met.values() for place in kind.places]
    assert not any(place.requires_grad for place in places if place is not None)
    assert len(cohort.method.graphs) > 20
    assert sum(each() is not None for each in cohort.method.graphs) <= 1


def test_policies_that_are_used_once_are_not_kept(runs):
    class Passing(Naive):
        def act(self, obs, draws):
            return self.agent.act(obs, draws, self.agent.policy.copy())

    cohort = Cohort(runs(Passing))
    cohort.begin()
    while cohort.step < 40:
        cohort.advance()
    assert len(cohort.agent.sampled.kinds.met) == capture.Kinds.MOST
