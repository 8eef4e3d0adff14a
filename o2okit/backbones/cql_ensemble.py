"""Pessimistic ensemble (Lee et al., 2021): N agents of CQL learn apart, then go on as one agent of SAC.

Apart (offline), each has minibatches of its own. Together (online), for every member i with twins j

    π(·|s) = tanh N(μ, σ²),   μ = mean_i μ_i(s),   σ² = mean_i (σ_i(s)² + μ_i(s)²) - μ²
    y_i = r + γ (1 - terminated) ( min_j Q̄_ij(s', a') - α log π(a'|s') ),            a' ~ π(·|s')
    L_Q = Σ_ij mean_B (Q_ij(s, a) - y_i)²
    L_π = mean_B ( α log π(a|s) - mean_i min_j Q_ij(s, a) ),                         a ~ π(·|s)

It is the agent of Off2OnRL; with the method ``balanced-replay`` it is all of it.

Numbered departures from the paper and the authors' code:
    1. One temperature, log α = mean_i log α_i: it goes on from the offline ones. The code begins with α = 1.
    2. Optimisers continue. The code makes new ones.
    3. An update per environment step throughout. The code makes none in the first 1,000 steps, then ten
       times as many at once (specs/gde.md 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from o2okit.backbones.actor_critic import ActorCritic
from o2okit.backbones.cql import CQL, CQLHyperparameters
from o2okit.data import Batch
from o2okit.errors import UserError
from o2okit.hyper import static
from o2okit.nn import Adam, TanhGaussianPolicy, mean_per_run
from o2okit.nn.distributions import EDGE, tanh_normal_sample
from o2okit.streams import Draws


@dataclass(frozen=True)
class CQLEnsembleHyperparameters(CQLHyperparameters):
    """CQL's. Defaults: specs/gde.md 3."""

    batch_size: int = static(
        1280, "B", "256 for each of five; together they share one of 256", low=1
    )
    members: int = static(5, "N", "spec gde 3", low=1)
    together: bool = static(False, "", "as one agent; fine-tuning turns it on")


class MemberDraws:
    """A run's random numbers, dealt out to its members: ``[R·N, ...]`` in place of ``[R, N, ...]``."""

    def __init__(self, draws: Draws, members: int) -> None:
        self.draws, self.members = draws, members

    def uniform(self, stream: str, *shape: int) -> Tensor:
        """As ``Draws.uniform``."""
        return self.draws.uniform(stream, self.members, *shape).flatten(0, 1)

    def normal(self, stream: str, *shape: int) -> Tensor:
        """As ``Draws.normal``."""
        return self.draws.normal(stream, self.members, *shape).flatten(0, 1)


