"""One line to a result: pre-train a backbone on a task's dataset, fine-tune it with a method.

    import o2okit
    result = o2okit.finetune("hopper-medium-v2", "iql", seeds=3)
    result.frame, result.summary(), result.plot()

Runs are kept in the run store: a second call finds them. The dataset is D4RL's where it is on this machine,
else the kit's, which is built on the spot.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from o2okit.backbones import BACKBONES
from o2okit.backbones.settings import settings
from o2okit.data import Dataset, kit, sources
from o2okit.errors import UserError, unknown
from o2okit.methods import METHODS
from o2okit.profiles import check_profile, default_profile
from o2okit.result import Result
from o2okit.tasks import TASKS, normalised_score
from o2okit.tasks import task as find_task
from o2okit.training import RunSpec, train
from o2okit.training.progress import Progress


@dataclass(frozen=True)
class Amounts:
    """What a profile decides, and nothing else does."""

    rows: int  # of the kit dataset
    offline_steps: int
    online_steps: int
    offline_every: int  # steps between evaluations
    online_every: int
    random_steps: int  # before learning from scratch begins
    episodes: int  # per evaluation
    seeds: int


AMOUNTS = {  # random steps: specs/gde.md 3
    "smoke": Amounts(kit.ROWS["smoke"], 60, 60, 30, 30, 20, 1, 1),
    "laptop": Amounts(kit.ROWS["laptop"], 20_000, 10_000, 5_000, 2_000, 5_000, 10, 3),
    "paper": Amounts(kit.ROWS["paper"], 1_000_000, 250_000, 5_000, 2_500, 5_000, 10, 5),
}


def dataset(task: str, *, source: str | Path = "auto", rows: int, ant_obs: int = 111) -> Dataset:
    """The task's dataset; the kit's is built where no other is found.

    Args:
        task: its name.
        source: ``auto``, ``d4rl``, ``minari``, ``kit`` or a path (``o2okit data where TASK``).
        rows: of the kit dataset, if it comes to that.
        ant_obs: 27 leaves ant's padding out, as in ``RunSpec``.

    Raises:
        UserError: it can neither be found nor built.
    """
    narrow = find_task(task, ant_obs)
    if source in ("auto", "kit"):
        # What is found but damaged counts: `load` says what is wrong with it.
        others = [place for place in sources.where(task) if place.found and place.source != "kit"]
        if source == "kit" or not others:
            build_kit(task, rows)
            source = sources.kit_file(task, rows)
    data = sources.load(task, source)
    left_out = find_task(task).obs_size - narrow.obs_size
    return data.without_padding(left_out) if left_out else data


def build_kit(task: str, rows: int, *, seed: int = 0) -> Path:
    """The kit dataset of a task in its place: built if it is missing or outdated, with progress.

    Raises ``UserError`` where it can't be built, or is there with another seed.
    """
    path = sources.kit_file(task, rows)
    if path.is_file():
        made = sources.load_rows(task, path, first=2)[1].provenance
        if not (why := kit.outdated(task, made)):
            if made.get("seed") != seed:
                raise UserError(
                    f"{path} was collected with seed {made.get('seed')}, not {seed}. Move it away to "
                    "collect another."
                )
            return path
        print(f"{path.name}: {why}; collecting it again", flush=True)
    progress = Progress(f"kit dataset {task}", rows)
    done = 0

    def tell(new: int) -> None:
        nonlocal done
        done = min(done + new, rows - 1)  # whole episodes: the last ones overrun
        progress.update(done)

    kit.build(task, rows, path, seed=seed, progress=tell)
    progress.update(rows)
    progress.close()
    return path


def pretrain(
    task: str,
    backbone: str | Sequence[str],
    *,
    seeds: int | Sequence[int] | None = None,
    profile: str | None = None,
    steps: int | None = None,
    hyper: Mapping[str, Any] | None = None,
    eval_every: int | None = None,
    ant_obs: int = 111,
    source: str | Path = "auto",
    device: str = "auto",
) -> Result:
    """Trains a backbone, or several to be compared, on a task's dataset.

    Args:
        task: name of the task, ``hopper-medium-v2``.
        backbone: name of the backbone, ``iql``, or a list of names.
        seeds: how many, or which; default: the profile's.
        profile: ``smoke``, ``laptop`` or ``paper``; default: ``O2OKIT_PROFILE``, else ``laptop``.
        steps: gradient updates; default: the profile's.
        hyper: hyper-parameters that differ from the backbone's own for the task.
        eval_every: steps between evaluations; default: the profile's.
        ant_obs: 27 trains ant without the zeros of its 111 observations, as in ``RunSpec``.
        source: where the dataset comes from, as for ``dataset``.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        UserError: a name or a value is wrong, or there is no dataset.
    """
    profile = check_profile(profile or default_profile())
    backbones, seeds = _names("backbone", backbone, BACKBONES), _seeds(seeds, profile)
    data = dataset(task, source=source, rows=AMOUNTS[profile].rows, ant_obs=ant_obs)
    kind = {"eval_every": eval_every, "ant_obs": ant_obs}
    specs = _offline(task, backbones, data, profile, seeds, steps, hyper, **kind)
    return Result(train(specs, device=device, label=task), data, profile)


def finetune(
    task: str,
    backbone: str | Sequence[str],
    method: str | Sequence[str] = "naive",
    *,
    seeds: int | Sequence[int] | None = None,
    profile: str | None = None,
    steps: int | None = None,
    offline_steps: int | None = None,
    replay: str | None = None,
    hyper: Mapping[str, Any] | None = None,
    method_hyper: Mapping[str, Any] | None = None,
    eval_every: int | None = None,
    ant_obs: int = 111,
    source: str | Path = "auto",
    device: str = "auto",
) -> Result:
    """Pre-trains a backbone, or finds it trained, and fine-tunes it online.

    Args:
        task, backbone, seeds, profile, hyper, eval_every, ant_obs, source, device: as for ``pretrain``.
        method: name of the fine-tuning method, or a list of names.
        steps: environment steps; default: the profile's.
        offline_steps: updates before them; default: the profile's.
        replay: ``online``, ``mixed`` or ``half``; default: as the method's authors do, or the backbone's.
        method_hyper: hyper-parameters of the method.

    Raises:
        UserError: a name or a value is wrong, or there is no dataset.
    """
    profile = check_profile(profile or default_profile())
    amounts, seeds = AMOUNTS[profile], _seeds(seeds, profile)
    backbones = _names("backbone", backbone, BACKBONES)
    methods = _names("method", method, METHODS)
    data = dataset(task, source=source, rows=amounts.rows, ant_obs=ant_obs)
    kind = {"eval_every": eval_every, "ant_obs": ant_obs}
    offline = _offline(task, backbones, data, profile, seeds, offline_steps, hyper, **kind)
    specs = []
    steps = amounts.online_steps if steps is None else steps
    for start, name in itertools.product(offline, methods):
        drawn = replay or METHODS[name].replay or BACKBONES[start.backbone].replay
        own = METHODS[name].settings(find_task(task), steps)
        unread = drawn == "online" and not METHODS[name].needs_dataset
        specs.append(
            RunSpec(
                task,
                start.backbone,
                "online",
                steps,
                start.seed,
                hyper=start.hyper,
                method=name,
                method_hyper=own | dict(method_hyper or {}),
                dataset=None if unread else data,
                replay=drawn,
                start=start,
                ant_obs=ant_obs,
                eval_every=amounts.online_every if eval_every is None else eval_every,
                eval_episodes=amounts.episodes,
            )
        )
    return Result(train([*offline, *specs], device=device, label=task), data, profile)


def scratch(
    task: str,
    backbone: str | Sequence[str] = "sac",
    *,
    seeds: int | Sequence[int] | None = None,
    profile: str | None = None,
    steps: int | None = None,
    hyper: Mapping[str, Any] | None = None,
    eval_every: int | None = None,
    ant_obs: int = 111,
    device: str = "auto",
) -> Result:
    """Trains online without any data: what pre-training is to be compared with.

    One run serves all datasets of a robot or a hand: ``hopper-medium-v2`` means ``hopper``.

    Args:
        task, backbone, seeds, profile, hyper, eval_every, ant_obs, device: as for ``pretrain``.
        steps: environment steps; default: the profile's. The first ones are random.

    Raises:
        UserError: a name or a value is wrong, nothing would be learnt, or the task has no score to compare.
    """
    profile = check_profile(profile or default_profile())
    amounts, wanted = AMOUNTS[profile], find_task(task)
    normalised_score(task, 0.0)  # refused now, not after the training
    alike = (
        name
        for name, other in TASKS.items()
        if other.quality is None
        and (other.environment, other.scored) == (wanted.environment, wanted.scored)
    )
    task = next(alike, task)
    steps = amounts.online_steps if steps is None else steps
    if 0 < steps <= amounts.random_steps:
        raise UserError(
            f"learning from scratch begins after {amounts.random_steps:,} random steps; take more than "
            f"that. Got {steps:,}."
        )
    specs = [
        RunSpec(
            task,
            name,
            "online",
            steps,
            seed,
            hyper=settings(name, wanted, None, hyper),
            replay="online",
            learning_starts=amounts.random_steps,
            ant_obs=ant_obs,
            eval_every=amounts.offline_every if eval_every is None else eval_every,
            eval_episodes=amounts.episodes,
        )
        for name in _names("backbone", backbone, BACKBONES)
        for seed in _seeds(seeds, profile)
    ]
    return Result(train(specs, device=device, label=task), None, profile)


def _offline(
    task: str,
    backbones: Sequence[str],
    data: Dataset,
    profile: str,
    seeds: Sequence[int],
    steps: int | None,
    hyper: Mapping[str, Any] | None,
    *,
    eval_every: int | None,
    ant_obs: int,
) -> list[RunSpec]:
    amounts = AMOUNTS[profile]
    steps = amounts.offline_steps if steps is None else steps
    specs = []
    for backbone in backbones:
        given = BACKBONES[backbone].paced(steps) | dict(hyper or {})
        own = settings(backbone, find_task(task), data, given)
        specs += [
            RunSpec(
                task,
                backbone,
                "offline",
                steps,
                seed,
                hyper=own,
                dataset=data,
                ant_obs=ant_obs,
                eval_every=amounts.offline_every if eval_every is None else eval_every,
                eval_episodes=amounts.episodes,
            )
            for seed in seeds
        ]
    return specs


def _names(kind: str, given: str | Sequence[str], allowed: Collection[str]) -> list[str]:
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        if name not in allowed:
            raise unknown(kind, name, allowed)
    if not 0 < len(set(names)) == len(names):
        raise UserError(f"{kind} must be a name or a list of different ones; got {given!r}.")
    return names


def _seeds(seeds: int | Sequence[int] | None, profile: str) -> list[int]:
    if seeds is None:
        seeds = AMOUNTS[profile].seeds
    if isinstance(seeds, int) and not isinstance(seeds, bool) and seeds > 0:
        return list(range(seeds))
    listed = isinstance(seeds, Sequence) and not isinstance(seeds, str)
    if listed and 0 < len(set(seeds)) == len(seeds):
        return list(seeds)
    raise UserError(
        f"seeds must be a number of seeds, at least 1, or a list of different ones; got {seeds!r}."
    )
