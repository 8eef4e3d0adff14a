"""Fine-tuning methods: a method changes training at named points and nowhere else.

``Naive`` is plain fine-tuning: every point has its default, which changes nothing. A method is a subclass
that overrides the points it needs; what it holds is made in ``build`` and saved by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from o2okit.backbones import kin
from o2okit.backbones.base import Agent, Changes, Normaliser
from o2okit.data import Batch, Dataset, Replay
from o2okit.hyper import stack
from o2okit.nn import Adam, Parts, RunningMoments, Saved, Stacked
from o2okit.streams import Draws
from o2okit.tasks import Task


@dataclass(frozen=True)
class NoHyperparameters:
    """Plain fine-tuning has none."""


class Naive(Saved, Changes):
    """Plain fine-tuning; the base class of every method.

    Class attributes:
        replay: what it draws from (``REPLAYS``); ``None``: what the backbone's authors draw from.
        backbones: names it is defined for; empty: all.
        unbounded: metrics that may be infinite without anything having diverged.
        needs_dataset: whether ``prepare`` learns from the dataset, though nothing may be drawn from it.

    Attributes:
        step: environment steps so far, as the training loop counts them.

    Args:
        agent: the cohort of agents that is fine-tuned.
        hypers: the method's complete hyper-parameters of each run.
        seeds: one per run.
    """

    Hyperparameters: ClassVar[type] = NoHyperparameters
    version: ClassVar[int] = 1  # part of a run's id: raise it when a change alters results
    replay: ClassVar[str | None] = None
    backbones: ClassVar[tuple[str, ...]] = ()
    needs_dataset: ClassVar[bool] = False
    unbounded: ClassVar[tuple[str, ...]] = ()
    saved_kinds = (Stacked, Adam, Parts, RunningMoments, Normaliser)

    def __init__(
        self, agent: Agent, hypers: Sequence[Mapping[str, Any]], seeds: Sequence[int]
    ) -> None:
        self.agent, self.task, self.runs, self.device = agent, agent.task, agent.runs, agent.device
        self.hyper = stack(self.Hyperparameters, hypers, self.device)
        self.step = 0
        self.build(seeds)

    @classmethod
    def fits(cls, backbone: str) -> bool:
        """Whether the method is defined for a backbone, or for what one of the user's derives from."""
        return not cls.backbones or bool({backbone, kin(backbone)} & set(cls.backbones))

    # --- before training --------------------------------------------------------------------------
    @classmethod
    def settings(cls, task: Task, online_steps: int) -> dict[str, Any]:
        """Hyper-parameters that go with the task and the length of the fine-tuning; most have none."""
        return {}

    @classmethod
    def first_update(cls, hyper: Mapping[str, Any]) -> int:
        """Environment steps before the first update, with complete hyper-parameters of the method."""
        return 0

    @classmethod
    def first_effect(cls, hyper: Mapping[str, Any]) -> int:
        """Rows of the run's own in the replay before the method changes anything, as ``first_update``."""
        return 0

    def build(self, seeds: Sequence[int]) -> None:
        """Makes the method's own networks and optimisers; the agent is untrained as yet."""

    def attach(self, replay: Replay) -> None:
        """Once the replay is made: new, resumed or not, and with the dataset's rows alone as yet."""

    def prepare(self, dataset: Dataset | None) -> None:
        """Once, before the first online step: the agent is the offline one."""

    @property
    def n_step(self) -> int:
        """Rewards that a transition's target sums up."""
        return 1

    # --- acting -----------------------------------------------------------------------------------
    def learns(self) -> bool:
        """Whether there are updates at this step."""
        return True

    def cuts(self) -> bool:
        """Whether the episodes of all runs are cut off after this step, as by a time-out."""
        return False

    def act(self, obs: Tensor, draws: Draws) -> Tensor:
        """The actions ``[R, ...]`` that are sent to the environment for ``obs`` ``[R, ...]``."""
        return self.agent.act(obs, draws)

    def observe(self, reward: Tensor, ended: Tensor) -> None:
        """After each environment step: its raw rewards and which episodes ended by themselves, ``[R]``."""

    def greedy(self, obs: Tensor, draws: Draws) -> Tensor:
        """Actions ``[R, n, ...]`` that are evaluated, for ``obs`` ``[R, n, ...]``.

        All ``n`` episodes begin together: ``draws.step`` is the number of steps they have behind them.
        """
        return self.agent.greedy(obs)

    def after_evaluation(self, scores: Sequence[Mapping[str, Any]]) -> None:
        """After an evaluation that measures: each run's row (return, length, ...)."""

    # --- updating; the losses are in ``Changes`` --------------------------------------------------
    def select(self, dataset: Dataset) -> Dataset:
        """What the replay holds of the dataset."""
        return dataset

    def sample(self, replay: Replay) -> Batch:
        """The minibatch of an update, as it is stored."""
        return replay.sample(self.draws.uniform("minibatch", self.agent.hyper.batch_size))

    def reward(self, batch: Batch) -> Tensor:
        """The reward of the update, ``[R, B]``."""
        return batch.reward

    def extra_updates(self, batch: Batch) -> dict[str, Tensor]:
        """Steps on the method's own networks, after the backbone's; returns metrics ``[R]``."""
        return {}
