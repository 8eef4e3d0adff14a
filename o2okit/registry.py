"""Methods and backbones of one's own, beside those of this package.

    class Clipped(Naive):
        def reward(self, batch):
            return batch.reward.clamp(max=1.0)

    o2okit.register("clipped", Clipped)
    o2okit.finetune("hopper-medium-v2", "iql", ["naive", "clipped"])

What is registered works as what is here does: cohorts, sweeps, resuming, the run store, where its source is
part of a run's id (``o2okit.source``). ``o2okit.check`` tries that out.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from collections.abc import Iterable
from typing import Any

from o2okit import hyper, source
from o2okit.backbones import BACKBONES, Agent
from o2okit.data import REPLAYS
from o2okit.errors import UserError, known, unknown, whole
from o2okit.methods import METHODS, Naive

NAME = re.compile(r"[a-z0-9][a-z0-9+_-]*")  # it is part of files' names
NEEDED = ("learn", "act", "greedy")  # of a backbone
LIKE = 0.87  # names so similar are the same, misspelt


def register(name: str, cls: type) -> type:
    """Gives a method or a backbone a name, under which everything finds it from now on.

    Again under the same name it takes the place of the former: run the cell as often as you like.

    Args:
        name: small letters, digits, ``+``, ``-`` and ``_``.
        cls: a method derives from ``o2okit.methods.Naive`` or another method, a backbone from
            ``o2okit.backbones.Agent`` or another backbone.

    Returns:
        ``cls``.

    Raises:
        UserError: the name is taken by one of the kit's, or the class can't be trained as it is: the message
            says why.
    """
    table = _table(cls)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(
            f"a name has small letters, digits, +, - and _, e.g. 'mine-2'; got {name!r}."
        )
    for taken in (METHODS, BACKBONES):
        if name in taken and not (taken is table and source.is_own(taken[name])):
            raise UserError(f"the name {name!r} is taken by {taken[name].__name__}. Take another.")
    if not source.is_own(cls):
        raise UserError(f"{cls.__name__} is the kit's. Derive a class of your own from it.")
    _check_hyperparameters(cls)
    _check_names(cls)
    if cls.replay is not None:
        known(f"{cls.__name__}.replay", cls.replay, REPLAYS)
    if issubclass(cls, Naive):
        _check_backbones(cls)
        if not isinstance(cls.n_step, property):  # which Cohort looks at
            whole(f"{cls.__name__}.n_step", cls.n_step, 1)
    elif missing := [each for each in NEEDED if getattr(cls, each) is getattr(Agent, each)]:
        raise UserError(f"backbone {cls.__name__} defines no {', '.join(missing)} (Agent).")
    source.version(cls)  # read while it is what runs; refuses what can't be read
    table[name] = cls
    return cls


def _table(cls: Any) -> dict[str, Any]:
    if isinstance(cls, type):
        for base, table in ((Naive, METHODS), (Agent, BACKBONES)):
            if issubclass(cls, base):
                return table
    raise UserError(
        f"what is registered is a class derived from o2okit.methods.Naive (a method) or "
        f"o2okit.backbones.Agent (a backbone); got {cls!r}."
    )


def _check_hyperparameters(cls: type) -> None:
    """That they are as ``o2okit.hyper`` makes them: otherwise nobody knows which ones a cohort shares."""
    kind = getattr(cls, "Hyperparameters", None)
    if not (isinstance(kind, type) and "__dataclass_fields__" in vars(kind)):
        raise UserError(
            f"{cls.__name__}.Hyperparameters must be a class under @dataclass(frozen=True); got {kind!r}."
        )
    made = {field.name for field in dataclasses.fields(kind) if "per_run" in field.metadata}
    if plain := [field.name for field in dataclasses.fields(kind) if field.name not in made]:
        raise UserError(
            f"{kind.__qualname__}.{plain[0]} must say whether runs of a cohort may differ in it: "
            f"`{plain[0]}: float = per_run(1.0, symbol, source)`, or static or choice, from o2okit.hyper."
        )
    hyper.complete(kind, {})  # a default that is out of its own range


def _check_names(cls: type) -> None:
    """That what changes something has the name and the arguments that it is called by."""
    base = next(each for each in cls.__mro__ if not source.is_own(each))  # one of the kit's
    theirs = {name: getattr(base, name) for name in dir(base) if not name.startswith("_")}
    for own in filter(source.is_own, cls.__mro__):
        if "__init__" in vars(own):
            _check_arguments(own, "__init__", base.__init__)
        for name in vars(own):
            if inspect.isroutine(theirs.get(name)):
                _check_arguments(own, name, theirs[name])
            elif name not in theirs and not name.startswith("_"):
                _check_name(own, name, theirs)


def _check_name(own: type, name: str, known: Iterable[str]) -> None:
    if close := difflib.get_close_matches(name, list(known), n=1, cutoff=LIKE):
        raise UserError(
            f"{own.__name__}.{name} is known to nobody here; did you mean {close[0]!r}? What is only yours "
            "should not have a name so similar, or begin with _."
        )


def _check_arguments(own: type, name: str, theirs: Any) -> None:
    wanted = inspect.signature(theirs)
    try:
        inspect.signature(getattr(own, name)).bind(*wanted.parameters)
    except TypeError as error:
        raise UserError(
            f"{own.__name__}.{name} is called with {', '.join(wanted.parameters)}: {error}."
        ) from error


def _check_backbones(cls: type[Naive]) -> None:
    if not isinstance(cls.backbones, tuple | list):  # in a string every letter would be looked for
        raise UserError(
            f"{cls.__name__}.backbones must be a tuple of names; got {cls.backbones!r}."
        )
    for backbone in cls.backbones:
        if backbone not in BACKBONES:
            raise unknown(f"backbone in {cls.__name__}.backbones", backbone, BACKBONES)
