"""From a training run to the behaviour policies that the kit ships.

    o2okit data train hopper     SAC from scratch, a snapshot every 10,000 steps
    o2okit data ladder hopper    scores the snapshots and keeps about ten of them

``walker2d-expert`` is a run and a ladder of its own, beside walker2d's.

``medium`` and ``expert`` are the snapshots whose sampled episodes return what D4RL's files do; where two
neighbours lie on either side, both collect, in the shares that give the mean.

Numbered departures from specs/tasks.md 6:
    1. Minibatches of 128 instead of 256 transitions where training began on two cores: half the time per
       step, and what is wanted is a policy of a given return, not a given algorithm's.
    2. The experts of halfcheetah and ant have four environment steps per update, and critics and temperature
       learn at 1e-3: a processor steps a robot far faster than it updates an agent, and after as many updates
       such an agent is far ahead.
    3. A snapshot is chosen by the mean of its returns alone. Where D4RL's episodes are less alike (of
       halfcheetah-medium some fail, of the kit's none does), two neighbours are not mixed for the spread's
       sake: IQL's rewards are scaled by D4RL's range instead (``o2okit.backbones.settings``, departure 1).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from o2okit.data import kit
from o2okit.data.controller import hop_scores
from o2okit.data.policies import Snapshot, write_ladder
from o2okit.data.statistics import published
from o2okit.errors import UserError, unknown
from o2okit.revision import commit
from o2okit.tasks import task
from o2okit.training.run import Run
from o2okit.training.spec import RunSpec
from o2okit.training.store import RunFolder, RunStore

EPISODES = 20  # that score a snapshot
MANY = 100  # other ones, that confirm it
RUNGS = 10
CLOSE = 0.05  # of the target: one snapshot alone is good enough
NEAR = 0.10  # the same where there is nothing better


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


def episode_scores(environment: str, snapshot: Snapshot, confirm: bool = False) -> dict[str, float]:
    """Statistics of the returns of ``EPISODES`` sampled episodes, or of ``MANY`` others."""
    episodes, stream = MANY if confirm else EPISODES, f"ladder/{snapshot.step}"
    returns, lengths = kit.episode_returns(
        task(environment), snapshot, episodes, seed=int(confirm), stream=stream
    )
    return {
        "mean": float(returns.mean()),
        "std": float(returns.std()),
        "min": float(returns.min()),
        "max": float(returns.max()),
        "length": float(lengths.mean()),
        "episodes": episodes,
    }


def shares(snapshots: list[Snapshot], measure: str, target: float) -> list[dict[str, Any]] | None:
    """Who collects a quality whose episodes should reach ``target`` on average.

    The first snapshot close to it alone, else the first two neighbours on either side of it, else the
    nearest one alone, if it is near. ``None`` where there are none of these.
    """
    away = [abs(snapshot.scores[measure] - target) / abs(target) for snapshot in snapshots]
    for snapshot, distance in zip(snapshots, away, strict=True):
        if distance <= CLOSE:
            return [{"step": snapshot.step, "share": 1.0}]
    for below, above in itertools.pairwise(snapshots):
        low, high = below.scores[measure], above.scores[measure]
        if min(low, high) < target < max(low, high):
            # The share of the second's episodes; that of its rows is wanted.
            episodes = (target - low) / (high - low)
            first = (1 - episodes) * below.scores["length"]
            second = episodes * above.scores["length"]
            part = round(float(second / (first + second)), 4)
            return [
                {"step": below.step, "share": round(1 - part, 4)},
                {"step": above.step, "share": part},
            ]
    nearest = int(np.argmin(away))
    return [{"step": snapshots[nearest].step, "share": 1.0}] if away[nearest] <= NEAR else None


def rungs(snapshots: list[Snapshot], roles: Mapping[str, list[dict[str, Any]]]) -> list[Snapshot]:
    """About ten snapshots, evenly spaced in return up to the best, with all that have a role."""
    best = max(range(len(snapshots)), key=lambda i: snapshots[i].scores["mean"])
    means = np.maximum.accumulate([s.scores["mean"] for s in snapshots[: best + 1]])
    wanted = np.linspace(means[0], means[-1], RUNGS)
    steps = {snapshots[int(np.searchsorted(means, value))].step for value in wanted}
    steps |= {part["step"] for role in roles.values() for part in role}
    return [snapshot for snapshot in snapshots if snapshot.step in steps]


def best_of_all(
    snapshots: list[Snapshot], measure: str, target: float
) -> list[dict[str, Any]] | None:
    """The best snapshot, of equal ones the most trained, if it is good enough."""
    best = max(snapshots, key=lambda snapshot: (snapshot.scores[measure], snapshot.step))
    return [{"step": best.step, "share": 1.0}] if best.scores[measure] >= target else None


def those_with_a_role(
    snapshots: list[Snapshot], roles: Mapping[str, list[dict[str, Any]]]
) -> list[Snapshot]:
    """Nothing but what collects."""
    steps = {part["step"] for role in roles.values() for part in role}
    return [snapshot for snapshot in snapshots if snapshot.step in steps]


@dataclass(frozen=True)
class Recipe:
    """How the behaviour policies of an environment are trained and chosen; specs/tasks.md 6.

    Attributes:
        environment: where it is not the recipe's own name.
        seed: of the training.
        steps: environment steps, unless others are asked for.
        learning_starts: uniform actions before the first update.
        update_every: environment steps per update.
        hyper: SAC's hyper-parameters that differ from its own.
        ant_obs: as ``RunSpec``'s; a snapshot looks at no more than it was trained with.
        measure: the score that decides.
        targets: what it should be for each role; ``None``: the mean return of D4RL's file.
        scores: what a snapshot's scores are; the last argument asks for a second, independent look.
        assign: who has a role, given the snapshots, the measure and the target; ``None`` for nobody.
        keep: which snapshots are shipped, given all of them and the roles.
    """

    environment: str = ""
    seed: int = 0
    steps: int = 1_000_000
    learning_starts: int = 1_000
    update_every: int = 1
    hyper: Mapping[str, Any] = field(default_factory=dict)
    ant_obs: int = 111
    measure: str = "mean"
    targets: Mapping[str, float | None] = field(
        default_factory=lambda: dict.fromkeys(("medium", "expert"))
    )
    scores: Callable[[str, Snapshot, bool], dict[str, float]] = episode_scores
    assign: Callable[[list[Snapshot], str, float], list[dict[str, Any]] | None] = shares
    keep: Callable[[list[Snapshot], Mapping[str, list[dict[str, Any]]]], list[Snapshot]] = rungs


FAST = {"batch_size": 128}  # departure 1
# Where a ladder's own run ended before its expert: another run, of which the expert alone is shipped.
EXPERT = Recipe(hyper=FAST, targets={"expert": None}, keep=those_with_a_role)
QUICK = replace(  # departure 2
    EXPERT,
    seed=1,
    steps=4_000_000,
    learning_starts=10_000,
    update_every=4,
    hyper={**FAST, "critic_lr": 1e-3, "alpha_lr": 1e-3},
)
ANT = {"medium": 3000.0, "expert": 3880.0}  # the returns of D4RL's files are not known
RECIPES = {
    **{robot: Recipe() for robot in ("halfcheetah", "hopper")},
    "walker2d": Recipe(hyper=FAST),
    "halfcheetah-expert": replace(QUICK, environment="halfcheetah"),
    "walker2d-expert": replace(EXPERT, environment="walker2d", seed=1),
    "ant": Recipe(hyper=FAST, ant_obs=27, targets=ANT),
    "ant-expert": replace(QUICK, environment="ant", ant_obs=27, targets={"expert": ANT["expert"]}),
    "pen": Recipe(hyper=FAST, targets={}),
    "ant-controller": Recipe(  # OGBench's
        steps=400_000,
        learning_starts=10_000,
        hyper={
            **FAST,
            **{"actor_lr": 1e-4, "critic_lr": 1e-4, "alpha_lr": 1e-4, "entropy_scale": 0.5},
        },
        measure="hops",
        targets={"controller": 0.8},
        scores=hop_scores,
        assign=best_of_all,
        keep=those_with_a_role,
    ),
}


def training(name: str, steps: int | None = None) -> RunSpec:
    """The run that behaviour policies come from, ``steps`` long. Raises ``UserError``."""
    recipe = _recipe(name)
    return RunSpec(
        recipe.environment or name,
        "sac",
        "online",
        recipe.steps if steps is None else steps,
        recipe.seed,
        hyper=recipe.hyper,
        replay="online",
        learning_starts=recipe.learning_starts,
        update_every=recipe.update_every,
        ant_obs=recipe.ant_obs,
        eval_every=10_000 * recipe.update_every,
        eval_episodes=10,
        snapshot_every=10_000 * recipe.update_every,
    )


def targets(name: str) -> dict[str, float]:
    """What each role should reach, in units of the recipe's measure. Raises ``UserError``."""
    known = published()
    known = known[known["quantity"] == "return_mean"].set_index("task")["value"]
    recipe = _recipe(name)
    return {
        role: known[f"{recipe.environment or name}-{role}-v2"] if target is None else target
        for role, target in recipe.targets.items()
    }


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise unknown("environment", name, RECIPES)
    return RECIPES[name]


