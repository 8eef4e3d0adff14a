"""One line to a result: pre-train a backbone on a task's dataset, fine-tune it with a method.

    import o2okit
    result = o2okit.finetune("hopper-medium-v2", "iql", seeds=3)
    result.frame, result.summary(), result.plot()

A hyper-parameter with a list of values is a sweep: ``method_hyper={"k": [5, 10, 25]}``. Where it may differ
between runs, all of them are trained together.

Runs are kept in the run store: a second call finds them. A profile's amounts are those of GDE's main
sections, and what methods have scaled with it is GDE's or QCSE's; where the hyper-parameters are equal, too
(BC, TD3+BC, IQL, SAC), so are the runs. The dataset is D4RL's where it is on this machine, else the kit's,
which is built on the spot.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from o2okit.backbones import BACKBONES
from o2okit.backbones.settings import authors
from o2okit.data import Dataset
from o2okit.errors import UserError, is_whole, known, whole
from o2okit.hyper import complete, given, listed
from o2okit.methods import METHODS
from o2okit.papers.gde.entries import AMOUNTS
from o2okit.papers.qcse.entries import AMOUNTS as QCSE_AMOUNTS
from o2okit.profiles import check_profile, default_profile
from o2okit.result import Result
from o2okit.tasks import normalised_score
from o2okit.tasks import task as find_task
from o2okit.training import RunSpec, protocol, train
from o2okit.training.obtain import STAND_IN, dataset
from o2okit.training.train import resolve_device

HYPER_COLUMNS = ["name", "default", "allowed", "per run", "symbol", "source"]


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
        hyper: hyper-parameters that differ from the backbone's own for the task; a list of values is a sweep.
            Where backbones differ, a dictionary of such: ``{"iql": {"beta": 1.0}}``.
        eval_every: steps between evaluations; default: the profile's.
        ant_obs: 27 trains ant without the zeros of its 111 observations, as in ``RunSpec``.
        source: where the dataset comes from, as for ``dataset``.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        UserError: a name or a value is wrong, or there is no dataset.
    """
    profile = default_profile() if profile is None else check_profile(profile)
    backbones, seeds = _names("backbone", backbone, BACKBONES), _seeds(seeds, profile)
    kind = {"eval_every": eval_every, "ant_obs": ant_obs}

    def specs(data: Dataset) -> list[RunSpec]:
        return _offline(task, backbones, data, profile, seeds, steps, hyper, **kind)

    return _run(specs, task, profile, source, ant_obs, device)


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
    online_hyper: Mapping[str, Any] | None = None,
    method_hyper: Mapping[str, Any] | None = None,
    updates_per_step: int = 1,
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
        replay: ``online``, ``mixed``, ``half`` or ``part`` (``RunSpec``); default: the method's authors',
            else the backbone's.
        online_hyper: hyper-parameters of the backbone that change when it is fine-tuned, in the same way:
            ``{"calibrate": False}``. The others stay, but for those that always change then: IQL's rate is
            constant, unless ``{"cosine_steps": n}``, the pre-training's ``n``, goes on with its cosine.
        method_hyper: hyper-parameters of the method, in the same way.
        updates_per_step: gradient updates per environment step.

    Raises:
        UserError: a name or a value is wrong, or there is no dataset.
    """
    profile = default_profile() if profile is None else check_profile(profile)
    amounts, seeds = AMOUNTS[profile], _seeds(seeds, profile)
    if offline_steps is not None:
        offline_steps = whole("offline_steps", offline_steps, 1)
    scaled = _scaled(profile)
    backbones = _names("backbone", backbone, BACKBONES)
    methods = _names("method", method, METHODS)
    kind = {"eval_every": eval_every, "ant_obs": ant_obs}

    def specs(data: Dataset) -> list[RunSpec]:
        every, episodes = amounts.evaluations[find_task(task).family]
        offline = _offline(task, backbones, data, profile, seeds, offline_steps, hyper, **kind)
        online = [
            protocol.online(
                start,
                name,
                amounts.online_steps if steps is None else steps,
                replay=replay,
                hyper=changed,
                method_hyper=scaled.get(name, {}) | own,
                updates_per_step=updates_per_step,
                eval_every=every if eval_every is None else eval_every,
                eval_episodes=episodes,
            )
            for start, name in itertools.product(offline, methods)
            for changed in _settings(BACKBONES, start.backbone, online_hyper, backbones)
            for own in _settings(METHODS, name, method_hyper, methods)
        ]
        return [*offline, *online]

    return _run(specs, task, profile, source, ant_obs, device)


def scratch(
    task: str,
    backbone: str | Sequence[str] = "sac",
    *,
    seeds: int | Sequence[int] | None = None,
    profile: str | None = None,
    steps: int | None = None,
    hyper: Mapping[str, Any] | None = None,
    updates_per_step: int = 1,
    eval_every: int | None = None,
    ant_obs: int = 111,
    device: str = "auto",
) -> Result:
    """Trains online without any data: what pre-training is to be compared with.

    One run serves all datasets of a robot or a hand: ``hopper-medium-v2`` means ``hopper``.

    Args:
        task, backbone, seeds, profile, hyper, eval_every, ant_obs, device: as for ``pretrain``.
        steps: environment steps; default: the profile's. The first ones are random.
        updates_per_step: gradient updates per environment step.

    Raises:
        UserError: a name or a value is wrong, nothing would be learnt, or the task has no score to compare.
    """
    profile = default_profile() if profile is None else check_profile(profile)
    amounts = AMOUNTS[profile]
    normalised_score(task, 0.0)  # refused now, not after the training
    steps = amounts.online_steps if steps is None else steps
    every, episodes = amounts.evaluations[find_task(task).family]
    backbones = _names("backbone", backbone, BACKBONES)
    specs = [
        protocol.scratch(
            task,
            name,
            steps,
            seed,
            random_steps=amounts.random_steps,
            hyper=own,
            updates_per_step=updates_per_step,
            ant_obs=ant_obs,
            eval_every=every if eval_every is None else eval_every,
            eval_episodes=episodes,
        )
        for name in backbones
        for own in _settings(BACKBONES, name, hyper, backbones)
        for seed in _seeds(seeds, profile)
    ]
    return Result(train(specs, device=device, label=task), None, profile)


def hyperparameters(
    name: str, task: str | None = None, *, profile: str | None = None
) -> pd.DataFrame:
    """What can be set in a backbone or a method, a row each.

    Args:
        name: of the backbone or the method.
        task: adds a column with what is taken there, by its authors' settings and in this profile.
        profile: as for ``pretrain``.

    Returns:
        Index: name; columns ``default``, ``allowed``, ``per run`` (whether runs of a cohort may differ in it,
        so that a sweep is trained together), ``symbol`` and ``source`` (spec 2 is section 2 of a
        specification).

    Raises:
        UserError: a name does not exist.
    """
    known("backbone or method", name, [*BACKBONES, *METHODS])
    profile = default_profile() if profile is None else check_profile(profile)
    rows = listed({**METHODS, **BACKBONES}[name].Hyperparameters)
    table = pd.DataFrame(rows, columns=HYPER_COLUMNS).set_index("name")
    if task is None:
        return table
    where, amounts = find_task(task), AMOUNTS[profile]
    if name in BACKBONES:
        here = authors(name, where) | BACKBONES[name].paced(amounts.offline_steps)
    else:
        here = METHODS[name].settings(where, amounts.online_steps) | _scaled(profile).get(name, {})
    taken = {
        key: "by the dataset" if callable(value) else value
        for key, value in (table["default"].to_dict() | here).items()
    }
    table.insert(1, task, pd.Series(taken, dtype=object))
    return table


def _scaled(profile: str) -> dict[str, dict[str, Any]]:
    """Per method the hyper-parameters that a profile scales."""
    return dict(QCSE_AMOUNTS[profile].method_hyper | AMOUNTS[profile].method_hyper)


def _run(
    specs: Callable[[Dataset], list[RunSpec]],
    task: str,
    profile: str,
    source: str | Path,
    ant_obs: int,
    device: str,
) -> Result:
    """Trains what ``specs`` asks for. A mistake is told before a dataset is built."""
    resolve_device(device)
    find_task(task, ant_obs)
    if not isinstance(source, str | Path):
        raise UserError(f"source must be a name or a path, as for dataset; got {source!r}.")
    amount = {"source": source, "rows": AMOUNTS[profile].rows, "ant_obs": ant_obs}
    data = dataset(task, **amount, build=False)
    wanted = specs(data)
    if data.source == STAND_IN:
        data = dataset(task, **amount)
        wanted = specs(data)
    return Result(train(wanted, device=device, label=task), data, profile)


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
            hyper=own,
            ant_obs=ant_obs,
            eval_every=every if eval_every is None else eval_every,
            eval_episodes=episodes,
        )
        for backbone in backbones
        for own in _settings(BACKBONES, backbone, hyper, backbones)
        for seed in seeds
    ]


def _names(kind: str, given: str | Sequence[str], allowed: Collection[str]) -> list[str]:
    names = [given] if isinstance(given, str) else given
    if isinstance(names, Sequence):
        names = [known(kind, name, allowed) for name in names]
        if 0 < len(set(names)) == len(names):
            return names
    raise UserError(f"{kind} must be a name or a list of different ones; got {given!r}.")


def _of(name: str, hyper: Mapping[str, Any] | None, names: Sequence[str]) -> dict[str, Any]:
    """The hyper-parameters of one of ``names``: all that is given, or what is given under its name."""
    hyper = given(hyper)
    if not any(isinstance(value, Mapping) for value in hyper.values()):
        return hyper
    for key, value in hyper.items():
        known("name among the hyper-parameters", key, names)
        if not isinstance(value, Mapping):
            raise UserError(f"the hyper-parameters of {key!r} are a dictionary; got {value!r}.")
    return dict(hyper.get(name, {}))


def _settings(
    table: Mapping[str, type], name: str, hyper: Mapping[str, Any] | None, names: Sequence[str]
) -> list[dict[str, Any]]:
    """The hyper-parameters of one of ``names``: every combination of the values that are listed."""
    own, cls = _of(name, hyper, names), table[name].Hyperparameters
    has = {each: {f.name for f in fields(table[each].Hyperparameters)} for each in names}
    for key in own:
        whose = [each for each in names if key in has[each]]
        if whose and name not in whose:
            raise UserError(
                f"{name!r} has no hyper-parameter {key!r}. Where several are compared, say whose it is: "
                f"{{{whose[0]!r}: {{{key!r}: ...}}}}."
            )
    sizes = {each.name for each in fields(cls) if isinstance(each.default, tuple)}
    options: dict[str, list[Any]] = {}
    for key, value in own.items():
        # Layers are a list themselves; a sweep over them is one of lists.
        swept = isinstance(value, list | range | np.ndarray)
        if swept and key in sizes:
            swept = any(isinstance(each, list | tuple) for each in value)
        # As they will be: 3 and 3.0 are the same.
        options[key] = [complete(cls, {key: each})[key] for each in (value if swept else [value])]
        if not 0 < len(set(options[key])) == len(options[key]):
            raise UserError(f"{key}: a sweep is a list of different values; got {value!r}.")
    return [
        dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())
    ]


def _seeds(seeds: int | Sequence[int] | None, profile: str) -> list[int]:
    if seeds is None:
        seeds = AMOUNTS[profile].seeds
    if is_whole(seeds) and seeds > 0:
        return list(range(seeds))
    listed = isinstance(seeds, Sequence) or (isinstance(seeds, np.ndarray) and seeds.ndim == 1)
    if listed and all(map(is_whole, seeds)) and 0 < len(set(seeds)) == len(seeds):
        return [int(seed) for seed in seeds]
    raise UserError(
        f"seeds must be a number of seeds, at least 1, or a list of different ones; got {seeds!r}."
    )
