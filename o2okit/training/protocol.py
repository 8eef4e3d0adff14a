"""What pre-training, fine-tuning and training from scratch are, run by run: the one place that decides.

``run`` stands for what else a ``RunSpec`` takes: ``eval_every``, ``eval_episodes``, ``ant_obs``, ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from o2okit.backbones import BACKBONES
from o2okit.backbones.settings import settings
from o2okit.data import Dataset
from o2okit.errors import UserError, known, whole
from o2okit.hyper import given
from o2okit.methods import METHODS
from o2okit.tasks import environment_of
from o2okit.tasks import task as find_task
from o2okit.training.spec import RunSpec


def offline(
    task: str,
    backbone: str,
    data: Dataset,
    steps: int,
    seed: int,
    *,
    hyper: Mapping[str, Any] | None = None,
    **run: Any,
) -> RunSpec:
    """Pre-training on a dataset, with the task's own hyper-parameters unless others are given.

    Raises ``UserError`` as ``RunSpec`` does.
    """
    agent, steps = BACKBONES[known("backbone", backbone, BACKBONES)], whole("steps", steps, 1)
    own = settings(backbone, find_task(task), data, agent.paced(steps) | given(hyper))
    return RunSpec(task, backbone, "offline", steps, seed, hyper=own, dataset=data, **run)


def online(
    start: RunSpec,
    method: str,
    steps: int,
    *,
    backbone: str | None = None,
    replay: str | None = None,
    hyper: Mapping[str, Any] | None = None,
    method_hyper: Mapping[str, Any] | None = None,
    **run: Any,
) -> RunSpec:
    """Fine-tuning of a pre-trained agent on its task.

    Args:
        start: the pre-training.
        method: name of the fine-tuning method.
        steps: environment steps.
        backbone: whose losses fine-tune, where they are not those of the pre-training; it takes over the
            hyper-parameters that it has, too.
        replay: ``online``, ``mixed``, ``half`` or ``part`` (``RunSpec``); default: the method's, else the
            backbone's authors'.
        hyper: hyper-parameters of the backbone that change now, beside those that always do
            (``Agent.fine_tuning``).
        method_hyper: hyper-parameters of the method that differ from its own for the task.
        run: further fields of ``RunSpec``.

    Raises:
        UserError: as ``RunSpec``.
    """
    backbone = start.backbone if backbone is None else backbone
    agent = BACKBONES[known("backbone", backbone, BACKBONES)]
    changes, steps = METHODS[known("method", method, METHODS)], whole("steps", steps, 1)
    drawn = replay if replay is not None else changes.replay or agent.replay
    has = {each.name for each in fields(agent.Hyperparameters)}
    kept = {name: value for name, value in start.hyper.items() if name in has}
    own = changes.settings(find_task(start.task), steps)
    unread = drawn == "online" and not changes.needs_dataset
    return RunSpec(
        start.task,
        backbone,
        "online",
        steps,
        start.seed,
        hyper=kept | dict(agent.fine_tuning) | given(hyper),
        method=method,
        method_hyper=own | given(method_hyper),
        dataset=None if unread else start.dataset,
        replay=drawn,
        start=start,
        **{"ant_obs": start.ant_obs, **run},
    )


def scratch(
    task: str,
    backbone: str,
    steps: int,
    seed: int,
    *,
    random_steps: int,
    data: Dataset | None = None,
    hyper: Mapping[str, Any] | None = None,
    **run: Any,
) -> RunSpec:
    """Training online from nothing, after ``random_steps``.

    Without data one run serves all tasks of an environment (specs/gde.md 3).

    Args:
        task, backbone, steps, seed, hyper, run: as for ``offline`` and ``RunSpec``.
        random_steps: uniform actions before the first update.
        data: the replay holds these, too.

    Raises:
        UserError: as ``RunSpec``.
    """
    agent = BACKBONES[known("backbone", backbone, BACKBONES)]
    if data is None:
        if agent.imitates:
            raise UserError(
                f"{backbone!r} imitates: from scratch there is nothing but its own actions. Take a backbone "
                "that learns from rewards, such as 'sac'."
            )
        task = environment_of(task)
    return RunSpec(
        task,
        backbone,
        "online",
        steps,
        seed,
        hyper=settings(backbone, find_task(task), data, hyper),
        replay="online" if data is None else "mixed",
        dataset=data,
        learning_starts=random_steps,
        **run,
    )
