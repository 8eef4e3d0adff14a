"""What code outside of this package does, as a part of what a run is.

A method of one's own is edited again and again. If its name and version alone stood in a run's id, the store
would answer with what the old code had learnt. So its source stands there, too: that of its class and of
those it derives from, of the functions and classes that they call by name, and the plain values that they
read. Comments and layout do not count, nor do packages that are installed.
"""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from types import CodeType
from typing import Any

from o2okit.errors import UserError

KIT = __name__.partition(".")[0]
NOTEBOOK = "__main__"
INSTALLED = tuple({sysconfig.get_path(k) for k in ("stdlib", "platstdlib", "purelib", "platlib")})
PLAIN = (bool, int, float, complex, str, bytes, type(None))


def version(cls: type) -> int | str:
    """The version of an algorithm: ``cls.version``, and with it the source of what is not this package's.

    Raises ``UserError`` where that can't be read.
    """
    if not is_own(cls):
        return cls.version
    text = "\n".join(_class(cls, set()))
    return f"{cls.version}, source {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def is_own(thing: Any) -> bool:
    """Whether a class or a function is the user's, not this package's."""
    return thing.__module__.partition(".")[0] != KIT


def _counts(thing: Any) -> bool:
    """Whether it is the user's and may be edited: in a notebook, or in a file that is not installed."""
    file = getattr(sys.modules.get(thing.__module__), "__file__", None)
    written = thing.__module__ == NOTEBOOK or (file and not file.startswith(INSTALLED))
    return is_own(thing) and bool(written)


def _class(cls: type, seen: set[Any]) -> Iterator[str]:
    """The lines that stand for a class and those it derives from."""
    for each in cls.__mro__:
        if each in seen or not _counts(each):
            continue
        seen.add(each)
        yield f"class {each.__qualname__}"
        for name, value in sorted(vars(each).items()):
            if inspect.isfunction(value) or not name.startswith("__"):  # not its docstring
                yield from _value(name, value, seen)


def _value(name: str, value: Any, seen: set[Any]) -> Iterator[str]:
    """The lines that stand for an attribute of a class, or for what a function reads."""
    parts = [getattr(value, part, None) for part in ("__func__", "func", "fget", "fset")]
    for each in (inspect.unwrap(part) for part in (value, *parts) if callable(part)):
        if isinstance(each, type):
            yield from _class(each, seen)
        elif inspect.isfunction(each) and _counts(each):
            yield from _function(each, seen)
    if _plain(value):
        yield f"{name} = {value!r}"


def _plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(_plain(part) for item in value.items() for part in item)
    return isinstance(value, PLAIN)


def _function(function: Any, seen: set[Any]) -> Iterator[str]:
    code = function.__code__
    written_by_dataclass = code.co_filename == "<string>" and code.co_name.startswith("__")
    if code in seen or written_by_dataclass:
        return
    seen.add(code)
    yield _text(code)
    reads = {name: function.__globals__.get(name) for name in _globals(code)}
    reads |= inspect.getclosurevars(function).nonlocals
    for name, value in sorted(reads.items()):
        yield from _value(name, value, seen)


def _globals(code: CodeType) -> set[str]:
    """The names that a function, and those inside it, look up in its module."""
    inside = (const for const in code.co_consts if isinstance(const, CodeType))
    own = {each.argval for each in dis.get_instructions(code) if each.opname == "LOAD_GLOBAL"}
    return own.union(*map(_globals, inside))


@functools.cache  # as it was first read: a file may be edited while its code runs
def _text(code: CodeType) -> str:
    try:
        text = textwrap.dedent(inspect.getsource(code))
    except (OSError, TypeError) as error:
        raise UserError(
            f"the source of {code.co_qualname} can't be read, and it is part of what a run is: an edited "
            "method must not be taken for the old one. Write the class in a notebook or in a file."
        ) from error
    try:
        return ast.unparse(ast.parse(text))
    except SyntaxError:  # a lambda in the middle of an expression
        return text