def make_ladder(
    run: Run,
    targets: Mapping[str, float],
    *,
    name: str | None = None,
    write: Callable[..., None] = write_ladder,
    report: Callable[[str], Any] = print,
) -> dict[str, list[dict[str, Any]]]:
    """Scores a run's snapshots, assigns the roles and writes the ladder.

    Args:
        run: of ``training``; it need not be finished.
        targets: what each role should reach (``targets``).
        name: of the recipe and the ladder; default: the environment's.
        write: where to.
        report: called with a line per snapshot and role.

    Returns:
        The roles that are reached: step and share of each part.

    Raises:
        UserError: the run has no snapshots, or none worth shipping.
    """
    environment, name = run.spec.task, name or run.spec.task
    recipe = _recipe(name)
    if not run.snapshots():
        raise UserError(
            f"the run {run.spec.id} has no snapshots yet. `o2okit data train {name}` makes them."
        )

    def scored(snapshot: Snapshot, confirm: bool) -> Snapshot:
        found = recipe.scores(environment, snapshot, confirm)
        scores = {name: round(value, 4) for name, value in found.items()}
        report(f"{snapshot.step:>9,} steps{' confirmed' * confirm}: {scores}")
        return replace(snapshot, scores=scores)

    snapshots = [scored(policy(run, step), False) for step in run.snapshots()]
    # The best of many short tests is in part the luckiest: whoever gets a role or is shipped is tested anew.
    confirmed: set[int] = set()
    while True:
        found = {
            role: recipe.assign(snapshots, recipe.measure, target)
            for role, target in targets.items()
        }
        roles = {role: parts for role, parts in found.items() if parts is not None}
        new = {part["step"] for parts in roles.values() for part in parts} - confirmed
        if not new:
            break
        snapshots = [scored(each, True) if each.step in new else each for each in snapshots]
        confirmed |= new
    best = max(snapshot.scores[recipe.measure] for snapshot in snapshots)
    for role, target in targets.items():
        reached = roles.get(role, f"not met: the snapshots reach up to {best:.4g}")
        report(f"{role}: target {target:.6g} ({recipe.measure}), {reached}")
    kept = [
        each if each.step in confirmed else scored(each, True)
        for each in recipe.keep(snapshots, roles)
    ]
    if not kept:
        raise UserError(
            f"no snapshot of {name} is good enough to be shipped: {recipe.measure} up to "
            f"{best:.4g}. Train on: `o2okit data train {name}`."
        )
    record = {
        "environment": environment,
        "command": f"o2okit data train {name} && o2okit data ladder {name}",
        "run": run.folder.spec(),
        "trained_with": run.folder.environment(),
        "commit": commit(),
        "measure": recipe.measure,
        "targets": dict(targets),
        "roles": roles,
        "curve": run.evaluations()[["step", "return"]].round(1).values.tolist(),
    }
    write(name, kept, record)
    return roles


def training_run(name: str, steps: int | None = None, folder: Path | str | None = None) -> Run:
    """The training run, finished or not: in ``folder``, else in the store.

    Raises ``UserError`` for a folder that holds no run of the environment.
    """
    spec = training(name, steps)
    if not folder:
        return Run(spec, RunStore().folder(spec))
    found = RunFolder(Path(folder))
    if not (found.path / "spec.json").is_file():
        raise UserError(f"{folder} is no run's folder: it has no spec.json.")
    theirs = found.spec()
    if theirs["task"] != spec.task:
        raise UserError(f"{folder} holds a run of {theirs['task']!r}, not of {spec.task!r}.")
    if theirs["backbone"] != spec.backbone:
        raise UserError(
            f"{folder} holds a run of {theirs['backbone']!r}; a ladder is one of {spec.backbone!r}."
        )
    as_trained = {name: theirs[name] for name in ("hyper", "steps", "seed", "learning_starts")}
    later = {"ant_obs": theirs.get("ant_obs", 111), "update_every": theirs.get("update_every", 1)}
    return Run(replace(spec, **as_trained, **later), found)
