"""Temperature (GDE, 3.1): plain fine-tuning that acts with narrower or wider samples.

    a ~ N(μ(s), (t σ)²)                     t = 0 acts by the mean, t = 1 is fine-tuning on own samples

Only acting changes: the losses, the policy's own σ and what is evaluated do not know of t.

Numbered departures from the paper:
    1. It prints N(μ, tσ) without saying whether that is a deviation or a variance: a deviation here
       (specs/gde.md 2.9).
    2. Where samples are squashed by tanh, σ is that before it; where σ is a constant of the backbone's
       (TD3), it is scaled as well. The paper has IQL alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from o2okit.hyper import per_run
from o2okit.methods.base import Naive
from o2okit.streams import Draws


@dataclass(frozen=True)
class TemperatureHyperparameters:
    """Default: plain fine-tuning."""

    temperature: float = per_run(1.0, "t", "spec 2.9: 0, .25, .5, 1")


class Temperature(Naive):
    """Acting with scaled noise; arguments as for ``Naive``."""

    Hyperparameters = TemperatureHyperparameters
    replay = "online"
    backbones = (
        "iql",
        "awac",
        "td3",
        "td3+bc",
        "sac",
        "cql",
        "cal-ql",
    )  # those that act by samples

    @torch.no_grad()
    def act(self, obs: Tensor, draws: Draws) -> Tensor:
        """The backbone's sample with its noise times t."""
        agent = self.agent
        if agent.updates == 0:  # from scratch: uniform, whatever t
            return super().act(obs, draws)
        noise = draws.normal("explore", 1, self.task.act_size)
        scaled = self.hyper.temperature[:, None, None] * noise
        return agent.policy.sample(agent.normaliser(obs[:, None]), scaled)[:, 0]
