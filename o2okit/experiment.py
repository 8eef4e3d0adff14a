"""One line to a result: pre-train a backbone on a task's dataset, fine-tune it with a method.

    import o2okit
    result = o2okit.finetune("hopper-medium-v2", "iql", seeds=3)
    result.frame, result.summary(), result.plot()

Runs are kept in the run store: a second call finds them. A profile's amounts are those of GDE's main
sections, so that equal runs are shared. The dataset is D4RL's where it is on this machine, else the kit's,
which is built on the spot.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from o2okit.backbones import BACKBONES
from o2okit.data import Dataset
from o2okit.errors import UserError, unknown
from o2okit.methods import METHODS
from o2okit.papers.gde.entries import AMOUNTS
from o2okit.profiles import check_profile, default_profile
from o2okit.result import Result
from o2okit.tasks import normalised_score
from o2okit.tasks import task as find_task
from o2okit.training import RunSpec, protocol, train
from o2okit.training.obtain import dataset


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
    every, episodes = amounts.evaluations[find_task(task).family]
    specs = [
        protocol.online(
            start,
            name,
            amounts.online_steps if steps is None else steps,
            replay=replay,
            method_hyper=method_hyper,
            eval_every=every if eval_every is None else eval_every,
            eval_episodes=episodes,
        )
        for start, name in itertools.product(offline, methods)
    ]
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
    amounts = AMOUNTS[profile]
    normalised_score(task, 0.0)  # refused now, not after the training
    steps = amounts.online_steps if steps is None else steps
    if 0 < steps <= amounts.random_steps:
        raise UserError(
            f"learning from scratch begins after {amounts.random_steps:,} random steps; take more than "
            f"that. Got {steps:,}."
        )
    every, episodes = amounts.offline_evaluations[find_task(task).family]
    specs = [
        protocol.scratch(
            task,
            name,
            steps,
            seed,
            random_steps=amounts.random_steps,
            hyper=hyper,
            ant_obs=ant_obs,
            eval_every=every if eval_every is None else eval_every,
            eval_episodes=episodes,
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
    every, episodes = amounts.offline_evaluations[find_task(task).family]
    return [
        protocol.offline(
            task,
            backbone,
            data,
            amounts.offline_steps if steps is None else steps,
            seed,
            hyper=hyper,
            ant_obs=ant_obs,
            eval_every=every if eval_every is None else eval_every,
            eval_episodes=episodes,
        )
        for backbone in backbones
        for seed in seeds
    ]


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
