"""What minibatches are drawn from: a dataset shared by the cohort and each run's own transitions."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from o2okit.data.dataset import Dataset
from o2okit.data.frames import Frames
from o2okit.data.priorities import Priorities
from o2okit.errors import UserError, unknown
from o2okit.tasks import Task

REPLAYS = ("offline", "online", "mixed", "half")


class Batch(NamedTuple):
    """A minibatch per run: ``[R, B]``, observations and actions with their own trailing sizes.

    ``terminated`` is 1.0 where no value follows; a time-out is not a termination. ``mc_return`` is the
    discounted return to go of the transition's episode, -inf where it is not known. With n-step sums
    ``reward`` is the discounted sum of ``steps`` rewards, and what follows is what follows the last.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor
    mc_return: Tensor | None = None  # where the replay holds it
    steps: Tensor | None = None  # None: one


def _sizes(task: Task, with_returns: bool) -> tuple[int, ...]:
    """Columns of a row: obs, action, reward, next_obs, terminated, maybe the return."""
    obs, action = (1, 1) if task.discrete else (task.obs_size, task.act_size)
    return (obs, action, 1, obs, 1) + ((1,) if with_returns else ())


def split_rows(rows: Tensor, task: Task, *, returns: bool) -> Batch:
    """The fields of stored rows ``[..., width]``; indices, and numbers of images, come back as integers."""
    obs, action, reward, next_obs, terminated, *rest = rows.split(_sizes(task, returns), dim=-1)
    if task.discrete:
        obs, action, next_obs = (x[..., 0].long() for x in (obs, action, next_obs))
    mc_return = rest[0][..., 0] if rest else None
    return Batch(obs, action, reward[..., 0], next_obs, terminated[..., 0], mc_return)


