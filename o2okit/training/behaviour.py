"""From a training run to the behaviour policies that the kit ships.

    o2okit data train hopper     SAC from scratch, a snapshot every 10,000 steps
    o2okit data ladder hopper    scores the snapshots and keeps about ten of them

``medium`` and ``expert`` are the snapshots whose sampled episodes return what D4RL's files do; where two
neighbours lie on either side, both collect, in the shares that give the mean.

Numbered departures from specs/tasks.md 6:
    1. Minibatches of 128 instead of 256 transitions where training began on two cores: half the time per
       step, and what is wanted is a policy of a given return, not a given algorithm's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from o2okit.data import kit
from o2okit.data.policies import Snapshot, write_ladder
from o2okit.errors import UserError, unknown
from o2okit.tasks import task
from o2okit.training.spec import RunSpec
from o2okit.training.store import RunFolder, RunStore
from o2okit.training.train import Run, commit

EPISODES = 20  # that score a snapshot
RUNGS = 10
OURS = {  # D4RL's returns are not known; specs/tasks.md 6
    ("ant", "medium"): 3000.0,
    ("ant", "expert"): 3880.0,
}
CLOSE = 0.05  # of the target: one snapshot alone is good enough


@dataclass(frozen=True)
class Recipe:
    """How the behaviour policies of an environment are trained; specs/tasks.md 6.

    Attributes:
        steps: environment steps, unless others are asked for.
        learning_starts: uniform actions before the first update.
        hyper: SAC's hyper-parameters that differ from its own.
    """

    steps: int = 1_000_000
    learning_starts: int = 1_000
    hyper: Mapping[str, Any] = field(default_factory=dict)


FAST = {"batch_size": 128}  # departure 1
RECIPES = {
    **{robot: Recipe() for robot in ("halfcheetah", "hopper")},
    **{robot: Recipe(hyper=FAST) for robot in ("walker2d", "ant")},
    "ant-controller": Recipe(  # OGBench's
        steps=400_000,
        learning_starts=10_000,
        hyper={
            **FAST,
            **{"actor_lr": 1e-4, "critic_lr": 1e-4, "alpha_lr": 1e-4, "entropy_scale": 0.5},
        },
    ),
}


def training(environment: str, steps: int | None = None, seed: int = 0) -> RunSpec:
    """The run that behaviour policies come from, ``steps`` long. Raises ``UserError``."""
    if environment not in RECIPES:
        raise unknown("environment", environment, RECIPES)
    recipe = RECIPES[environment]
    return RunSpec(
        environment,
        "sac",
        "online",
        recipe.steps if steps is None else steps,
        seed,
        hyper=recipe.hyper,
        replay="online",
        learning_starts=recipe.learning_starts,
        eval_every=10_000,
        eval_episodes=10,
        snapshot_every=10_000,
    )


def policy(run: Run, step: int) -> Snapshot:
    """The sampled policy of a SAC snapshot, with its scalars m and b folded into the last layer."""
    agent = run.agent(step)
    layers = [
        (weight[0].T.detach(), bias[0, 0].detach()) for weight, bias in agent.actor.layer_weights
    ]
    scale, offset = agent.spread.weights[0][0]
    weight, bias = (part.clone() for part in layers[-1])
    half = len(bias) // 2
    weight[half:] *= scale
    bias[half:] = scale * bias[half:] + offset
    layers[-1] = (weight, bias)
    # Rounded as it will be shipped, so that what is scored is what collects.
    rounded = tuple(tuple(part.half().float() for part in layer) for layer in layers)
    return Snapshot(step, rounded, {})


def scored(environment: str, snapshot: Snapshot, seed: int = 0) -> Snapshot:
    """With the statistics of ``EPISODES`` sampled episodes."""
    stream = f"ladder/{snapshot.step}"
    returns, lengths = kit.episode_returns(
        task(environment), snapshot, EPISODES, seed=seed, stream=stream
    )
    scores = {
        "mean": returns.mean(),
        "std": returns.std(),
        "min": returns.min(),
        "max": returns.max(),
        "length": lengths.mean(),
    }
    rounded = {key: round(float(value), 2) for key, value in scores.items()}
    return Snapshot(snapshot.step, snapshot.layers, {**rounded, "episodes": EPISODES})


def shares(snapshots: list[Snapshot], target: float) -> list[dict[str, Any]] | None:
    """Who collects a quality whose episodes should return ``target`` on average.

    The first snapshot close to it alone, else the first two neighbours on either side of it. ``None``
    where no two neighbours lie on either side of it.
    """
    for snapshot in snapshots:
        if abs(snapshot.scores["mean"] - target) <= CLOSE * abs(target):
            return [{"step": snapshot.step, "share": 1.0}]
    for below, above in itertools.pairwise(snapshots):
        low, high = below.scores["mean"], above.scores["mean"]
        if min(low, high) < target < max(low, high):
            episodes = (target - low) / (
                high - low
            )  # share of the second's episodes; rows are wanted
            first = (1 - episodes) * below.scores["length"]
            second = episodes * above.scores["length"]
            part = round(second / (first + second), 4)
            return [
                {"step": below.step, "share": round(1 - part, 4)},
                {"step": above.step, "share": part},
            ]
    return None


def rungs(snapshots: list[Snapshot], roles: Mapping[str, list[dict[str, Any]]]) -> list[Snapshot]:
    """About ten snapshots, evenly spaced in return up to the best, with all that have a role."""
    best = max(range(len(snapshots)), key=lambda i: snapshots[i].scores["mean"])
    means = np.maximum.accumulate([s.scores["mean"] for s in snapshots[: best + 1]])
    wanted = np.linspace(means[0], means[-1], RUNGS)
    steps = {snapshots[int(np.searchsorted(means, value))].step for value in wanted}
    steps |= {part["step"] for role in roles.values() for part in role}
    return [snapshot for snapshot in snapshots if snapshot.step in steps]


def make_ladder(
    run: Run,
    targets: Mapping[str, float],
    *,
    write: Callable[..., None] = write_ladder,
    report: Callable[[str], Any] = print,
) -> dict[str, list[dict[str, Any]]]:
    """Scores a run's snapshots, assigns the roles and writes the ladder.

    Args:
        run: of ``training``; it need not be finished.
        targets: mean return wanted of each role, ``medium`` and ``expert``.
        write: where to.
        report: called with a line per snapshot and role.

    Returns:
        The roles that are reached: step and share of each part.

    Raises:
        UserError: the run has no snapshots.
    """
    environment = run.spec.task
    if not run.snapshots():
        raise UserError(
            f"the run {run.spec.id} has no snapshots yet. `o2okit data train {environment}` makes them."
        )
    snapshots = []
    for step in run.snapshots():
        snapshots.append(scored(environment, policy(run, step)))
        report(f"{step:>9,} steps: {snapshots[-1].scores}")
    best = max(snapshot.scores["mean"] for snapshot in snapshots)
    roles = {}
    for name, target in targets.items():
        if (parts := shares(snapshots, target)) is not None:
            roles[name] = parts
        reached = f"{parts}" if parts else f"not met: the snapshots return up to {best:.1f}"
        report(f"{name}: target {target:.1f}, {reached}")
    record = {
        "environment": environment,
        "command": f"o2okit data train {environment} && o2okit data ladder {environment}",
        "run": run.folder.spec(),
        "trained_with": run.folder.environment(),
        "commit": commit(),
        "targets": dict(targets),
        "roles": roles,
        "curve": run.evaluations()[["step", "return"]].round(1).values.tolist(),
    }
    write(environment, rungs(snapshots, roles), record)
    return roles


def training_run(
    environment: str, steps: int | None = None, folder: Path | str | None = None
) -> Run:
    """The training run, finished or not: in ``folder``, else in the store."""
    spec = training(environment, steps)
    return Run(spec, RunFolder(Path(folder)) if folder else RunStore().folder(spec))
