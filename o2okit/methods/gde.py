"""GDE (Guided Decoupled Exploration): one policy explores, one exploits what it finds, a third guides.

    L_β = mean_B ( -min_j Q_j(s, μ_β(s)) + ρ_t KL(π_t(·|s) ‖ π_β(·|s)) ),   ρ_t = ρ max(0, 1 - t/T)   (Eq. 5)

Exploitation π_e is the backbone's actor with the backbone's loss, and what is reported. Exploration π_β
acts, with a loss and an optimiser of its own. The teacher π_t is the exploitation policy that scored
best. Stages alternate: in L steps π_e acts and is scored, and nothing learns; in the next F steps π_β acts
and everything learns. Both count, and all transitions go into the buffer.

Numbered departures from the paper (specs/gde.md 2, "ours"):
    1. The first stage is a scoring one: it fills the empty buffer and gives the teacher its score.
    2. A stage's score is the sum of its raw rewards; ``finished_episodes`` takes their mean return instead.
    3. The divergence is KL(teacher ‖ exploration); ``reverse`` turns it round.
    4. With a budget below the paper's, F and L are at most 10 % and 8 % of it: with T = 25,000 these are
       2,500 and 2,000 steps, and about half of the steps carry updates, not a third. A tenth of each
       would score the teacher on less than one episode.
    5. w/o exploit (``exploit=False``): π_e goes on in the targets of those critics that need a policy.
    6. Nothing ever learns while a stage scores: the specification's option ``eval_updates`` is not built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from o2okit.backbones.base import Loss
from o2okit.data import Batch, Dataset
from o2okit.hyper import per_run, static
from o2okit.methods.base import Naive
from o2okit.nn import Adam
from o2okit.streams import Draws
from o2okit.tasks import Task


@dataclass(frozen=True)
class StageHyperparameters:
    """What every form of GDE has. Defaults: specs/gde.md 2.4, locomotion."""

    rho: float = per_run(0.3, "ρ", "spec 2.4; 0: without teacher")
    fine_tune_steps: int = static(2_500, "F", "spec 2.4; 25,000 AntMaze", low=1)
    scoring_steps: int = static(5_000, "L", "spec 2.4", low=1)
    total_steps: int = static(250_000, "T", "spec 2.4, where ρ has fallen to 0", low=1)
    n: int = static(1, "n", "spec 2.4; 3 AntMaze", low=1)
    reverse: bool = static(False, "", "spec 2.2")
    finished_episodes: bool = static(False, "", "spec 2.3, 4")
    exploit: bool = static(True, "", "spec 2.6: w/o exploit")
    explore: bool = static(True, "", "spec 2.6: w/o explore")


@dataclass(frozen=True)
class GDEHyperparameters(StageHyperparameters):
    """Those, and the rate of the exploring policy, which has a loss of its own."""

    lr: float = static(3e-4, "", "spec 2.4, Adam of π_β")


class GDE(Naive):
    """Guided Decoupled Exploration; arguments as for ``Naive``."""

    Hyperparameters = GDEHyperparameters
    replay = "online"
    backbones = ("iql", "td3+bc", "cql", "cal-ql")
    saved_tensors = ("best", "tally")
    unbounded = ("teacher_score",)  # -inf until an episode is finished in a scoring stage

    @classmethod
    def settings(cls, task: Task, online_steps: int) -> dict[str, Any]:
        """ρ falls over the whole fine-tuning; AntMaze has long stages and 3-step sums (departure 4)."""
        antmaze = task.family == "antmaze"
        return {
            "total_steps": online_steps,
            "fine_tune_steps": max(1, min(25_000 if antmaze else 2_500, online_steps // 10)),
            "scoring_steps": max(1, min(5_000, online_steps * 2 // 25)),
            "n": 3 if antmaze else 1,
        }

    @classmethod
    def first_update(cls, hyper: Mapping[str, Any]) -> int:
        """As ``Naive.first_update``: after the first scoring stage."""
        return hyper["scoring_steps"]

    def build(self, seeds: Sequence[int]) -> None:
        """Exploration policy and teacher beside the agent's own policy, and the scores ``[R]``."""
        self.behaviour = self.agent.policy.copy(trainable=True)
        self.teacher = self.agent.policy.copy()
        self.adam = Adam(self.behaviour.parts, self.learning_rate())
        self.best = torch.full((self.runs,), -torch.inf, dtype=torch.float64, device=self.device)
        # Of a scoring stage: its rewards, those of the episode under way, those of finished episodes, and
        # how many there are.
        self.tally = torch.zeros(self.runs, 4, dtype=torch.float64, device=self.device)
        self.rho = torch.zeros(self.runs, device=self.device)  # at this step

    def learning_rate(self) -> float:
        """Of the exploring policy."""
        return self.hyper.lr

    def prepare(self, dataset: Dataset | None) -> None:
        """All three start as the offline policy."""
        for policy in (self.behaviour, self.teacher):
            policy.copy_from(self.agent.policy)

    @property
    def n_step(self) -> int:
        """As ``Naive.n_step``."""
        return self.hyper.n

    @property
    def reported(self) -> Any:
        """The policy that is scored and evaluated."""
        return self.agent.policy if self.hyper.exploit else self.behaviour

    # --- stages -----------------------------------------------------------------------------------
    def _stage(self, step: int) -> int:
        """Steps since the last scoring stage began."""
        return step % (self.hyper.scoring_steps + self.hyper.fine_tune_steps)

    def learns(self) -> bool:
        """In the fine-tuning stages."""
        return self._stage(self.step) >= self.hyper.scoring_steps

    def cuts(self) -> bool:
        """At every border of stages."""
        return self._stage(self.step + 1) in (0, self.hyper.scoring_steps)

    @torch.no_grad()
    def act(self, obs: Tensor, draws: Draws) -> Tensor:
        """The reported policy's mean while it is scored, else a sample of the exploring one."""
        if not self.learns():
            return self.reported.mode(self.agent.view(obs[:, None]))[:, 0]
        return self.agent.act(
            obs, draws, self.behaviour if self.hyper.explore else self.agent.policy
        )

    def observe(self, reward: Tensor, ended: Tensor) -> None:
        """Adds up the score; at the end of its stage the teacher may be replaced, run by run."""
        self.rho.copy_(self.hyper.rho * max(0.0, 1 - self.step / self.hyper.total_steps))
        if self.learns():
            return
        total, running, finished, episodes = self.tally.unbind(1)
        total += reward
        running += reward
        finished += running * ended
        running *= ~ended
        episodes += ended
        if self.cuts():
            score = finished / episodes if self.hyper.finished_episodes else total
            better = score > self.best
            self.teacher.copy_from(self.reported, better)
            self.best.copy_(torch.where(better, score, self.best))
            self.tally.zero_()

    @torch.no_grad()
    def greedy(self, obs: Tensor, draws: Draws) -> Tensor:
        """The reported policy's mean."""
        return self.reported.mode(self.agent.view(obs))

    # --- updates ----------------------------------------------------------------------------------
    def guidance(self, policy: Any, obs: Tensor) -> Tensor:
        """ρ_t KL ``[R, B]`` between the teacher and ``policy``."""
        first, second = (self.teacher, policy)[:: -1 if self.hyper.reverse else 1]
        return self.rho[:, None] * first.kl(second, obs)

    def actor_loss(self, batch: Batch, own: Loss) -> tuple[Tensor, dict[str, Tensor]]:
        """The backbone's; without an exploring policy the exploiting one is guided."""
        loss, metrics = own()
        if not self.hyper.explore:
            loss = loss + self.guidance(self.agent.policy, batch.obs).mean(-1)
        return loss, metrics

    def exploration_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """L_β ``[R]`` and its metrics ``[R]``; the gradient goes to the exploring policy alone."""
        action = self.behaviour.mode(batch.obs)
        q = self.agent.q(self.agent.critic, batch.obs, action, frozen=True).amin(1)
        guidance = self.guidance(self.behaviour, batch.obs)
        metrics = {"explore_q": q.detach().mean(-1), "guidance": guidance.detach().mean(-1)}
        return (guidance - q).mean(-1), metrics

    def extra_updates(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the exploring policy."""
        if not self.hyper.explore:
            return {}
        loss, metrics = self.exploration_loss(batch)
        self.adam.step(loss)
        return metrics | {"teacher_score": self.best.float()}
