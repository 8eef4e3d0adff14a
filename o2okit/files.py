"""Files that a reader sees whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write; at the end it is flushed to the disk and takes its place.

    Whatever goes wrong, the old file stays and the half-written one goes. Raises ``OSError``: the
    caller knows what the file is for and words the message.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        _flush(beside)
        beside.replace(path)
        _flush(path.parent)  # the new name, too
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
