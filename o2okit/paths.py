"""Where things lie: the project's root, the run store, the figures."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from o2okit.errors import UserError

MEND = (
    "Mend its permissions, or name another folder (O2OKIT_HOME, O2OKIT_RUNS, O2OKIT_DATA_DIR, "
    "D4RL_DATASET_DIR, MINARI_DATASETS_PATH)."
)


@contextlib.contextmanager
def looking() -> Iterator[None]:
    """Raises ``UserError`` where a file or folder may not be looked at."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{str(error.filename)!r} can't be looked at: {error.strerror}. {MEND}"
        ) from error


def readable(folder: Path) -> Path:
    """``folder``, which need not exist. Raises ``UserError`` where it does and can't be listed."""
    with looking():
        if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    return folder


@looking()
def home() -> Path:
    """The project's root: ``O2OKIT_HOME``, or the nearest folder upwards that holds ``notebooks/``.

    A notebook's kernel starts in the notebook's folder, so the search goes upwards from there, and
    then upwards from the installed package (an editable install lies in the project).
    """
    if named := os.environ.get("O2OKIT_HOME"):
        if not Path(named).is_dir():
            raise UserError(
                f"O2OKIT_HOME names {named!r}, which is not a folder. Make or unset it."
            )
        return Path(named).resolve()
    starts = [Path(__file__).resolve().parent]
    with contextlib.suppress(FileNotFoundError):  # the working directory was deleted
        starts.insert(0, Path.cwd())
    for start in starts:
        for folder in (start, *start.parents):
            if (folder / "notebooks").is_dir() and (folder / "o2okit").is_dir():
                return folder
    raise UserError(
        "the folder with notebooks/ was not found. Run from inside the repository, or set O2OKIT_HOME "
        "to the folder that should hold notebooks/, runs/ and figures/."
    )


def expanded(path: Path | str) -> Path:
    """A path as someone typed it, with ``~`` spelt out.

    Raises ``UserError`` for a user who is unknown or has no home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{str(path)!r}: there is no such user, or no home is known. Write the whole path, or set HOME."
        ) from error


def named(variable: str) -> Path | None:
    """The folder that an environment variable names, or ``None``.

    A relative one lies below the project's root, whoever asks: a notebook's kernel starts elsewhere than
    the command line.
    """
    value = os.environ.get(variable)
    if not value:
        return None
    path = expanded(value)
    return path if path.is_absolute() else home() / path


def runs() -> Path:
    """The run store: ``O2OKIT_RUNS`` or ``runs/``."""
    return named("O2OKIT_RUNS") or home() / "runs"


def figures(profile: str) -> Path:
    """``figures/``; smoke artefacts go to the run store instead and never replace real ones."""
    return runs() / "smoke-figures" if profile == "smoke" else home() / "figures"
