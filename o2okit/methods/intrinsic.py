"""What the bonuses of QCSE's paper have in common: r + λ tanh(b) for the run's own rows of a minibatch.

The dataset's rows keep their rewards. Everything is decided per update: the replay holds rewards without
bonus, so that a bonus always comes from the agent as it is (specs/qcse.md 2).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from o2okit.data import Batch, Replay
from o2okit.hyper import per_run, static
from o2okit.methods.base import Naive
from o2okit.methods.neighbours import distinct, moments

NOTED = 50  # updates between metrics: each time they cost as much as a bonus


@dataclass(frozen=True)
class IntrinsicHyperparameters:
    """Defaults: specs/qcse.md 2."""

    weight: float = per_run(1.0, "λ", "spec 2")
    squash: bool = static(True, "", "spec 2: tanh; VCSE's code has none")
    every: int = static(1, "n", "spec 2, updates between bonuses; the others have none", low=1)
    reuse: bool = static(False, "", "spec 2: the others have a row's last bonus")
    start: int = static(1_000, "", "spec 2, our decision: own rows before the first bonus")


class Rows(NamedTuple):
    """Rows of the run's own, ``[R, N]``: the queries first, then what was drawn beside them.

    ``present``: whether a place holds a row that counts. ``first`` ``[R, Q]``: of each query the place whose
    row is itself, -1 where none is. Observations and actions are as the losses see them.
    """

    obs: Tensor
    action: Tensor
    present: Tensor
    first: Tensor


class Intrinsic(Naive):
    """Base class; arguments as for ``Naive``. A method adds ``bonus``.

    Attributes:
        queries, asked: of the update under way (``find_queries``).
    """

    Hyperparameters = IntrinsicHyperparameters
    # All but BC, to whom rewards mean nothing.
    backbones = ("td3+bc", "awac", "iql", "cql", "cal-ql", "sac", "td3")

    @classmethod
    def first_effect(cls, hyper: Mapping[str, Any]) -> int:
        """As ``Naive.first_effect``: the first bonus."""
        return hyper["start"]

    def attach(self, replay: Replay) -> None:
        """As ``Naive.attach``; with ``reuse`` each own row has its last bonus."""
        self.replay = replay
        shape = (self.runs, self.agent.hyper.batch_size)
        # Which rows the minibatch is, in a tensor that stays: a recorded update reads it.
        self.places = torch.zeros(shape, dtype=torch.long, device=self.device)
        self.everyone = torch.ones(shape, dtype=torch.bool, device=self.device)
        if self.hyper.reuse:
            self.last = torch.zeros(self.runs, replay.capacity, device=self.device)
            self.saved_tensors = ("last",)

    def observe(self, reward: Tensor, ended: Tensor) -> None:
        """The row that is written next has no bonus as yet."""
        if self.hyper.reuse:
            self.last[:, self.replay.next_row] = 0

    def sample(self, replay: Replay) -> Batch:
        """As ``Naive.sample``; remembers which rows they are."""
        u = self.draws.uniform("minibatch", self.agent.hyper.batch_size)
        self.places.copy_(replay.places(u))
        return replay.take(self.places)

    # --- the bonus --------------------------------------------------------------------------------
    def strength(self, batch: Batch) -> Tensor:
        """Tanh(b) ``[R, Q]``, or b."""
        raw = self.bonus(batch)
        self.note("bonus_raw", raw)
        return torch.tanh(raw) if self.hyper.squash else raw

    def bonus(self, batch: Batch) -> Tensor:
        """B ``[R, Q]`` of the queries."""
        raise TypeError(f"{type(self).__name__} defines no bonus")

    def weights(self) -> Tensor:
        """λ ``[R]``."""
        return self.hyper.weight

    def reward(self, batch: Batch) -> Tensor:
        """The reward ``[R, B]`` as it was earned; what the update needs to know is found out here.

        Where the work changes from one minibatch to the next and so can't be recorded, the bonus is added.
        """
        self.task_reward, self.log = batch.reward, {}
        self.started = self.replay.online >= self.hyper.start
        if self.started:
            self.find_queries()
        self.due = self.agent.updates % self.hyper.every == 0
        self.active = self.started and (self.due or self.hyper.reuse)
        reward = batch.reward
        if self.active and not self.steady:
            reward, self.log = self.with_bonus(batch)
        return reward

    def branch(self) -> Hashable:
        """As ``Changes.branch``."""
        return self.active and self.steady and (self.due, self.noting)

    def shape(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """As ``Changes.shape``: with the bonus, where ``reward`` has not added it."""
        return self.with_bonus(batch) if self.active and self.steady else (batch.reward, {})

    @torch.no_grad()
    def with_bonus(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The reward ``[R, B]`` with the bonus, and the metrics."""
        self.noted: dict[str, Tensor] = {}
        if self.due:
            bonus = self.strength(batch)
            if self.queries is not None:  # or all are asked
                bonus = torch.where(self.asked, bonus, 0.0)
            self.note("bonus", bonus)
            if self.hyper.reuse:
                self.remember(bonus)
        else:
            kept = self.last.gather(1, self.replay.own_index(self.of_queries(self.places)))
            bonus = torch.where(self.asked, kept, 0.0)
        return self.add(batch.reward, self.weights()[:, None] * bonus), self.noted

    @property
    def steady(self) -> bool:
        """Whether each update does the same work on tensors of the same shapes: the bonus is part of it.

        On a GPU it is not: nobody compared bonuses that are recorded with those that are not.
        """
        on_cpu = torch.device(self.device).type == "cpu"
        return on_cpu and self.queries is None and not self.beside()

    def beside(self) -> int:
        """How many rows are drawn beside the queries."""
        return 0

    def find_queries(self) -> None:
        """Which rows of the minibatch may be the run's own, ``[R, Q]``, and which of these are (``asked``).

        ``queries`` is ``None`` where they are the last Q of the minibatch.
        """
        size = self.places.shape[1]
        least, most = self.replay.own_rows(size)
        self.queries, self.first = None, size - most
        if least == most:
            self.asked = self.everyone[:, :most]
            return
        own = self.places >= self.replay.offline
        order = own.to(torch.int8).argsort(dim=1, descending=True, stable=True)
        self.queries = order[:, :most]
        self.asked = own.gather(1, self.queries)

    def of_queries(self, field: Tensor) -> Tensor:
        """The queries' part ``[R, Q, ...]`` of ``[R, B, ...]``."""
        if self.queries is None:
            return field[:, self.first :]
        index = self.queries if field.dim() == 2 else self.queries[..., None]
        return field.gather(1, index.expand(-1, -1, *field.shape[2:]))

    def add(self, reward: Tensor, bonus: Tensor) -> Tensor:
        """The rewards ``[R, B]`` with the queries' bonuses ``[R, Q]``."""
        if self.queries is None:
            return torch.cat([reward[:, : self.first], reward[:, self.first :] + bonus], dim=1)
        return reward.scatter_add(1, self.queries, bonus)

    def remember(self, bonus: Tensor) -> None:
        """Writes the queries' bonuses ``[R, Q]`` to their rows; copies of a row have the same.

        Places in the minibatch that hold no own row write beside the rows.
        """
        number = self.replay.own_index(self.of_queries(self.places))
        spare = torch.cat([self.last, self.last[:, :1]], dim=1)
        spare.scatter_(1, torch.where(self.asked, number, self.last.shape[1]), bonus)
        self.last.copy_(spare[:, :-1])

    @property
    def noting(self) -> bool:
        """Whether metrics are noted in this update."""
        return self.agent.updates % NOTED == 0

    def note(self, name: str, values: Tensor) -> None:
        """Mean and standard deviation of what the queries have, ``[R, Q]``, as metrics now and then."""
        if not self.noting:
            return
        mean, std = moments(values, self.asked)
        self.noted[f"{name}_mean"], self.noted[f"{name}_std"] = mean[:, 0], std[:, 0]

    def extra_updates(self, batch: Batch) -> dict[str, Tensor]:
        """No step of its own; the metrics."""
        return self.log

    # --- the reference set ------------------------------------------------------------------------
    def rows(self, batch: Batch, size: int, only_drawn: bool = False) -> Rows:
        """The queries, and own rows drawn beside them (``beside``) until there are ``size``.

        A row counts once, however often it was drawn.

        Args:
            batch: the minibatch.
            size: M; where there are more queries, they are the set.
            only_drawn: the set is ``size`` drawn rows, and the queries do not count among them.
        """
        more = self.beside()
        places, obs, action = map(self.of_queries, (self.places, batch.obs, batch.action))
        present = torch.zeros_like(self.asked) if only_drawn else self.asked
        if more:
            drawn = self.replay.online_places(self.draws.uniform("reference", size)[:, :more])
            extra = self.agent.prepare(self.replay.take(drawn))
            obs, action = torch.cat([obs, extra.obs], 1), torch.cat([action, extra.action], 1)
            room = size - present.sum(1, keepdim=True)
            fits = torch.arange(more, device=self.device) < room
            places, present = torch.cat([places, drawn], 1), torch.cat([present, fits], 1)
        present, first = distinct(places, present)
        return Rows(obs, action, present, first[:, : self.asked.shape[1]])
