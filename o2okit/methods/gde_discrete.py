"""GDE on discrete CQL (GDE, C.5): the exploring policy is a Q-network without conservatism.

    L_β = w mean_B huber_δ( Q_β(s, a) - y_β ) + ρ_t mean_B KL( softmax(Q_t / τ) ‖ softmax(Q_β / τ) )
    y_β = r + γ (1 - terminated) max_a' Q_β'(s', a')

CQL's conservatism sits in its critic, so that a policy that maximised that critic would be as careful as
CQL is; π_e is the CQL network, the teacher a copy of it.

Numbered departures from the paper, which does not say how GDE is made discrete (specs/gde.md 2.7):
    1. All of the above is ours, τ = 0.1 as QDagger's.
    2. π_β acts ε-greedily, with the backbone's ε; its target network is copied when the backbone's is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from o2okit.backbones.dqn import huber
from o2okit.data import Batch, Dataset
from o2okit.methods.gde import GDE, StageHyperparameters


class DiscreteGDE(GDE):
    """GDE on discrete CQL; arguments as for ``Naive``."""

    Hyperparameters = StageHyperparameters
    backbones = ("cql-discrete",)

    def build(self, seeds: Sequence[int]) -> None:
        """As ``GDE.build``, with the exploring network's own target."""
        super().build(seeds)
        self.target_network = self.behaviour.copy()

    def learning_rate(self) -> float:
        """The backbone's: the loss is, too."""
        return self.agent.hyper.lr

    def prepare(self, dataset: Dataset | None) -> None:
        """As ``GDE.prepare``."""
        super().prepare(dataset)
        self.target_network.copy_from(self.behaviour)

    def exploration_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """L_β ``[R]`` and its metrics ``[R]``."""
        hyper = self.agent.hyper
        with torch.no_grad():
            best = self.target_network.values(batch.next_obs).amax(-1)
            target = self.agent.backup(batch, best)
        q = self.behaviour.values(batch.obs).gather(-1, batch.action[..., None])[..., 0]
        td_loss = hyper.td_weight * huber(q - target, hyper.huber_delta).mean(-1)
        guidance = self.guidance(self.behaviour, batch.obs).mean(-1)
        metrics = {"explore_q": q.detach().mean(-1), "guidance": guidance.detach()}
        return td_loss + guidance, metrics

    def extra_updates(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the exploring network, after its target's if it is time."""
        if (self.agent.updates - 1) % self.agent.hyper.target_period == 0:
            self.target_network.copy_from(self.behaviour)
        return super().extra_updates(batch)
