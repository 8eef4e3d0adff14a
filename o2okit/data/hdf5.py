"""D4RL's HDF5 files, read and written. Nothing in them is ever executed or unpickled."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from o2okit.data.rows import REQUIRED, WANTED, Rows, checked_rows
from o2okit.errors import UserError
from o2okit.files import replacing
from o2okit.paths import expanded
from o2okit.tasks import Task

OPTIONAL = ("timeouts", "next_observations")
INFOS = ("infos/qpos", "infos/qvel", "infos/goal")
PROVENANCE = "o2okit"  # the attribute that holds it, as JSON
AGAIN = "Delete it and fetch or build it again."
KINDS = {  # how files begin that are taken for HDF5
    b"\x80": "a pickle, which is never opened because it could execute anything",
    b"\x93NUMPY": "a NumPy file",
    b"<": "a web page: the download failed",
    b"PK": "a zip archive",
    b"\x1f\x8b": "a gzip archive: unpack it first",
}


def open_file(path: Path) -> h5py.File:
    """Opens for reading. Raises ``UserError`` that says what is wrong with the file."""
    try:
        if path.is_dir():
            raise UserError(f"{path}: this is a folder. Name a file in it.")
        if not path.stat().st_size:
            raise UserError(f"{path}: the file is empty. {AGAIN}")
        with path.open("rb") as file:
            start = file.read(8)
        if not h5py.is_hdf5(path):
            kinds = (f" but {text}" for key, text in KINDS.items() if start.startswith(key))
            raise UserError(f"{path}: not an HDF5 file{next(kinds, '')}. {AGAIN}")
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file. `o2okit data where TASK` shows where data are looked for."
        ) from None
    except PermissionError as error:
        raise UserError(f"{path} may not be read. Mend its permissions.") from error
    except OSError as error:
        if cut := re.search(r"eof = (\d+).*stored_eof = (\d+)", str(error)):
            what = f"the file is cut off: {cut[1]} of {cut[2]} bytes"
        else:
            what = f"the file can't be read ({error.strerror or error})"
        raise UserError(f"{path}: {what}. {AGAIN}") from error


@contextlib.contextmanager
def intact(what: object) -> Iterator[None]:
    """Raises ``UserError`` that ``what`` is damaged for all that reading a damaged file raises.

    The HDF5 library meets flipped bits wherever it happens to read them, and h5py passes them on by chance.
    """
    try:
        yield
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{what} may not be read. Mend its permissions.") from error
    except (
        *(OSError, LookupError, RuntimeError, ValueError, TypeError),
        *(MemoryError, OverflowError, AttributeError),
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{what} is damaged ({reason}). {AGAIN}") from error


def array(where: object, group: h5py.Group, name: str, rows: int | None = None) -> np.ndarray:
    """The first ``rows`` rows of a field, all if ``None``.

    Raises:
        UserError: it is no array of numbers, lies outside the file or is damaged.
    """
    with intact(f"{where}: {name}"):
        parts = name.split("/")
        chain = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        # A link, an external or a virtual field would read another file of this machine.
        inside = all(isinstance(group.get(x, getlink=True), h5py.HardLink) for x in chain)
        field = group[name] if inside else None
        if not inside or (isinstance(field, h5py.Dataset) and (field.external or field.is_virtual)):
            raise UserError(
                f"{where}: {name} lies outside the file. Copy the data into it; o2okit follows no links."
            )
        numbers = isinstance(field, h5py.Dataset) and field.dtype.kind in "biuf"
        if not numbers or field.shape is None:  # which has a type and no values
            raise UserError(f"{where}: {name} is not an array of numbers. {WANTED}")
        return field[:rows] if field.ndim else field[()]


def read_rows(
    path: Path | str,
    task: Task | None = None,
    *,
    rows: int | None = None,
    next_observations: bool = False,
    infos: Sequence[str] = (),
) -> Rows:
    """Reads a D4RL HDF5 file, D4RL's own or one of the kit.

    Args:
        path: the file.
        task: its sizes are demanded; its horizon serves where the file has no ``timeouts``.
        rows: only the first ones.
        next_observations: read them too, where the file has them; D4RL's reader ignores them.
        infos: fields below ``infos/`` to read, such as ``qpos``; as stored, not cast.

    Raises:
        UserError: the file is missing, damaged or would give wrong data (``checked_rows``).
    """
    path = expanded(path)
    with intact(path), open_file(path) as file:
        names = [name for name in (*REQUIRED, OPTIONAL[0]) if _has(file, name)]
        if next_observations and _has(file, OPTIONAL[1]):
            names.append(OPTIONAL[1])
        arrays = {name: array(path, file, name, rows) for name in names}
        further = {}
        for name in infos:
            if not _has(file, f"infos/{name}"):
                has = ", ".join(file["infos"]) if _has(file, "infos") else "none"
                raise UserError(f"{path}: infos/{name} is missing. The file's infos: {has}.")
            further[name] = array(path, file, f"infos/{name}", rows)
        provenance = _provenance(path, file)
    return checked_rows(path, arrays, task, infos=further, provenance=provenance)


def provenance(path: Path | str) -> dict[str, Any] | None:
    """What a kit file says of how it was made; ``None`` for others.

    Raises ``UserError`` where the file can't be opened or says it in no known form.
    """
    with intact(path), open_file(expanded(path)) as file:
        return _provenance(path, file) if PROVENANCE in file.attrs else None


def _has(file: h5py.File, name: str) -> bool:
    """Whether there is such a field; a dangling link counts, so that it is named as one."""
    return file.get(name, getlink=True) is not None


def _provenance(path: Path, file: h5py.File) -> dict[str, Any]:
    text = file.attrs.get(PROVENANCE, "{}")
    try:
        value = json.loads(text)
        if isinstance(value, dict):
            return value
    except (TypeError, ValueError, RecursionError):
        pass
    raise UserError(f"{path}: the attribute {PROVENANCE!r} is not a JSON object. {AGAIN}")


def write_hdf5(
    path: Path | str, fields: Mapping[str, np.ndarray], provenance: Mapping[str, Any]
) -> Path:
    """Writes a file in D4RL's format, atomically; equal fields give equal bytes.

    Args:
        path: where; an older file is replaced.
        fields: ``observations, actions, rewards, terminals, timeouts`` and maybe
            ``next_observations, infos/qpos, infos/qvel, infos/goal``, as ``Rows`` describes them.
        provenance: how the data were made; read back as ``Rows.provenance``.

    Raises:
        UserError: a field is unknown, missing or malformed, or the file can't be written.
    """
    path = expanded(path)
    allowed = (*REQUIRED, *OPTIONAL, *INFOS)
    if wrong := set(fields) - set(allowed):
        raise UserError(f"unknown fields {sorted(wrong)}. Allowed: {', '.join(allowed)}.")
    if "timeouts" not in fields:
        raise UserError(f"{path}: timeouts missing. Mark the rows at which an episode is cut off.")
    infos = {name: np.asarray(fields[name]) for name in INFOS if name in fields}
    plain = {name: np.asarray(fields[name]) for name in (*REQUIRED, *OPTIONAL) if name in fields}
    rows = checked_rows(path, plain, infos=infos)
    try:
        with replacing(path) as beside, h5py.File(beside, "w") as file:
            file.attrs[PROVENANCE] = json.dumps(dict(provenance), ensure_ascii=False)
            for name in plain:
                _store(file, name, getattr(rows, name))
            for name, values in infos.items():
                _store(file, name, np.asarray(values, dtype=np.float32))
    except OSError as error:
        raise UserError(
            f"could not write {path}: {error.strerror or error}. Free space or mend the permissions; "
            "O2OKIT_DATA_DIR moves the folder of datasets."
        ) from error
    return path


def _store(file: h5py.File, name: str, values: np.ndarray) -> None:
    file.create_dataset(name, data=values, compression="gzip", compression_opts=1, shuffle=True)
