"""Kit datasets: D4RL's recipes with the policies that the kit ships.

AntMaze's recipe is in ``o2okit.data.kit_antmaze``; the locomotion tasks':

    random          uniform actions
    medium, expert  sampled actions of the snapshots that return what D4RL's files do
    medium-replay   every snapshot up to medium in turn, each for the steps around it
    medium-expert   half medium, half expert

The pen's:

    mixed           every snapshot from the first to the best, equal shares

Numbered departures from D4RL:
    1. medium-replay stands for the replay buffer of one run. Of its policies as many are left as are
       shipped up to medium (hopper 4, halfcheetah 8, walker2d 7, ant 10). Each stands for the steps that are
       nearest to it, and uniform actions for those before the first update.
    2. Several environments run side by side; the file has one environment's episodes after the other's.
       Where a part's share is full its last episode is cut off and marked as a time-out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv

import o2okit
from o2okit.data import kit_antmaze
from o2okit.data.hdf5 import write_hdf5
from o2okit.data.policies import Ladder, Snapshot, ladder, ladders
from o2okit.data.rollout import Fields, roll_out, side_by_side
from o2okit.data.sources import with_data
from o2okit.errors import UserError, unknown
from o2okit.revision import commit
from o2okit.streams import generator
from o2okit.tasks import Key, Task, task
from o2okit.tasks.table import QUALITIES

ROWS = {"smoke": 20_000, "laptop": 200_000, "paper": 1_000_000}  # specs/tasks.md 6


@dataclass(frozen=True)
class Part:
    """A share of a dataset and who collects it; ``None`` acts uniformly."""

    label: str
    share: float
    snapshot: Snapshot | None


def recipe(name: str, policies: Ladder | None) -> list[Part]:
    """The parts of a quality. Raises ``UserError`` where the ladder does not reach it."""
    if name == "random":
        return [Part("random", 1.0, None)]
    if name == "medium-expert":
        halves = [recipe(half, policies) for half in ("medium", "expert")]
        return [Part(part.label, part.share / 2, part.snapshot) for half in halves for part in half]
    if name == "mixed":
        return [_part(rung, 1 / len(policies.snapshots)) for rung in policies.snapshots]
    if name == "medium-replay":
        last = max(snapshot.step for snapshot, _ in policies.role("medium"))
        rungs = [snapshot for snapshot in policies.snapshots if snapshot.step <= last]
        uniform = policies.record["run"]["learning_starts"]
        steps = np.array([snapshot.step for snapshot in rungs])
        # Midpoints: the steps before a snapshot alone would have it better than the run was.
        shares = np.diff([uniform, *(steps[1:] + steps[:-1]) / 2, last]) / last
        learnt = [_part(rung, share) for rung, share in zip(rungs, shares.tolist(), strict=True)]
        return [Part("random", uniform / last, None), *learnt]
    return [_part(snapshot, share) for snapshot, share in policies.role(name)]


def _part(snapshot: Snapshot, share: float) -> Part:
    return Part(f"SAC at {snapshot.step:,} steps", share, snapshot)


def act(
    snapshot: Snapshot | None, obs: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Sampled actions ``[n, A]`` for ``obs`` ``[n, D]``; uniform without a snapshot."""
    if snapshot is None:
        return rng.uniform(-1, 1, (len(obs), size)).astype(np.float32)
    noise = torch.from_numpy(rng.standard_normal((len(obs), size), dtype=np.float32))
    return snapshot.sample(torch.from_numpy(obs), noise).numpy()


def collect(
    where: Task,
    snapshot: Snapshot | None,
    rows: int,
    *,
    seed: int,
    stream: str,
    progress: Callable[[int], Any] = lambda rows: None,
) -> Fields:
    """Rolls one policy out.

    Args:
        where: the task; its environment is stepped.
        snapshot: who acts; ``None`` uniformly.
        rows: at least so many come back, in whole episodes.
        seed: equal seeds give equal rows, on one machine.
        stream: what the random numbers are for.
        progress: called with the number of new rows.

    Returns:
        Fields of D4RL's format, ``[N, ...]``, ``N >= rows``.
    """
    n = side_by_side(rows)
    env, chooses = _set_up(where, snapshot, n, seed, stream)
    return roll_out(env, chooses, rows, progress=progress)


