"""What code outside of this package does, as a part of what a run is.

A method of one's own is edited again and again. If its name and version alone stood in a run's id, the store
would answer with what the old code had learnt. So its source stands there, too: that of its class and of
those it derives from, of the functions and classes that they call by name, the values that they read, and
the whole of a module that they call something in. Comments and layout do not count, nor do packages that
are installed.
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
from types import CodeType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor

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
    return is_own(thing) and _written(thing.__module__)


def _written(module: str) -> bool:
    file = getattr(sys.modules.get(module), "__file__", None)
    return module == NOTEBOOK or bool(file and not file.startswith(INSTALLED))


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
    if _plain(value):
        yield f"{name} = {value!r}"
    elif isinstance(value, np.ndarray | Tensor):
        array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
        yield f"{name} = {array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    elif isinstance(value, set | frozenset):
        yield f"{name} = {sorted(map(repr, value))}"
    elif isinstance(value, dict | list | tuple):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in parts:
            yield from _value(f"{name}[{key!r}]", part, seen)
    elif inspect.ismodule(value):
        if (
            value not in seen
            and value.__name__.partition(".")[0] != KIT
            and _written(value.__name__)
        ):
            seen.add(value)
            yield _text(value)
    elif isinstance(value, type):
        yield from _class(value, seen)
    else:
        yield from _object(name, value, seen)


def _object(name: str, value: Any, seen: set[Any]) -> Iterator[str]:
    """A function, what is made of some (a method, a property, a partial, a decorated one), an instance."""
    if inspect.isfunction(value):
        if _counts(value):
            yield from _function(value, seen)
    elif _counts(type(value)) and id(value) not in seen:
        seen.add(id(value))
        yield from _class(type(value), seen)
        for key, part in sorted(getattr(value, "__dict__", {}).items()):
            yield from _value(f"{name}.{key}", part, seen)
    for part in ("__wrapped__", "__func__", "func", "args", "keywords", "fget", "fset"):
        inside = inspect.getattr_static(value, part, None) is not None and getattr(value, part)
        if callable(inside) or isinstance(value, functools.partial):
            yield from _value(f"{name}.{part}", inside, seen)


def _plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(_plain(part) for item in value.items() for part in item)
    return isinstance(value, PLAIN)


def _function(function: Any, seen: set[Any]) -> Iterator[str]:
    code = function.__code__
    written_by_dataclass = code.co_filename == "<string>" and code.co_name.startswith("__")
    if function in seen or written_by_dataclass:
        return
    seen.add(function)
    yield _text(code)
    reads = {name: function.__globals__.get(name) for name in _names(code, "LOAD_GLOBAL")}
    reads |= {f"import {name}": sys.modules.get(name) for name in _names(code, "IMPORT_NAME")}
    reads |= inspect.getclosurevars(function).nonlocals
    reads |= {"defaults": function.__defaults__, "kwdefaults": function.__kwdefaults__}
    for name, value in sorted(reads.items()):
        yield from _value(name, value, seen)


def _names(code: CodeType, kind: str) -> set[str]:
    """The names that a function, and those inside it, look up in its module, or import."""
    inside = (const for const in code.co_consts if isinstance(const, CodeType))
    own = {each.argval for each in dis.get_instructions(code) if each.opname == kind}
    return own.union(*(_names(each, kind) for each in inside))


@functools.cache  # as it was first read: a file may be edited while its code runs
def _text(code: CodeType | ModuleType) -> str:
    try:
        text = textwrap.dedent(inspect.getsource(code))
    except (OSError, TypeError) as error:
        name = code.__name__ if isinstance(code, ModuleType) else code.co_qualname
        raise UserError(
            f"the source of {name} can't be read, and it is part of what a run is: an edited "
            "method must not be taken for the old one. Write the class in a notebook or in a file."
        ) from error
    try:
        return ast.unparse(ast.parse(text))
    except SyntaxError:  # a lambda in the middle of an expression
        return text
