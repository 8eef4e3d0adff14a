"""BpIQL: IQL that explores by a state-free behaviour prior (SFP; Bagatella et al., 2022).

    a_t ~ Λ(s_t) π̄(·|a_{t-1}) + (1 - Λ(s_t)) π(·|s_t)
    y = r + γ (1 - terminated) [Λ(s') min_j Q̄_j(s', ā) + (1 - Λ(s')) V(s')],   ā ~ π̄(·|a)
    L_Λ = -mean_B Λ(s') (min_j Q_j(s', ā) - min_j Q_j(s', a')),   ā ~ π̄(·|a), a' ~ π(·|s')

The prior π̄ is a flow that learns, before the first step, which action follows which in the dataset. Without
it (``mixing = 0``) this is IQL on its own transitions. The rest of IQL is unchanged: V and the actor learn
from the actions that were taken, whoever chose them.

Numbered departures from the GDE paper's B.6 and the authors' code of SFP (specs/gde.md 3):
    1. The value of the policy's share is V(s'), not Q at an action of the policy (spec, "ours").
    2. Λ is trained at s': the replay holds the action before s', not the one before s. So do the SFP authors.
    3. A terminal s' does not train Λ: nobody acts there.
    4. Λ's learning rate is IQL's. The factor of 1e-9 on its loss in the authors' defaults is left out.
    5. Λ is 0.95 in every state at first, as the last layer's weights are 0; the authors set its bias alone.
    6. The action before an episode's first is 0, in the prior's training too; the authors draw one from the
       dataset and leave first actions out.
    7. All of the dataset trains the prior, all epochs long: no validation, early stopping or weight decay.
    8. The flow is that of ``RealNVP``, with its departures; its networks see the condition as it is.
    9. What is evaluated is the policy's mean, without the prior, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from o2okit.data import Batch, Dataset
from o2okit.errors import UserError
from o2okit.hyper import per_run, static
from o2okit.methods.base import Naive
from o2okit.nn import Adam, RealNVP, StackedMLP
from o2okit.nn.distributions import logit, sigmoid
from o2okit.streams import Draws, generator


@dataclass(frozen=True)
class BpIQLHyperparameters:
    """Defaults: specs/gde.md 3."""

    mixing: float = per_run(0.95, "Λ", "spec 3, its start; 0: without prior", high=1)
    mixing_hidden: tuple[int, ...] = static((128, 128), "", "spec 3", low=1)
    mixing_lr: float = static(3e-4, "", "our decision, Adam; IQL's")
    blocks: int = static(6, "", "spec 3, of the flow", low=1)
    prior_hidden: tuple[int, ...] = static((128, 128), "", "spec 3; two layers: SFP's code", low=1)
    epochs: int = static(100, "", "spec 3; fewer for small profiles")
    prior_batch: int = static(400, "", "spec 3", low=1)
    prior_lr: float = static(1e-4, "", "spec 3, Adam")


def previous_actions(dataset: Dataset) -> np.ndarray:
    """The action before each of the dataset's ``[N, A]``; 0 before an episode's first."""
    previous = np.roll(dataset.actions, 1, axis=0)
    previous[[episode.start for episode in dataset.episodes()]] = 0
    return previous


class BpIQL(Naive):
    """IQL with a behaviour prior; arguments as for ``Naive``."""

    Hyperparameters = BpIQLHyperparameters
    version = 1
    replay = "online"
    backbones = ("iql",)
    needs_dataset = True
    saved_tensors = ("previous",)

    def build(self, seeds: Sequence[int]) -> None:
        """Prior, mixing network and the last action ``[R, A]`` of each run's episode."""
        self.seeds, size = tuple(seeds), self.task.act_size
        flow = {"blocks": self.hyper.blocks, "hidden": self.hyper.prior_hidden}
        self.prior = RealNVP(seeds, size, size, name="bp-iql/prior", device=self.device, **flow)
        self.mixing = StackedMLP(
            seeds,
            (self.task.obs_size, *self.hyper.mixing_hidden, 1),
            name="bp-iql/mixing",
            gains=(1.0, 0.0),
            device=self.device,
        )
        self.offset = logit(self.hyper.mixing)[:, None]
        self.adam = Adam([self.mixing], self.hyper.mixing_lr)
        self.previous = torch.zeros(self.runs, size, device=self.device)

    # --- the prior --------------------------------------------------------------------------------
    def prepare(self, dataset: Dataset | None) -> None:
        """Trains the prior by maximum likelihood, each run in an order of its own.

        Raises ``UserError`` without a dataset.
        """
        if dataset is None:
            raise UserError(
                "bp-iql trains its prior on the actions of a dataset, but none was given: pass the one that "
                "the agent was pre-trained on (RunSpec: dataset=...)."
            )
        action, previous = (
            torch.as_tensor(values, dtype=torch.float32, device=self.device)
            for values in (dataset.actions, previous_actions(dataset))
        )
        adam = Adam(self.prior.parts, self.hyper.prior_lr)
        for epoch in range(self.hyper.epochs):
            orders = [
                generator(seed, "bp-iql/order", epoch).permutation(len(dataset))
                for seed in self.seeds
            ]
            order = torch.from_numpy(np.stack(orders)).to(self.device)
            for rows in order.split(self.hyper.prior_batch, dim=1):
                adam.step(-self.prior.log_prob(action[rows], previous[rows]).mean(-1))

    # --- acting -----------------------------------------------------------------------------------
    def weight(self, obs: Tensor) -> Tensor:
        """Λ(s) ``[R, B]`` of standardised ``obs`` ``[R, B, D]``."""
        return sigmoid(self.mixing(obs)[..., 0] + self.offset)

    @torch.no_grad()
    def act(self, obs: Tensor, draws: Draws) -> Tensor:
        """A sample of the prior with probability Λ(s), else the backbone's action."""
        own = self.agent.act(obs, draws)
        noise = draws.normal("bp-iql/act", 1, self.task.act_size)
        prior = self.prior.sample(noise, self.previous[:, None])[:, 0]
        chosen = draws.uniform("bp-iql/choice") < self.weight(self.agent.view(obs[:, None]))[:, 0]
        action = torch.where(chosen[:, None], prior, own)
        self.previous.copy_(action.nan_to_num())  # as the training loop sends it
        return action

    def observe(self, reward: Tensor, ended: Tensor) -> None:
        """No action precedes the first of the next episode."""
        self.previous.masked_fill_((ended | self.cuts())[:, None], 0)

    # --- updates ----------------------------------------------------------------------------------
    def following(self, batch: Batch, use: str) -> Tensor:
        """Samples ā ``[R, B, A]`` of the prior for the step after each transition; ``use`` names the draw."""
        return self.prior.sample(self.draws.normal(use, *batch.action.shape[1:]), batch.action)

    @torch.no_grad()
    def target(self, batch: Batch, own: Callable[[], Tensor]) -> Tensor:
        """The backup ``[R, B]`` of the mixture's value."""
        agent, obs, weight = self.agent, batch.next_obs, self.weight(batch.next_obs)
        q = agent.q(agent.target_critic, obs, self.following(batch, "bp-iql/target")).amin(1)
        return agent.backup(batch, weight * q + (1 - weight) * agent.v(obs))

    def mixing_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """L_Λ ``[R]`` and its metrics ``[R]``; the gradient goes to Λ alone."""
        agent, obs, weight = self.agent, batch.next_obs, self.weight(batch.next_obs)
        with torch.no_grad():
            noise = self.draws.normal("bp-iql/policy", *batch.action.shape[1:])
            actions = self.following(batch, "bp-iql/mixing"), agent.policy.sample(obs, noise)
            prior, own = (agent.q(agent.critic, obs, action).amin(1) for action in actions)
            gain = (1 - batch.terminated) * (prior - own)
        metrics = {"mixing": weight.detach().mean(-1), "prior_gain": gain.mean(-1)}
        return -(weight * gain).mean(-1), metrics

    def extra_updates(self, batch: Batch) -> dict[str, Tensor]:
        """One step of Λ."""
        loss, metrics = self.mixing_loss(batch)
        self.adam.step(loss)
        return metrics