class Replay:
    """Storage of a cohort.

    One row holds a transition, one tensor all rows: the dataset once, followed by ``capacity`` rows per
    run. A draw from the union is a single gather.

    Attributes:
        priorities: of the rows, where ``prioritise`` was called.
        frames: of a game: the images that its rows' observations number.

    Args:
        kind: ``offline`` draws from the dataset, ``online`` from the run's own transitions, ``mixed``
            uniformly from both together, ``half`` one half of the batch from each.
        task: sizes of observations and actions.
        dataset: may be ``None`` for ``online``.
        runs: ``R``.
        capacity: online transitions per run; the oldest are overwritten.
        returns: Monte-Carlo returns ``[N]`` of the dataset's rows; minibatches have them then.
        n_step: rewards that a transition sums up at most; no sum crosses the end of an episode.
        discount: of these sums, ``[R]``.
    """

    def __init__(
        self,
        kind: str,
        task: Task,
        dataset: Dataset | None,
        *,
        runs: int,
        capacity: int,
        returns: Tensor | None = None,
        n_step: int = 1,
        discount: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if kind not in REPLAYS:
            raise unknown("replay", kind, REPLAYS)
        if dataset is None and kind != "online":
            raise UserError(f"replay {kind!r} draws from a dataset, but none was given.")
        self.kind = kind
        self.priorities: Priorities | None = None
        self.runs, self.capacity, self.device = runs, capacity, device
        self.offline = 0 if dataset is None or kind == "online" else len(dataset)
        self.online, self._next = 0, 0  # rows filled per run, and the row to be written
        self.task, self._sizes = task, _sizes(task, returns is not None)
        # float32 holds the numbers of the toy maze's cells exactly, too.
        self.rows = torch.zeros(self.offline + runs * capacity, sum(self._sizes), device=device)
        if self.offline:
            columns = (
                dataset.observations,
                dataset.actions,
                dataset.rewards,
                dataset.next_observations,
                dataset.terminals,
                returns,
            )
            parts = self.rows[: self.offline].split(self._sizes, dim=1)
            for storage, column in zip(parts, columns, strict=False):
                storage.copy_(torch.as_tensor(column).view(storage.shape))
        self._base = self.offline + torch.arange(runs, device=device) * capacity
        self.frames: Frames | None = None
        if task.image:
            images = dataset.frames if self.offline else None
            self.frames = Frames(task.image, images, runs=runs, capacity=capacity, device=device)
        self.n_step, self.discount = n_step, discount
        if n_step > 1:
            self.ends = torch.zeros(len(self.rows), dtype=torch.bool, device=device)
            if self.offline:
                ends = dataset.terminals | dataset.timeouts
                self.ends[: self.offline] = torch.from_numpy(ends).to(device)
                self.ends[self.offline - 1] = True

    def __len__(self) -> int:
        """Rows that a run can draw from."""
        return self.offline + self.online

    def prioritise(self) -> Priorities:
        """Gives each row a priority, before any is stored or restored; new rows get theirs by themselves.

        Raises ``UserError`` for ``half``: its halves would not be drawn by their priorities' sum.
        """
        if self.kind == "half":
            raise UserError(
                "replay 'half' fixes the share of each run's own rows, which a method with priorities "
                "leaves to them. Allowed: mixed, online."
            )
        self.priorities = Priorities(self.runs, self.offline, self.capacity, self.device)
        return self.priorities

    @property
    def next_row(self) -> int:
        """Which of a run's own rows, counted from 0, the next transition is written to."""
        return self._next

    def own_index(self, places: Tensor) -> Tensor:
        """Which of a run's own rows, counted from 0, stand at ``places`` ``[R, B]``; the dataset's are 0."""
        return (places - self._base[:, None]).clamp(min=0)

    def add(self, transition: Batch, ended: Tensor | None = None) -> None:
        """Stores one transition per run.

        Args:
            transition: fields ``[R]`` or ``[R, size]``, together on any device.
            ended: whether it is its episode's last, ``[R]``; n-step sums and images need it.
        """
        if self.frames is not None:
            transition = Batch(*(value.to(self.device) for value in transition[:5]))
            ended = ended.to(self.device)
            obs, following = self.frames.push(transition.obs, transition.next_obs, ended)
            transition = transition._replace(obs=obs, next_obs=following)
        fields = [value.to(torch.float32).view(self.runs, -1) for value in transition[:5]]
        if len(self._sizes) > 5:  # unknown until the episode ends
            fields.append(fields[0].new_full((self.runs, 1), -torch.inf))
        places = self._base + self._next
        self.rows[places] = torch.cat(fields, dim=1).to(self.device)
        if self.n_step > 1:
            self.ends[places] = ended.to(self.device)
        if self.priorities is not None:
            self.priorities.add(places)
        self._next = (self._next + 1) % self.capacity
        self.online = min(self.online + 1, self.capacity)

    def episode_rows(self, run: int, length: int) -> Tensor:
        """The rows of the last ``length`` transitions of a run, oldest first, as far as they are held."""
        places = torch.arange(self._next - min(length, self.online), self._next, device=self.device)
        return self._base[run] + places % self.capacity

    def rewards(self, rows: Tensor) -> Tensor:
        """Rewards of given rows, in their shape."""
        return self.rows[rows, sum(self._sizes[:2])]

    def set_returns(self, rows: Tensor, returns: Tensor) -> None:
        """Writes the Monte-Carlo returns ``[n]`` of given rows, once they are known."""
        self.rows[rows, -1] = returns.to(self.rows)

    def sample(self, u: Tensor) -> Batch:
        """Transitions drawn uniformly by ``u`` ``[R, B]`` in [0, 1)."""
        return self.take(self.places(u))

    def places(self, u: Tensor) -> Tensor:
        """The rows ``[R, B]`` that ``u`` ``[R, B]`` in [0, 1) draws uniformly."""
        shift = (self._base - self.offline)[:, None]
        if self.kind == "half":
            offline, online = u.tensor_split(2, dim=1)
            return torch.cat([self.offline_places(offline), self.online_places(online)], dim=1)
        if self.offline:
            index = (u * (self.offline if self.kind == "offline" else len(self))).long()
            return torch.where(index < self.offline, index, index + shift)
        return (u * len(self)).long() + shift

    def offline_places(self, u: Tensor) -> Tensor:
        """As ``places``, of the dataset's rows alone."""
        return (u * self.offline).long()

    def online_places(self, u: Tensor) -> Tensor:
        """As ``places``, of the run's own rows alone."""
        return (u * self.online).long() + self._base[:, None]

    def newest_places(self, u: Tensor, most: int) -> Tensor:
        """As ``places``, of the run's newest rows, ``most`` at most."""
        age = (u * min(most, self.online)).long()
        return (self._next - 1 - age) % self.capacity + self._base[:, None]

    def own_rows(self, n: int) -> tuple[int, int]:
        """How many of ``n`` drawn rows are the run's own: at least, at most.

        Where that is certain they are the last. ``mixed`` leaves it to chance: six standard deviations about
        the mean. More of them are drawn in one minibatch of a hundred thousand at most, where less than one
        is expected of four in ten thousand; these have no bonus then.
        """
        if self.kind == "mixed":
            share = self.online / max(len(self), 1)
            spread = 6 * math.sqrt(n * share * (1 - share))
            return max(int(n * share - spread), 0), min(math.ceil(n * share + spread), n)
        own = {"offline": 0, "online": n, "half": n // 2}[self.kind]
        return own, own

    def take(self, places: Tensor) -> Batch:
        """The transitions at given rows ``[R, B]``, n-step sums where the replay is for them."""
        batch = self._split(places)
        if self.n_step == 1:
            return batch
        last, reward, steps = self._sum(places)
        final = self._split(last)
        return batch._replace(
            reward=reward, next_obs=final.next_obs, terminated=final.terminated, steps=steps
        )

    def _split(self, places: Tensor) -> Batch:
        rows = self.rows.index_select(0, places.flatten()).view(*places.shape, -1)
        batch = split_rows(rows, self.task, returns=len(self._sizes) > 5)
        if self.frames is None:
            return batch
        own = places >= self.offline
        obs, following = (self.frames.stacks(each, own) for each in (batch.obs, batch.next_obs))
        return batch._replace(obs=obs, next_obs=following)

    def _sum(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(last row, discounted sum of rewards, number of them) ``[R, B]`` (specs/gde.md 2.4).

        A run's newest row ends its sum, too: what is stored behind it is its oldest. Where the task's
        rewards are learnt clipped, each is.
        """
        limit = self.task.reward_clip or math.inf
        base, discount = self._base[:, None], self.discount[:, None]
        newest = base + (self._next - 1) % max(self.capacity, 1)
        last, reward = places, self.rewards(places).clamp(-limit, limit)
        steps, going = torch.ones_like(reward), torch.ones_like(places, dtype=torch.bool)
        factor = torch.ones_like(discount)
        for _ in range(self.n_step - 1):
            going = going & ~self.ends[last] & (last != newest)
            following = base + (last - base + 1) % max(self.capacity, 1)
            following = torch.where(last < self.offline, last + 1, following)
            last = torch.where(going, following, last)
            factor = factor * discount
            reward = reward + going * factor * self.rewards(last).clamp(-limit, limit)
            steps = steps + going
        return last, reward, steps

    # --- checkpoints ------------------------------------------------------------------------------
    def state(self) -> dict[str, Tensor]:
        """The online rows ``[R, n, width]`` and where the next one goes ``[R]``.

        With n-step sums, which rows end episodes ``[R, n]``; with priorities, those of all stored rows;
        of a game its images.
        """
        state = {
            "rows": self._own(self.rows)[:, : self.online],
            "next": torch.full((self.runs,), self._next),
        }
        if self.n_step > 1:
            state["ends"] = self._own(self.ends)[:, : self.online]
        if self.priorities is not None:
            kept = self.priorities.state(len(self))
            state |= {f"priorities.{key}": value for key, value in kept.items()}
        if self.frames is not None:
            state |= {f"frames.{key}": value for key, value in self.frames.state().items()}
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes over what ``state`` returned."""
        self.online, self._next = state["rows"].shape[1], int(state["next"][0])
        self._own(self.rows)[:, : self.online] = state["rows"].to(self.device)
        if self.n_step > 1:
            self._own(self.ends)[:, : self.online] = state["ends"].to(self.device)
        if self.priorities is not None:
            self.priorities.load_state(
                {key: state[f"priorities.{key}"] for key in ("values", "fresh")}
            )
        if self.frames is not None:
            self.frames.load_state(
                {key: state[f"frames.{key}"] for key in ("images", "pushed", "age")}
            )

    def _own(self, stored: Tensor) -> Tensor:
        """The runs' part of what is stored for every row, ``[R, capacity, ...]``."""
        return stored[self.offline :].view(self.runs, self.capacity, *stored.shape[1:])