class MomentMatchedPolicy(TanhGaussianPolicy):
    """One squashed Gaussian with the mean and the variance of the members' mixture, before tanh.

    Args:
        policy: the members', for ``R·N`` runs.
        members: N.
    """

    def __init__(self, policy: TanhGaussianPolicy, members: int) -> None:
        super().__init__(*policy.parts)
        self.members = members

    def gaussian(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log σ ``[R, B, A]`` for ``obs`` ``[R, B, D]``."""
        mean, log_std = super().gaussian(obs.repeat_interleave(self.members, 0))
        means, variances = (
            part.unflatten(0, (-1, self.members)) for part in (mean, (2 * log_std).exp())
        )
        mean = means.mean(1)
        # The mean of the variances and the variance of the means: no difference of large numbers.
        variance = variances.mean(1) + (means - mean[:, None]).square().mean(1)
        return mean, (0.5 * variance.log()).clamp(-20, 2)


class CQLEnsemble(ActorCritic):
    """A cohort of ensembles; arguments as for ``Agent``.

    Attributes:
        own: the members of all runs, ``R·N`` agents of CQL.

    Raises:
        UserError: the members can't have equally many rows of a minibatch.
    """

    Hyperparameters = CQLEnsembleHyperparameters
    version = 1
    carried = (*CQL.carried, "members")
    asks = ()
    fine_tuning: ClassVar[Mapping[str, Any]] = {
        "together": True,
        "batch_size": 256,
        "actor_lr": 3e-4,  # specs/ocr_cft.md 3, Off2On
        "alpha_lr": 3e-4,
    }

    def build(self, seeds: Sequence[int]) -> None:
        """As ``Agent.build``."""
        super().build(seeds)
        self.members = n = self.hyper.members
        share = 1 if self.hyper.together else n
        if self.hyper.batch_size % share:
            raise UserError(
                f"batch_size is shared out among {n} members: it must be a multiple of {n}; got "
                f"{self.hyper.batch_size}."
            )
        different = {"members", "together"}
        hypers = [
            {k: v for k, v in run.items() if k not in different}
            | {"batch_size": self.hyper.batch_size // share}
            for run in self.hypers
            for _ in range(n)
        ]
        self.own = CQL(
            self.task, hypers, [seed * n + i for seed in seeds for i in range(n)], self.device
        )
        self.policy = MomentMatchedPolicy(self.own.policy, n)

    def prepare(self, batch: Batch) -> Batch:
        """As ``CQL.prepare``."""
        batch = super().prepare(batch)
        return batch._replace(action=batch.action.clamp(-EDGE, EDGE))

    def optimisers(self) -> list[Adam]:
        """As ``Agent.optimisers``."""
        return self.own.optimisers()

    # --- update -----------------------------------------------------------------------------------
    def learn(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """One step of all members, apart or together; the metrics are their means."""
        metrics = (self._together if self.hyper.together else self._apart)(batch, draws)
        return {key: value.unflatten(0, (self.runs, -1)).mean(1) for key, value in metrics.items()}

    def _apart(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        rows = self.own.hyper.batch_size
        dealt = [x if x is None else x.reshape(-1, rows, *x.shape[2:]) for x in batch]
        return self.own.learn(Batch(*dealt), MemberDraws(draws, self.members))

    def _together(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        own, n = self.own, self.members
        noise = draws.normal("together", 2, self.hyper.batch_size, self.act_size)
        alpha = mean_per_run(own.log_alpha.values().detach().view(-1, n)).exp()[:, None]
        wide = Batch(*(x if x is None else x.repeat_interleave(n, 0) for x in batch))

        def values(critic: Any, obs: Tensor, action: Tensor, **kind: Any) -> Tensor:
            """``[R·N, B]`` of the same actions ``[R, B, A]``: the lesser twin's."""
            return own.q(critic, obs, action.repeat_interleave(n, 0), **kind).amin(1)

        with torch.no_grad():
            action, log_prob = tanh_normal_sample(
                *self.policy.gaussian(batch.next_obs), noise[:, 0]
            )
            soft = values(own.target_critic, wide.next_obs, action)
            soft = soft - (alpha * log_prob).repeat_interleave(n, 0)
            target = own.backup(wide, soft)
        critic_loss, metrics = own.critic_loss(wide, target)
        action, log_prob = tanh_normal_sample(*self.policy.gaussian(batch.obs), noise[:, 1])
        q = values(own.critic, wide.obs, action, frozen=True).unflatten(0, (-1, n)).mean(1)
        actor_loss = (alpha * log_prob - q).mean(-1)
        entropy = -mean_per_run(log_prob.detach())
        # Each of the N log α gets an N-th of the gradient, and Adam, blind to scale, moves all by its rate.
        alpha_loss = own.alpha_loss(entropy.repeat_interleave(n)) / n
        steps = [
            (own.actor_adam, own.actor_adam.gradient(actor_loss)),
            (own.critic_adam, own.critic_adam.gradient(critic_loss)),
            (own.alpha_adam, own.alpha_adam.gradient(alpha_loss)),
        ]
        for adam, gradient in steps:
            adam.apply(gradient)
        own.target_critic.follow(own.critic, self.hyper.target_rate)
        return metrics | {
            "actor_loss": actor_loss.detach(),
            "entropy": entropy,
            "alpha": alpha[:, 0],
        }

    # --- checkpoints: a run's members side by side ------------------------------------------------
    def state(self) -> dict[str, Tensor]:
        """As ``Agent.state``."""
        own = self.own.state().items()
        return {
            **super().state(),
            **{f"own.{key}": part.unflatten(0, (-1, self.members)) for key, part in own},
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """As ``Agent.load_state``."""
        super().load_state(state)
        own = {k.removeprefix("own."): v for k, v in state.items() if k.startswith("own.")}
        self.own.load_state({key: part.flatten(0, 1) for key, part in own.items()})
