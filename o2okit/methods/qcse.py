"""QCSE (Zhang et al.): a bonus for states that are rare among those whose actions are worth as much.

    r ← r + λ tanh(b),   b = ψ(n + 1) / d_s + log(2 ε + 1e-5)      (ε, n: ``o2okit.methods.neighbours``)

A row's condition is min_j Q_j(s, a); the reference set are the run's own rows of the minibatch and so many
more that there are M, of which copies do not count. The dataset's rows keep their rewards, and no gradient
flows through the bonus.

Numbered departures from the paper, each with a switch (specs/qcse.md 2 has the reasons):
    1. The reference set is not the whole buffer (``reference="buffer"``: M rows drawn from it). Rows are
       drawn with replacement, and one drawn twice counts once: of 128 draws some 120 count among 1,000 own
       rows, 126 among 5,000. Where fewer than k count, ε is the distance to the farthest.
    2. ε is the k-th smallest joint distance (``joint=False``: the larger of two k-th ones, Eq. 3's prose).
       A row counts neither as its own neighbour (``self_inclusive``) nor in n (``count_self``).
    3. Q is standardised over the reference set and states are divided by d_s (``q_norm``, ``s_norm``): raw,
       the bonus is nearly the constant λ (saturation warning there).
    4. The condition is the agent's own Q, bonus included. Critics that learn the task's reward alone
       (``cond_net="extrinsic"``, from the pre-trained ones; ``"random"``, from nothing) do so by the error of
       their prediction, whatever the backbone adds to its own (CQL's penalty).

``VCSE_CODE`` is what VCSE's released code has in these places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from o2okit.data import Batch, Dataset
from o2okit.hyper import choice, static
from o2okit.methods.intrinsic import Rows
from o2okit.methods.neighbours import conditional_bonus, neighbours, standardised
from o2okit.methods.state_entropy import SE, NeighbourHyperparameters
from o2okit.nn import Adam

VCSE_CODE = {"self_inclusive": True, "count_self": True, "q_norm": True, "s_norm": "dimensions"}
OWN = ("extrinsic", "random", "frozen")  # conditions by a critic that the agent does not have


@dataclass(frozen=True)
class QCSEHyperparameters(NeighbourHyperparameters):
    """Defaults: specs/qcse.md 2."""

    joint: bool = static(True, "", "spec 2")
    self_inclusive: bool = static(False, "", "spec 2")
    count_self: bool = static(False, "", "spec 2")
    q_norm: bool = static(True, "", "spec 2: LayerNorm over the reference set")
    cond_action: str = choice("stored", "policy", source="spec 2: the action whose Q it is")
    # Departure 4; frozen: critics from nothing that never learn.
    cond_net: str = choice("online", "target", *OWN, source="spec 2: whose Q it is")


class QCSE(SE):
    """Q conditioned state entropy; arguments as for ``Naive``."""

    Hyperparameters = QCSEHyperparameters

    def build(self, seeds: Sequence[int]) -> None:
        """As ``SE.build``; critics of its own where the condition asks for them."""
        super().build(seeds)
        if self.hyper.cond_net in OWN:
            self.critic = self.agent.new_critic(seeds, "condition")
            self.target_critic = self.critic.copy()
            self.adam = Adam([self.critic], self.agent.hyper.critic_lr)

    def prepare(self, dataset: Dataset | None) -> None:
        """``extrinsic`` begins as the pre-trained critics."""
        if self.hyper.cond_net == "extrinsic":
            self.critic.copy_from(self.agent.critic)
            self.target_critic.copy_from(self.agent.target_critic)

    # --- the bonus --------------------------------------------------------------------------------
    def condition(self, rows: Rows, batch: Batch) -> Tensor:
        """The condition ``[R, N]`` of the reference set."""
        agent = self.agent
        if self.hyper.cond_action == "policy":
            rows = rows._replace(action=agent.policy.mode(rows.obs))
        elif self.steady and self.hyper.cond_net == "online" and "critic_loss" in agent.asks:
            return self.of_queries(agent.taken_q(batch).detach().amin(1))  # evaluated anyway
        return self.value(rows)

    def value(self, rows: Rows) -> Tensor:
        """min_j Q_j ``[R, N]`` of some rows, by the critics of ``cond_net``."""
        agent, kind = self.agent, self.hyper.cond_net
        critics = {"online": agent.critic, "target": agent.target_critic}
        critic = self.critic if kind in OWN else critics[kind]
        return agent.q(critic, rows.obs, rows.action).amin(1)

    def bonus(self, batch: Batch) -> Tensor:
        """As ``Intrinsic.bonus``."""
        h, rows = self.hyper, self.look(batch)
        value = self.condition(rows, batch)
        if h.q_norm:
            value = standardised(value, rows.present)
        states, unit = self.scaled(rows)
        found = neighbours(
            *(states, value, rows.present, rows.first, self.up_to),
            unit=unit,
            joint=h.joint,
            self_inclusive=h.self_inclusive,
        )
        if self.noting:
            self.note("by_condition", found.by_condition.float())
        return conditional_bonus(found, self.task.obs_size, count_self=h.count_self)

    # --- critics of its own -----------------------------------------------------------------------
    def extra_updates(self, batch: Batch) -> dict[str, Tensor]:
        """A step of the method's own critics on the task's reward; the metrics."""
        if self.hyper.cond_net in ("extrinsic", "random"):
            agent, size = self.agent, (self.agent.hyper.batch_size, self.task.act_size)
            with torch.no_grad():
                action = agent.policy.sample(batch.next_obs, self.draws.normal("condition", *size))
                following = agent.q(self.target_critic, batch.next_obs, action).amin(1)
                target = agent.backup(batch._replace(reward=self.task_reward), following)
            q = agent.q(self.critic, batch.obs, batch.action)
            self.adam.step((q - target[:, None]).square().mean(-1).sum(-1))
            self.target_critic.follow(self.critic, agent.hyper.target_rate)
        return super().extra_updates(batch)
