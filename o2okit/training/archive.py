"""Finished runs in one file: what they were and what they measured, without what they learnt.

Tables, verdicts and most figures need no more; those that look into agents or their transitions do. An
archive moves results to another machine, and lets several machines, or several days, share a section's work.
"""

from __future__ import annotations

import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from o2okit.errors import UserError
from o2okit.files import replacing
from o2okit.training.spec import digest
from o2okit.training.store import (
    CHECKPOINT,
    RESULT,
    TABLES,
    RunFolder,
    RunStore,
    StoreError,
    record_in,
    table_in,
    write_atomically,
)

RECORDS = ("spec.json", "environment.json", *(f"{table}.csv" for table in TABLES), RESULT)
NEEDED = {"spec.json", "environment.json", "evaluations.csv", RESULT}
SNAPSHOT = r"snapshots/\d{8}\.safetensors"
MEMBER = re.compile(
    rf"([0-9a-f]{{16}})/({'|'.join(map(re.escape, (*RECORDS, CHECKPOINT)))}|{SNAPSHOT})"
)
# A zip file that is cut off, has flipped bits, is encrypted, or is packed in a way that Python can't unpack.
UNREADABLE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError)
STAMP = (1980, 1, 1, 0, 0, 0)  # of every member: equal runs make equal files


def write_archive(path: Path, runs: Iterable[RunFolder], *, agents: bool = False) -> int:
    """Writes the finished ones among ``runs`` to a zip file.

    Args:
        path: of the file; what is there is replaced.
        runs: of a store.
        agents: whether the last state of each is packed, too, and its snapshots, megabytes per run: others
            can then continue with their agents.

    Returns:
        How many runs.

    Raises:
        UserError: none is finished.
        StoreError: the file can't be written or a run not be read.
    """
    finished = sorted((run for run in runs if run.finished), key=lambda run: run.path.name)
    if not finished:
        raise UserError(f"nothing to write to {path}: none of the runs is finished here.")
    try:
        with (
            replacing(path) as beside,
            zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        ):
            for run in finished:
                files = [run.path / name for name in RECORDS]
                if agents:
                    kept = sorted(run.path.glob("snapshots/*.safetensors"))
                    files += [*kept, run.path / CHECKPOINT]
                for file in files:
                    if file.is_file():  # one without metrics has no such table
                        name = file.relative_to(run.path).as_posix()
                        member = zipfile.ZipInfo(f"{run.path.name}/{name}", STAMP)
                        archive.writestr(member, file.read_bytes(), zipfile.ZIP_DEFLATED)
    except OSError as error:
        raise StoreError(f"could not write {path}: {error.strerror or error}.") from error
    return len(finished)


@dataclass(frozen=True)
class Restored:
    """What came of the runs of an archive.

    Attributes:
        taken: runs that are finished in the store now and were not there.
        there: runs that the store has finished itself.
        begun: runs that the store has begun itself; they are left alone.
    """

    taken: int
    there: int
    begun: int


def restore(path: Path, store: RunStore | None = None) -> Restored:
    """Puts the runs of an archive into the store, beside those that are there; replaces none.

    Raises:
        UserError: the file is no archive, is damaged, or has a run whose spec is not what its name says.
        StoreError: the store can't be written.
    """
    store = store or RunStore()
    counts = {"taken": 0, "there": 0, "begun": 0}
    for run_id, files in _read(path).items():
        folder = RunFolder(store.root / run_id)
        if folder.finished:
            counts["there"] += 1
            continue
        lock = folder.try_lock()
        if lock is None or folder.has_agent:
            counts["begun"] += 1
        else:
            for name, data in files.items():  # the result comes last: it says that all is there
                write_atomically(folder.path / name, data)
            counts["taken"] += 1
        if lock is not None:
            lock.release()
    return Restored(**counts)


def _read(path: Path) -> dict[str, dict[str, bytes]]:
    """The files of each run, the result last. All is checked before anything is written."""
    runs: dict[str, dict[str, bytes]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = MEMBER.fullmatch(member.filename)
                if name is None:
                    raise UserError(f"{path} is no archive of runs: it holds {member.filename!r}.")
                runs.setdefault(name[1], {})[name[2]] = archive.read(member)
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} can't be read as an archive of runs: {reason}.") from error
    for run_id, files in runs.items():
        if missing := NEEDED - {name for name, data in files.items() if data}:
            raise UserError(f"{path}: run {run_id} lacks {', '.join(sorted(missing))}.")
        for name, data in files.items():
            try:
                if name.endswith(".json"):
                    record_in(data, name)
                elif name.endswith(".csv"):
                    table_in(data, name.removesuffix(".csv"))
                if name == "spec.json":
                    found = digest(json.loads(data))
            except ValueError as error:
                raise UserError(f"{path}: {name} of run {run_id} is damaged ({error}).") from error
        if found != run_id:
            raise UserError(f"{path}: run {run_id} has the spec of {found}; it was altered.")
        files[RESULT] = files.pop(RESULT)
    return runs
