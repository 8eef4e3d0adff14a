"""Errors whose message is written for the person at the keyboard."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Collection, Iterable
from numbers import Integral
from pathlib import Path

HERE = str(Path(__file__).parent)


class UserError(ValueError):
    """Something the user can mend. The message says what was wrong, what is allowed, what next.

    The command line prints it without a traceback and exits with status 2.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython and Jupyter show: the line that asked for it and the message, nothing between."""
        frames = traceback.extract_tb(self.__traceback__)
        inside = [number for number, frame in enumerate(frames) if frame.filename.startswith(HERE)]
        asked = frames[inside[0] - 1 if inside else -1]
        return [f"line {asked.lineno}: {asked.line}", f"{type(self).__name__}: {self}"]


def unknown(kind: str, value: object, allowed: Iterable[str], hint: str = "") -> UserError:
    """The error for a name that does not exist; the caller raises it.

    Args:
        kind: what the name stands for, in the singular: ``"profile"``.
        value: what was given.
        allowed: the names that exist.
        hint: one more sentence, for instance a command that lists them.
    """
    names = [str(name) for name in allowed]
    listed = [repr(name) if "," in name else name for name in names[:40]]
    close = difflib.get_close_matches(str(value), names, n=3, cutoff=0.6)
    message = f"unknown {kind} {value!r}."
    if close:
        message += f" Did you mean {' or '.join(repr(name) for name in close)}?"
    shown = ", ".join(listed) + (f", ... ({len(names)} in all)" if len(names) > 40 else "")
    message += f" Allowed: {shown or 'none exist yet'}."
    return UserError(f"{message} {hint}".strip())


def known(kind: str, value: object, allowed: Collection[str]) -> str:
    """A name that exists. Raises ``UserError`` (``unknown``), whatever type ``value`` has."""
    if not isinstance(value, str) or value not in allowed:
        raise unknown(kind, value, allowed)
    return value


def is_whole(value: object) -> bool:
    """Whether it is a whole number, Python's or NumPy's; a truth value is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def whole(name: str, value: object, low: int) -> int:
    """A whole number of at least ``low``, as Python's. Raises ``UserError``."""
    if not is_whole(value) or value < low:
        raise UserError(f"{name} must be a whole number >= {low}; got {value!r}.")
    return int(value)
