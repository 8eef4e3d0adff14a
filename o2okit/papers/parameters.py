"""Typed parameters of a study: checked before anything is computed.

papermill passes a misspelt parameter on without a word and leaves ``1e-4`` a string, so that both the
command line (before the kernel starts) and the notebook's first cell come through here.
"""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from o2okit import paths
from o2okit.data.sources import SOURCES
from o2okit.errors import UserError, is_whole, unknown
from o2okit.profiles import PROFILES


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        default: the value where none is given.
        check: returns the value in its final form or raises ``UserError``.
        doc: one line for ``o2okit list`` and error messages: what is allowed.
    """

    default: Any
    check: Callable[[str, Any], Any]
    doc: str


def choice(default: str, *allowed: str, doc: str) -> Parameter:
    """One of ``allowed``."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise unknown(name, value, allowed)
        return value

    return Parameter(default, check, f"{doc}: {', '.join(allowed)}")


def seeds(default: list[int] | int | None = None, *, doc: str = "seeds") -> Parameter:
    """A number of seeds (0, 1, ...), a list of seeds, or ``None`` for the profile's."""
    allowed = (
        "how many (1 to 1000), a list of different whole numbers >= 0, or None (the profile's)"
    )

    def check(name: str, value: Any) -> list[int] | None:
        if value is None:
            return None
        if is_whole(value) and 1 <= value <= 1000:
            return list(range(value))
        listed = value.tolist() if isinstance(value, np.ndarray) else value
        several = isinstance(listed, list | tuple | range) and len(listed) > 0
        several = several and all(is_whole(v) and v >= 0 for v in listed)
        if several and len(set(listed)) == len(listed):
            return list(map(int, listed))
        raise UserError(f"{name} must be {allowed}; got {value!r}. For instance 5 or [0, 3, 4].")

    return Parameter(default, check, f"{doc}: {allowed}")


def names(allowed: Sequence[str], *, doc: str) -> Parameter:
    """A name or a list of ``allowed``, or ``None`` for the profile's."""

    def check(name: str, value: Any) -> list[str] | None:
        if value is None:
            return None
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list | tuple) or not listed:
            raise UserError(
                f"{name} must be None or a list of these: {', '.join(allowed)}; got {value!r}."
            )
        for each in listed:
            if not isinstance(each, str) or each not in allowed:
                wanted = f"{name} must be None or a list of these; got {value!r}."
                raise unknown(name.removesuffix("s"), each, allowed, wanted)
        return list(dict.fromkeys(listed))

    return Parameter(None, check, doc)


def _source(name: str, value: Any) -> str:
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else ""
    if text in SOURCES:
        return text
    path = paths.expanded(text) if text else None
    try:
        there = path is not None and path.exists()
    except OSError:  # a name that is too long
        there = False
    if not there:
        raise UserError(
            f"{name} must be {', '.join(SOURCES)} or the path of a file that is there; got {value!r}."
        )
    return str(path.resolve())  # a notebook runs in a folder of its own


SOURCE = Parameter("auto", _source, f"where data come from: {', '.join(SOURCES)} or a path")
PROFILE = choice("laptop", *PROFILES, doc="how much is run")
DEVICE = choice("auto", "auto", "cpu", "cuda", doc="where the learner runs")


def check_all(parameters: Mapping[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with defaults filled in, checked one by one.

    Raises ``UserError`` for a name that does not exist and for a value that is not allowed.
    """
    for name in values:
        if name not in parameters:
            raise unknown("parameter", name, parameters)
    return {
        name: parameter.check(name, values.get(name, parameter.default))
        for name, parameter in parameters.items()
    }


def parse(text: str) -> Any:
    """A value typed at the command line: a Python number, list, None, true or false, else a string."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        with warnings.catch_warnings(action="ignore"):  # "1or", "\\d": odd Python, plain text here
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def typed(pairs: Iterable[tuple[str, str]], kind: str) -> dict[str, Any]:
    """Names and values as they were typed at the command line.

    Raises ``UserError`` for a name that is given twice; ``kind`` says what it is the name of.
    """
    values: dict[str, Any] = {}
    for name, text in pairs:
        if name in values:
            raise UserError(f"{kind} {name!r} is given twice.")
        values[name] = parse(text)
    return values
