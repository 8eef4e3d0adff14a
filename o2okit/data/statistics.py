"""What a dataset is like, beside what is published of D4RL's."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources

import numpy as np
import pandas as pd

from o2okit import tasks
from o2okit.data.rows import Rows
from o2okit.errors import UserError

QUANTITIES = ("transitions", "return_mean", "return_std", "return_min", "return_max")


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of the rows of a file.

    Attributes:
        task: its name.
        transitions, terminals, timeouts: rows, and how many carry the flag.
        returns, lengths: ``[E]`` of the finished episodes; of the unfinished one if it is the only.
        unfinished: rows at the end that belong to no finished episode.
        state_mean, state_std: ``[obs]``.
        reward_min, reward_max: of single steps.
    """

    task: str
    transitions: int
    terminals: int
    timeouts: int
    returns: np.ndarray
    lengths: np.ndarray
    unfinished: int
    state_mean: np.ndarray
    state_std: np.ndarray
    reward_min: float
    reward_max: float

    @property
    def episodes(self) -> int:
        """How many episodes the returns are of."""
        return len(self.returns)

    def value(self, quantity: str) -> float:
        """One of ``QUANTITIES``."""
        if quantity == "transitions":
            return float(self.transitions)
        return float(getattr(self.returns, quantity.removeprefix("return_"))())

    def score(self) -> float | None:
        """The normalised score of the mean return; ``None`` of success rates, and of segments' returns."""
        task = tasks.task(self.task)
        if task.reference is None or task.sparse:
            return None
        return float(tasks.normalised_score(self.task, self.returns.mean()))


def describe(rows: Rows, task: str) -> Statistics:
    """Counts and moments of a file's rows; rows that D4RL's reader leaves out are counted.

    Returns are sums over whole episodes, as in the published figures. In AntMaze an episode ends at
    each terminal row, so its returns are those of segments (specs/tasks.md 5).
    """
    episodes = rows.episodes()
    last = episodes[-1]
    open_end = not (rows.terminals[-1] or rows.timeouts[-1])
    finished = episodes[:-1] if open_end and len(episodes) > 1 else episodes
    sums = np.add.reduceat(rows.rewards.astype(np.float64), [rows.start for rows in episodes])
    return Statistics(
        task=task,
        transitions=len(rows),
        terminals=int(rows.terminals.sum()),
        timeouts=int(rows.timeouts.sum()),
        returns=sums[: len(finished)],
        lengths=np.array([episode.stop - episode.start for episode in finished]),
        unfinished=last.stop - last.start if open_end else 0,
        state_mean=rows.observations.mean(axis=0, dtype=np.float64),
        state_std=rows.observations.std(axis=0, dtype=np.float64),
        reward_min=float(rows.rewards.min()),
        reward_max=float(rows.rewards.max()),
    )


# --- beside the published values ------------------------------------------------------------------
@functools.cache
def published() -> pd.DataFrame:
    """``papers/published/d4rl_datasets.csv``: task, quantity, index, value, source."""
    path = resources.files("o2okit").joinpath("papers", "published", "d4rl_datasets.csv")
    with path.open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype={"index": "Int64"})


def compare(found: Statistics) -> pd.DataFrame:
    """One row per quantity: ``measured``, ``published`` (NaN where nothing is), ``difference``.

    The score of the mean return stands below, with that of the published mean.
    """
    values = {name: found.value(name) for name in QUANTITIES}
    theirs = published_values(found.task)
    printed = {name: theirs.get(name, np.nan) for name in QUANTITIES}
    score = found.score()
    if score is not None:
        values["score"] = score
        printed["score"] = float(tasks.normalised_score(found.task, printed["return_mean"]))
    table = pd.DataFrame({"measured": values, "published": printed})
    table["difference"] = table["measured"] - table["published"]
    return table


def published_values(task: str) -> dict[str, float]:
    """Those of ``QUANTITIES`` that are published of the task's dataset."""
    table = published()
    mine = table[(table["task"] == task) & table["index"].isna()]
    return dict(zip(mine["quantity"], mine["value"], strict=True))


@dataclass(frozen=True, eq=False)
class StateDistance:
    """How far the distribution of states lies from the published one, ``[obs]`` each.

    Attributes:
        shift: ``|mean - published mean|`` in published standard deviations.
        ratio: standard deviation over the published one; 1 is equal.
    """

    shift: np.ndarray
    ratio: np.ndarray

    @property
    def mean_shift(self) -> float:
        """Over the dimensions."""
        return float(self.shift.mean())

    @property
    def largest_shift(self) -> tuple[int, float]:
        """The dimension, and its shift."""
        worst = int(self.shift.argmax())
        return worst, float(self.shift[worst])

    @property
    def frechet(self) -> float:
        """Fréchet (2-Wasserstein) distance of two diagonal Gaussians in published deviations.

        Per dimension it is ``shift² + (ratio - 1)²`` (Dowson and Landau, 1982); the root of the mean
        over the dimensions is returned, so that robots of different sizes compare. 0 is equal; 1 is a
        whole standard deviation off in a typical dimension. Correlations are not published, so that
        they can't count.
        """
        return float(np.sqrt(np.mean(self.shift**2 + (self.ratio - 1) ** 2)))

    @property
    def spread(self) -> float:
        """Geometric mean of the ratios: 2 is twice as wide in a typical dimension."""
        return float(np.exp(np.log(np.maximum(self.ratio, 1e-12)).mean()))


def published_moments(task: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and standard deviation ``[obs]`` of D4RL's states; ``None`` where none are published."""
    table = published()
    mine = table[(table["task"] == task) & table["index"].notna()]
    if mine.empty:
        return None
    moments = mine.pivot_table(index="index", columns="quantity", values="value").sort_index()
    mean, std = (moments[name].to_numpy() for name in ("state_mean", "state_std"))
    return mean, std


def distance(mean: np.ndarray, std: np.ndarray, to: tuple[np.ndarray, np.ndarray]) -> StateDistance:
    """Of states with these moments ``[obs]`` to those with the moments ``to``, in whose units it is."""
    return StateDistance(np.abs(mean - to[0]) / to[1], std / to[1])


def state_distance(found: Statistics) -> StateDistance | None:
    """Against the published moments of the task's states; ``None`` where none are published.

    Raises ``UserError`` where the published states have another size.
    """
    theirs = published_moments(found.task)
    if theirs is None:
        return None
    if len(theirs[0]) != len(found.state_mean):
        raise UserError(
            f"the states have {len(found.state_mean)} dimensions, the published ones of {found.task} "
            f"{len(theirs[0])}. Is it another task's file?"
        )
    return distance(found.state_mean, found.state_std, theirs)


def nearest_published(task: str) -> tuple[str, float] | None:
    """D4RL's other dataset of the same robot whose states are nearest, and its ``frechet`` distance.

    A yardstick: what is farther than this is less like the dataset than another of D4RL's is. ``None``
    where nothing is published of either.
    """
    theirs, robot = published_moments(task), tasks.task(task).environment
    if theirs is None:
        return None
    found = {
        name: distance(*published_moments(name), theirs).frechet
        for name in published().dropna(subset="index")["task"].unique()
        if name != task and tasks.task(name).environment == robot
    }
    return min(found.items(), key=lambda item: item[1], default=None)
