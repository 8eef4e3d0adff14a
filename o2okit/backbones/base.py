"""What every backbone has: hyper-parameters, a view of the observations, and a state."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from o2okit.data import Batch, Dataset
from o2okit.errors import UserError
from o2okit.hyper import stack
from o2okit.nn import Adam, Policy, Saved, Stacked
from o2okit.streams import Draws
from o2okit.tasks import Task


class Normaliser:
    """Standardises observations by the dataset's statistics, which travel with the agent.

    ``std`` is widened by 1e-3 (specs/qcse.md 3): a dimension without spread must not blow up.
    """

    def __init__(self, runs: int, size: int, device: torch.device | str) -> None:
        self.mean = torch.zeros(runs, 1, size, device=device)
        self.std = torch.ones(runs, 1, size, device=device)

    def fit(self, observations: np.ndarray) -> None:
        """Statistics of ``observations`` ``[N, D]``, for every run."""
        mean = observations.mean(0, dtype=np.float64)
        std = observations.std(0, dtype=np.float64) + 1e-3
        self.mean.copy_(torch.as_tensor(mean, dtype=torch.float32))
        self.std.copy_(torch.as_tensor(std, dtype=torch.float32))

    def __call__(self, obs: Tensor) -> Tensor:
        """``[R, B, D]`` standardised."""
        return (obs - self.mean) / self.std

    def state(self) -> dict[str, Tensor]:
        """Mean and standard deviation ``[R, D]``."""
        return {"mean": self.mean[:, 0], "std": self.std[:, 0]}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what ``state`` returned."""
        self.mean[:, 0], self.std[:, 0] = state["mean"], state["std"]


def power(base: Tensor, exponent: Tensor) -> Tensor:
    """``base`` ``[R, 1]`` to the power of ``exponent`` ``[R, B]``.

    By logarithms: PyTorch's ``pow`` rounds the end of a tensor differently, so that a run's bits would
    depend on the others'.
    """
    return (base.log() * exponent).exp()


def with_rewards(batch: Batch, reward: Any, method: str) -> Batch:
    """The minibatch with the rewards of a method.

    Raises ``UserError`` for others than ``[R, B]``: they would be broadcast, and something else learnt.
    """
    if isinstance(reward, Tensor) and reward.shape == batch.reward.shape:
        return batch._replace(reward=reward)
    got = f"{reward!r} as reward"
    if isinstance(reward, Tensor):
        got = f"rewards of shape {tuple(reward.shape)}"
    raise UserError(
        f"method {method!r} gives {got}; a minibatch has {tuple(batch.reward.shape)}: runs, rows. With "
        "hyper-parameters per run one computes as with self.hyper.name[:, None]."
    )


HOOKS = ("target", "critic_loss", "actor_loss", "constraint")  # of ``Changes``
Loss = Callable[[], tuple[Tensor, dict[str, Tensor]]]