def episode_returns(
    where: Task, snapshot: Snapshot | None, episodes: int, *, seed: int, stream: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns and lengths ``[episodes]`` of as many sampled episodes."""
    fields = roll_out(*_set_up(where, snapshot, episodes, seed, stream), episodes)  # one each
    return _episodes(fields)


def _episodes(fields: Fields) -> tuple[np.ndarray, np.ndarray]:
    """Returns and lengths of the episodes that are over."""
    ends = np.flatnonzero(fields["terminals"] | fields["timeouts"])
    returns = np.diff(np.cumsum(fields["rewards"], dtype=np.float64)[ends], prepend=0.0)
    return returns, np.diff(ends, prepend=-1)


def _set_up(
    where: Task, snapshot: Snapshot | None, n: int, seed: int, stream: str
) -> tuple[VectorEnv, Callable[[np.ndarray], np.ndarray]]:
    """``n`` environments and who acts in them."""
    env = where.vector([Key(seed, f"{stream}/start/{i}") for i in range(n)])
    rng = generator(seed, f"{stream}/actions")
    return env, lambda obs: act(snapshot, obs, where.act_size, rng)


def collect_parts(
    where: Task,
    parts: list[Part],
    rows: int,
    *,
    seed: int,
    progress: Callable[[int], Any] = lambda rows: None,
) -> tuple[Fields, dict[str, Any]]:
    """Collects a dataset of sampled episodes: every part of its recipe has its share of the rows.

    Returns:
        Fields ``[rows, ...]`` of D4RL's format, and how they came about.
    """
    ends = np.rint(np.cumsum([part.share for part in parts]) * rows).astype(int)
    pieces: list[Fields] = []
    for number, (part, size) in enumerate(zip(parts, np.diff(ends, prepend=0), strict=True)):
        stream = f"kit/{where.environment}/{number}/{part.label}"
        piece = collect(where, part.snapshot, size, seed=seed, stream=stream, progress=progress)
        pieces.append({key: piece.pop(key)[:size] for key in list(piece)})
        if number < len(parts) - 1:  # where the file is full there is no mark: as in D4RL's files
            pieces[-1]["timeouts"][-1:] |= ~pieces[-1]["terminals"][-1:]
    # Column by column, as in `roll_out`.
    fields = {key: np.concatenate([piece.pop(key) for piece in pieces]) for key in list(pieces[0])}
    return fields, {
        "recipe": f"{'the kit' if where.kit_only else 'D4RL'}'s, {where.quality}, with the kit's policies",
        "parts": [{"label": part.label, "share": part.share} for part in parts],
    }


def robot_policies(where: Task) -> Ladder | None:
    """The ladder of a task's robot; ``None`` where nobody but chance acts."""
    if where.quality == "random":
        return None
    own, expert = ladder(where.environment), f"{where.environment}-expert"
    if where.quality in ("expert", "medium-expert") and expert in ladders():
        return replace(own, beyond=ladder(expert))
    return own


# --- every family ---------------------------------------------------------------------------------
class Collection(NamedTuple):
    """How the data of a family are made."""

    qualities: tuple[str, ...]  # of the tasks that have a recipe
    policies: Callable[[Task], Ladder | None]  # what it stands on
    recipe: Callable[[str, Ladder | None], Any]  # who collects a quality
    collect: Callable[..., tuple[Fields, dict[str, Any]]]  # what they collect, and how
    versions: Mapping[str, int]  # of a quality's recipe, where not 1; raise it when the rows change
    switches: tuple[str, ...] = ()  # that make other data, for comparison


COLLECTIONS = {
    "locomotion": Collection(
        QUALITIES, robot_policies, recipe, collect_parts, versions={"medium-replay": 2}
    ),
    "adroit": Collection(("mixed",), robot_policies, recipe, collect_parts, versions={}),
    "antmaze": Collection(
        ("fixed", "play", "diverse"),
        kit_antmaze.policies,
        kit_antmaze.recipe,
        kit_antmaze.collect,
        versions={"fixed": 2, "play": 2, "diverse": 2},
        switches=("sampled", "legacy_cell", "legacy_noise", "stay"),
    ),
}


def plan(name: str, switches: Iterable[str] = ()) -> tuple[Any, Ladder | None]:
    """Who collects the kit dataset of a task, and the ladder they stand on.

    Raises ``UserError`` where the kit can't build it, or not with these ``switches``: the message says
    why and what else there is.
    """
    where = with_data(name)
    collection = COLLECTIONS.get(where.family)
    if collection is None or where.quality not in collection.qualities:
        raise UserError(
            f"the kit has no recipe for {name!r}; it builds the datasets of the locomotion and AntMaze "
            f"tasks and pen-mixed. Put D4RL's file where `o2okit data where {name}` looks."
        )
    for switch in switches:
        if switch not in collection.switches:
            raise unknown(f"switch for the {where.family} tasks", switch, collection.switches)
    policies = collection.policies(where)
    return collection.recipe(where.quality, policies), policies


def build(
    name: str,
    rows: int,
    path: Path,
    *,
    seed: int = 0,
    progress: Callable[[int], Any] = lambda rows: None,
    **switches: bool,
) -> Path:
    """Collects the kit dataset of a task and writes it in D4RL's format.

    Args:
        name: name of the task, ``hopper-medium-v2``.
        rows: transitions.
        path: the file to write.
        seed: equal seeds give equal files, on one machine.
        progress: called with the number of new rows.
        switches: of the family's recipe: ``legacy_cell=True`` (``kit_antmaze``).

    Raises:
        UserError: as ``plan``.
    """
    where = task(name)
    who, policies = plan(name, switches)
    fields, about = COLLECTIONS[where.family].collect(
        where, who, rows, seed=seed, progress=progress, **switches
    )
    return write_hdf5(path, fields, {**_provenance(where, policies, seed, fields), **about})


def outdated(name: str, provenance: Mapping[str, Any], **switches: bool) -> str:
    """Why a kit file is not what ``build`` would write now, with ``switches``; empty where it is."""
    where = task(name)
    policies = COLLECTIONS[where.family].policies(where)
    if provenance.get("policies_sha256") != (policies and policies.hash):
        return "it was collected with other policies than those shipped now"
    if provenance.get("task_version") != where.version:
        return "the environment has changed since"
    if provenance.get("recipe_version", 1) != _recipe_version(where):
        return "the recipe has changed since"
    if (made := _on(provenance.get("switches", {}))) != _on(switches):
        return (
            f"it was collected with {'the switches ' + ', '.join(made) if made else 'no switches'}"
        )
    return ""


def _on(switches: Mapping[str, bool]) -> list[str]:
    return sorted(name for name, on in switches.items() if on)


def _recipe_version(where: Task) -> int:
    return COLLECTIONS[where.family].versions.get(where.quality, 1)


def _provenance(where: Task, policies: Ladder | None, seed: int, fields: Fields) -> dict[str, Any]:
    returns, _ = _episodes(fields)
    return {
        "name": f"kit-{where.name}",
        "o2okit": o2okit.__version__,
        "commit": commit(),
        "task_version": where.version,
        "recipe_version": _recipe_version(where),
        "rows": len(fields["rewards"]),
        "seed": seed,
        "policies_sha256": policies and policies.hash,
        "episodes": len(returns),
        "return_mean": round(float(returns.mean()), 3) if len(returns) else None,
        "versions": {
            name: metadata.version(name) for name in ("mujoco", "gymnasium", "numpy", "torch")
        },
    }
