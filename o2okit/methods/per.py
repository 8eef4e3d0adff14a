"""PER (Schaul et al., 2016): transitions are drawn in proportion to how wrong their value was.

    p_i = |δ_i| + ε,   P(i) = p_i^α / Σ_k p_k^α
    w_i = (N P(i))^-β / max_j (N P(j))^-β over the minibatch,   β from β_0 to 1 over the fine-tuning
    L_Q = Σ_j mean_B w (Q_j(s, a) - y)²

Dataset and own rows share one sum. A row that is new gets the largest priority that any has had so far, at
least 1; one that has been drawn gets that of its new error.

Numbered departures from the paper:
    1. |δ| is the mean of the twin critics' |δ_j|, before the step that the error makes.
    2. w acts on the critics' TD loss alone: value and actor learn from the minibatch as it is drawn.
    3. The dataset's rows count as new at the start: all have priority 1.
    4. ``n``-step sums in the target, as GDE's comparison has them (specs/gde.md 3); value and actor
       stay one-step (specs/gde.md 2.4).
    5. An error that is not finite leaves its row's priority as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from o2okit.backbones.base import Loss
from o2okit.data import Batch, Replay
from o2okit.hyper import per_run, static
from o2okit.methods.base import Naive
from o2okit.nn import mean_per_run
from o2okit.tasks import Task

EPSILON = 1e-6  # no transition is never drawn again (spec 3)


@dataclass(frozen=True)
class PERHyperparameters:
    """Defaults: specs/gde.md 3."""

    alpha: float = per_run(0.6, "α", "spec 3; 0: uniform")
    importance: float = per_run(0.4, "β_0", "spec 3; it ends at 1", high=1)
    total_steps: int = static(250_000, "T", "spec 3, where β has come to 1", low=1)
    n: int = static(5, "n", "spec 3", low=1)


def importance_weights(probability: Tensor, beta: Tensor) -> Tensor:
    """Weights w ``[R, B]`` of draws with these probabilities ``[R, B]``, for one β per run ``[R]``.

    Relative to the rarest of the batch: N cancels. By logarithms, because PyTorch's ``pow`` rounds the end
    of a tensor differently, and where that is depends on the number of runs.
    """
    log = probability.log()
    return (beta[:, None] * (log.amin(1, keepdim=True) - log)).exp()


class PER(Naive):
    """Proportional prioritised experience replay; arguments as for ``Naive``."""

    Hyperparameters = PERHyperparameters
    version = 1
    replay = "mixed"
    backbones = ("iql",)

    @classmethod
    def settings(cls, task: Task, online_steps: int) -> dict[str, Any]:
        """β rises over the whole fine-tuning."""
        return {"total_steps": online_steps}

    def build(self, seeds: Sequence[int]) -> None:
        """What an update passes on; in tensors that stay, as a recorded update needs them."""
        shape = (self.runs, self.agent.hyper.batch_size)
        self.weight = torch.zeros(shape, device=self.device)  # w
        self.error = torch.zeros(shape, device=self.device)  # |δ|

    def attach(self, replay: Replay) -> None:
        """All rows of the dataset have priority 1; the replay saves and restores the priorities."""
        self.priorities = replay.prioritise()

    @property
    def n_step(self) -> int:
        """As ``Naive.n_step``."""
        return self.hyper.n

    def beta(self) -> Tensor:
        """β ``[R]`` at this step."""
        first = self.hyper.importance
        return first + (1 - first) * min(1.0, self.step / self.hyper.total_steps)

    def priority(self, error: Tensor) -> Tensor:
        """p^α ``[R, B]`` of absolute errors ``[R, B]``."""
        return (self.hyper.alpha[:, None] * (error + EPSILON).log()).exp()

    # --- updates ----------------------------------------------------------------------------------
    def sample(self, replay: Replay) -> Batch:
        """The minibatch, drawn by priority."""
        u = self.draws.uniform("minibatch", self.agent.hyper.batch_size)
        self.places, probability = self.priorities.draw(u)
        self.weight.copy_(importance_weights(probability, self.beta()))
        return replay.take(self.places)

    def critic_loss(
        self, batch: Batch, target: Tensor, own: Loss
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_Q ``[R]`` and its metrics ``[R]``; keeps |δ|."""
        q = self.agent.q(self.agent.critic, batch.obs, batch.action)
        delta = q - target[:, None]
        self.error.copy_(delta.detach().abs().mean(1))
        loss = (self.weight[:, None] * delta.square()).mean(-1).sum(-1)
        return loss, {"critic_loss": loss.detach(), "q": q.detach().mean((1, 2))}

    def extra_updates(self, batch: Batch) -> dict[str, Tensor]:
        """The minibatch's new priorities, and that of rows to come."""
        priority = self.priority(self.error)
        self.priorities.set(self.places, priority)
        largest = priority.nan_to_num(nan=0.0, posinf=0.0).amax(1)
        self.priorities.fresh.copy_(torch.maximum(self.priorities.fresh, largest))
        return {
            "td_error": mean_per_run(self.error),
            "importance": mean_per_run(self.weight),
            "online_share": self.priorities.online_share(self.places),
        }
