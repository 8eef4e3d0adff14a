"""C files beside Python ones, compiled where there is a compiler.

A small operation of PyTorch's costs 10 to 60 microseconds on a CPU between two large products, which have
taken its caches. What C does is always there in PyTorch, too: for GPUs, for machines without a compiler, and
to be read.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from o2okit.errors import UserError
from o2okit.files import replacing

FLAG = "O2OKIT_NATIVE"
# No fused multiply-add: the same bits, whatever the processor has.
OPTIONS = [
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-strict-aliasing",
    "-fPIC",
    "-shared",
]
# No folder of the user's, a full disk, a library that can't be loaded, a compiler without headers.
FAILURES = (OSError, RuntimeError, subprocess.SubprocessError)

LIBRARY = torch.library.Library("o2okit", "DEF")
Prepare = Callable[..., Callable[[], Any]]
PREPARED: dict[OpOverload, Prepare] = {}


def compiler() -> str | None:
    """What ``CC`` names, else ``cc``; ``None`` where it is not there or ``O2OKIT_NATIVE=0`` turns C off.

    Raises ``UserError`` for any other value of the flag than 0 and 1.
    """
    if (wanted := os.environ.get(FLAG, "1")) not in ("0", "1"):
        raise UserError(f"{FLAG} must be 0 or 1; got {wanted!r}.")
    return shutil.which(os.environ.get("CC", "cc")) if wanted == "1" else None


@cache
def compiled(source: Path) -> ctypes.CDLL | None:
    """The functions of a C file, compiled once for all processes; ``None`` where there is no ``compiler``.

    Where there is one and it fails, that is a warning.
    """
    if (command := compiler()) is None:
        return None
    what = [source.read_bytes(), platform.platform().encode(), *map(str.encode, OPTIONS)]
    key = hashlib.sha256(b"\0".join(what)).hexdigest()[:16]
    try:
        library = _folder() / f"{source.stem}-{key}.so"
        if not library.exists():
            with replacing(library) as beside:
                arguments = [command, *OPTIONS, str(source), "-o", str(beside), "-lm"]
                subprocess.run(arguments, check=True, capture_output=True, timeout=60)
        return ctypes.CDLL(str(library))
    except FAILURES as error:
        warnings.warn(
            f"{source.name} could not be compiled ({error}), so PyTorch does its work, which takes longer. "
            f"CC names another compiler, XDG_CACHE_HOME another folder; {FLAG}=0 does without.",
            stacklevel=2,
        )
        return None


def _folder() -> Path:
    """The user's cache."""
    named = os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named else Path.home() / ".cache") / "o2okit"


def operation(schema: str) -> Callable[[Prepare], OpOverload]:
    """Decorates what gets C ready for some tensors: it becomes an operation of PyTorch's on them, on a CPU.

    So it is recorded with the others (``o2okit.training.recording``), and a replay calls C at once.

    Args:
        schema: of arguments that are changed in place, as PyTorch writes it:
            ``(Tensor values, Tensor(a!) result) -> ()``.
    """

    def decorate(prepare: Prepare) -> OpOverload:
        name = prepare.__name__.strip("_")
        LIBRARY.define(name + schema)

        def on_cpu(*given: Any) -> None:
            prepare(*given)()

        LIBRARY.impl(name, on_cpu, "CPU")
        made = getattr(torch.ops.o2okit, name).default
        PREPARED[made] = prepare
        return made

    return decorate


def call(function: Any, *given: Tensor | float) -> Callable[[], Any]:
    """Calls a function of C's with pointers to contiguous tensors, ``int64_t`` and ``double``."""
    arguments = [_as_c(each) for each in given]

    def again() -> Any:
        return function(*arguments)

    again.tensors = [each for each in given if isinstance(each, Tensor)]  # whose memory it is
    return again


def _as_c(x: Tensor | float) -> Any:
    if isinstance(x, Tensor):
        return ctypes.c_void_p(x.data_ptr())
    return ctypes.c_int64(x) if isinstance(x, int) else ctypes.c_double(x)