class Changes:
    """What a fine-tuning method may change within an update; by default nothing.

    ``own`` computes what the backbone has in that place. ``Agent.asks`` names the places that it has.
    An update is recorded once and replayed (``o2okit.training.capture``): what changes from one to the next
    has to be in tensors that are changed in place, not in Python's numbers or branches.

    Attributes:
        draws: the random numbers of the update under way.
    """

    draws: Draws

    def branch(self) -> Hashable:
        """As ``Agent.branch``: which course the next update takes, as far as the method decides."""
        return None

    def shape(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The rewards ``[R, B]`` that the update learns from, and metrics ``[R]``; every backbone asks."""
        return batch.reward, {}

    def target(self, batch: Batch, own: Callable[[], Tensor]) -> Tensor:
        """The critics' bootstrap target ``[R, B]``."""
        return own()

    def critic_loss(
        self, batch: Batch, target: Tensor, own: Loss
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The critics' TD loss ``[R]`` and its metrics ``[R]``."""
        return own()

    def actor_loss(self, batch: Batch, own: Loss) -> tuple[Tensor, dict[str, Tensor]]:
        """The actor's loss ``[R]`` and its metrics ``[R]``; of a discrete agent its Q-network's."""
        return own()

    def constraint(self, batch: Batch) -> Tensor | None:
        """The weight of each row ``[R, B]`` in what keeps the agent close to its data; ``None``: all 1."""
        return None


class Agent(Saved):
    """A cohort of agents of one backbone.

    Args:
        task: sizes of observations and actions.
        hypers: the complete hyper-parameters of each run; static ones must agree.
        seeds: one per run.
        device: where the tensors live.
    """

    Hyperparameters: ClassVar[type]
    version: ClassVar[int] = 1  # part of a run's id: raise it when a change alters results
    shared: ClassVar[tuple[str, ...]] = ()  # per-run hyper-parameters that a cohort has to agree on
    needs_returns: ClassVar[bool] = False  # Monte-Carlo returns in the minibatch
    replay: ClassVar[str] = "mixed"  # what plain fine-tuning draws from (CORL)
    # What changes when fine-tuning begins, unless it is given.
    fine_tuning: ClassVar[Mapping[str, Any]] = {}
    # Hyper-parameters that are a part of its state: fine-tuning can't change them.
    carried: ClassVar[tuple[str, ...]] = ()
    # What of its update a method may change.
    asks: ClassVar[tuple[str, ...]] = ("target", "critic_loss", "actor_loss")
    imitates: ClassVar[bool] = False  # learns from actions alone, whatever they earn
    acts_by: ClassVar[tuple[str, ...]] = ("greedy",)  # functions of tensors: recorded
    discrete: ClassVar[bool] = False  # for tasks whose observations and actions are indices
    saved_kinds = (Stacked, Adam, Normaliser)

    def __init__(
        self,
        task: Task,
        hypers: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> None:
        self.hyper = stack(self.Hyperparameters, hypers, device)
        self.task, self.hypers, self.device = task, list(hypers), device
        self.obs_size, self.act_size, self.runs = task.obs_size, task.act_size, len(seeds)
        self.updates = 0  # gradient steps so far, offline and online
        self.method = Changes()  # fine-tuning puts its method here
        self.build(seeds)

    def build(self, seeds: Sequence[int]) -> None:
        """Makes networks, targets and optimisers; what is an attribute is saved and restored."""

    @classmethod
    def paced(cls, offline_steps: int) -> dict[str, Any]:
        """Hyper-parameters that go with the length of the pre-training; most have none."""
        return {}

    def fit(self, dataset: Dataset) -> None:
        """Takes what it needs of the dataset, before the first update."""

    def prepare(self, batch: Batch) -> Batch:
        """The minibatch as the losses see it."""
        return batch

    def backup(self, batch: Batch, next_value: Tensor) -> Tensor:
        """R + γ (1 - terminated) · next_value, ``[R, B]``; with n-step sums γ to the power of their steps."""
        discount = self.hyper.discount[:, None]
        if batch.steps is not None:
            discount = power(discount, batch.steps)
        return batch.reward + discount * (1 - batch.terminated) * next_value

    def update(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """One gradient step for every run; returns metrics ``[R]``."""
        self.schedule()
        metrics = self.work(batch, draws)
        self.updates += 1
        return metrics

    def work(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """What is recorded of an update: ``learn``, from the rewards that the method gives."""
        reward, metrics = self.method.shape(batch)
        batch = with_rewards(batch, reward, type(self.method).__name__)
        return metrics | self.learn(batch, draws)

    def schedule(self) -> None:
        """Before each update: what depends on the number of updates alone, such as learning rates."""

    def branch(self) -> Hashable:
        """Which course the next ``learn`` takes: it does the same work wherever this is equal."""
        return None

    def learn(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """The work of an update: tensors in, tensors changed in place, metrics ``[R]`` out."""
        raise TypeError(f"{type(self).__name__} defines no update")

    def optimisers(self) -> list[Adam]:
        """All that ``learn`` steps."""
        return [part for part in vars(self).values() if isinstance(part, Adam)]

    def view(self, obs: Tensor) -> Tensor:
        """Observations as the networks see them."""
        return obs

    def act(self, obs: Tensor, draws: Draws, policy: Policy | None = None) -> Tensor:
        """Actions for the environment, ``[R, ...]`` for ``obs`` ``[R, ...]``, of another policy if given."""
        raise TypeError(f"{type(self).__name__} defines no way to act")

    def greedy(self, obs: Tensor) -> Tensor:
        """Deterministic actions ``[R, B, ...]`` for ``obs`` ``[R, B, ...]``: what is evaluated."""
        raise TypeError(f"{type(self).__name__} defines no greedy action")

    # --- checkpoints: every network, optimiser and normaliser that is an attribute ----------------
    def state(self) -> dict[str, Tensor]:
        """As ``Saved.state``."""
        return {**super().state(), "updates": torch.full((self.runs,), self.updates)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """As ``Saved.load_state``."""
        super().load_state(state)
        self.updates = int(state["updates"][0])
