"""Downloading D4RL's files from several mirrors, resumed where it broke off, checked before use.

``D4RL_MIRRORS`` replaces the mirrors: entries ``tree=URL`` (D4RL's folders below the root) or ``flat=URL``
(all files in one), separated by blanks. What arrives is compared in size and SHA-256 with the published
values and takes its name only then. Where none is published, the first download is recorded beside the
file and every later one compared with it. Nothing that was downloaded is executed.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
from filelock import FileLock, Timeout

from o2okit.data import sources
from o2okit.data.hdf5 import read_rows
from o2okit.data.sources import FILES, File
from o2okit.errors import UserError, unknown
from o2okit.files import replacing
from o2okit.paths import expanded
from o2okit.tasks import TASKS

LAYOUTS = ("tree", "flat")
CHUNK = 1 << 20
PATIENCE = 60.0  # seconds without a byte
TRIES = 3  # per mirror, each from where the last one broke off
PAUSE = 2.0  # seconds between two tries that brought nothing
_BROKEN = (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError, ssl.SSLError)

Progress = Callable[[str, int, int | None], None]
"""Called with the mirror's root, the bytes so far, and in all where that is known."""


class Mirror(NamedTuple):
    """``layout``: ``tree`` keeps D4RL's folders below ``root``, ``flat`` has all files in one."""

    layout: str
    root: str

    def url(self, file: File) -> str:
        """Where the mirror has a file."""
        return f"{self.root.rstrip('/')}/{file.path if self.layout == 'tree' else file.name}"


MIRRORS = (  # specs/tasks.md 7
    Mirror("tree", "http://rail.eecs.berkeley.edu/datasets/offline_rl"),
    Mirror(
        "flat",
        "https://huggingface.co/datasets/imone/D4RL/resolve/9ed58d8a76c12f4c1cb5db51fa71389e703d2ec5",
    ),
)


class _MirrorError(Exception):
    """One mirror can't give the file; another may."""


def mirrors() -> tuple[Mirror, ...]:
    """``D4RL_MIRRORS``, or those known. Raises ``UserError`` for an entry of another form."""
    found = []
    for entry in os.environ.get("D4RL_MIRRORS", "").split():
        layout, _, root = entry.partition("=")
        if layout not in LAYOUTS or not _is_web(root):
            raise UserError(
                f"D4RL_MIRRORS holds {entry!r}. Write tree=URL or flat=URL with an http or https address, "
                "several separated by blanks."
            )
        found.append(Mirror(layout, root))
    return tuple(found) or MIRRORS


def _is_web(root: str) -> bool:
    try:
        parts = urlsplit(root)
    except ValueError:  # http://[abc
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def file_of(task: str) -> File:
    """D4RL's file of a task. Raises ``UserError`` where it has none that can be read."""
    if task in TASKS:
        sources.with_data(task)  # the error that names a substitute
    if task not in FILES:
        raise unknown("task with a file of D4RL's", task, FILES, "`o2okit data list` shows them.")
    return FILES[task]


def fetch(
    task: str,
    *,
    folder: Path | str | None = None,
    use: Sequence[Mirror] | None = None,
    progress: Progress | None = None,
) -> Path:
    """The task's file, downloaded unless it is there; complete and checked when this returns.

    Args:
        task: its name.
        folder: ``O2OKIT_DATA_DIR``, else D4RL's cache, if it is not given.
        use: the mirrors, in order; ``mirrors()`` if not given.
        progress: called now and then.

    Raises:
        UserError: the task has no file of D4RL's; no mirror gives it, with what each answered; the file
            that is there is another one; the disk is full.
    """
    file = file_of(task)
    path = expanded(folder or sources.data_folder() or sources.d4rl_folder()) / file.name
    try:
        if (
            path.is_file()
        ):  # which has its name once it is complete; the folder may be one to read only
            _check(path, file)
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            if not path.is_file():  # nor has another process fetched it meanwhile
                _download(path, file, use or mirrors(), progress or (lambda *_: None))
    except Timeout:
        raise UserError(f"{path} is being fetched by another process. Wait for it.") from None
    except OSError as error:
        raise UserError(
            f"could not write {path}: {error.strerror or error}. Free space or mend the permissions "
            f"(O2OKIT_DATA_DIR moves the folder), then start again: {_left(file)}."
        ) from error
    return path


def _download(path: Path, file: File, use: Sequence[Mirror], progress: Progress) -> None:
    part = path.with_name(f"{path.name}.part")
    if _size(part) > (file.bytes or 0):
        part.unlink()
    free, missing = shutil.disk_usage(path.parent).free, (file.bytes or 0) - _size(part)
    if missing > free:
        raise UserError(
            f"{path.parent} has {free / 1e6:,.0f} MB left; {file.name} takes {missing / 1e6:,.0f} MB more. "
            "Free space, or name another folder with O2OKIT_DATA_DIR."
        )
    failures = []
    for mirror in use:
        url = mirror.url(file)
        if file.sha256 is None:
            part.unlink(missing_ok=True)  # nobody could tell that two mirrors' files were mixed
        try:
            _obtain(url, path, part, file, lambda *n, root=mirror.root: progress(root, *n))
            if file.sha256 is None and not sources.record_of(path).is_file():
                _record(path, part, file, url)
        except (_MirrorError, UserError) as failure:
            failures.append(f"\n  {url}\n    {failure}")
            continue
        part.replace(path)
        return
    raise UserError(
        f"{file.name} ({file.task}) could not be fetched:{''.join(failures)}\n"
        f"Try again later ({_left(file)}), name other mirrors in D4RL_MIRRORS (tree=URL or flat=URL), or "
        f"copy the file by hand to {path}."
    )


def _left(file: File) -> str:
    """What becomes of a download that broke off."""
    if file.sha256 is None:
        return "the download begins anew, as no hash of the file is published"
    return "what has arrived is kept"


def _obtain(url: str, path: Path, part: Path, file: File, progress: Callable[..., None]) -> None:
    """``part``, complete and checked."""
    resumed = _size(part) > 0
    _transfer(url, part, file, progress)
    try:
        _check(part, file, sources.expected_hash(path, file))
    except _MirrorError:
        if not resumed:
            raise
        _transfer(url, part, file, progress)  # its beginning was another file's: from nothing
        _check(part, file, sources.expected_hash(path, file))


def _transfer(url: str, part: Path, file: File, progress: Callable[..., None]) -> None:
    """Asks until ``part`` is complete; gives up after ``TRIES`` answers without a byte."""
    failure, tries = "", TRIES
    while tries:
        have = _size(part)
        if file.bytes is not None and have >= file.bytes:
            return
        try:
            if _once(url, part, have, file, progress):
                return
            failure = "the connection ended early"
        except urllib.error.HTTPError as error:
            raise _MirrorError(f"HTTP status {error.code} ({error.reason})") from error
        except UnicodeError as error:
            raise _MirrorError(f"no address of a mirror ({error})") from error
        except _BROKEN as error:
            failure = str(getattr(error, "reason", error)) or type(error).__name__
        if _size(part) > have:
            tries = TRIES
        else:
            tries -= 1
            time.sleep(PAUSE)
    raise _MirrorError(f"{failure}, {_size(part):,} bytes so far")


def _once(url: str, part: Path, start: int, file: File, progress: Callable[..., None]) -> bool:
    """One request. Whether all bytes that the server announced have arrived."""
    request = urllib.request.Request(url, headers={"User-Agent": "o2okit"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        if response.headers.get_content_type() == "text/html":
            raise _MirrorError("answers with a web page")
        anew = start > 0 and not _continues(response, start)  # the server sends all of it again
        kept, start = start, 0 if anew else start
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        if file.bytes is not None and total is not None and total != file.bytes:
            raise _MirrorError(f"has {total:,} bytes where D4RL's file has {file.bytes:,}")
        limit = total if total is not None else file.bytes
        # What has arrived is given up for no less than that.
        place = part.with_name(f"{part.name}.anew") if anew else part
        try:
            with place.open("ab" if start else "wb") as target:
                done = start
                while chunk := response.read1(CHUNK):
                    target.write(chunk)
                    done += len(chunk)
                    progress(done, limit)
                target.flush()
                os.fsync(target.fileno())
        finally:
            if anew and _size(place) >= kept:
                place.replace(part)
            elif anew:
                place.unlink(missing_ok=True)
    return limit is None or done == limit


def _continues(response: HTTPResponse, start: int) -> bool:
    return response.status == 206 and (
        response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _check(path: Path, file: File, expected: str | None = None) -> None:
    """Refuses a file that is not the published or recorded one; a broken part is removed."""
    expected = expected or sources.expected_hash(path, file)
    wrong = sources.size_differs(path, file)
    if not wrong and expected is not None and (digest := sources.sha256(path)) != expected:
        wrong = f"the SHA-256 is {digest}, but {expected} is expected"
    if not wrong:
        return
    if path.suffix == ".part":
        path.unlink()
        raise _MirrorError(f"another file than D4RL's: {wrong}")
    raise UserError(
        f"{path} is another file than D4RL's: {wrong}. It is left as it is; delete it to fetch the published "
        "one."
    )


def _record(path: Path, part: Path, file: File, url: str) -> None:
    """Writes what the first download of a file without a published hash was like."""
    try:
        rows = read_rows(part, TASKS.get(file.task))
    except UserError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    starts = [episode.start for episode in rows.episodes()]
    value = {
        "task": file.task,
        "bytes": part.stat().st_size,
        "sha256": sources.sha256(part),
        "url": url,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "rows": len(rows),
        "terminals": int(rows.terminals.sum()),
        "timeouts": int(rows.timeouts.sum()),
        "mean_return": float(np.add.reduceat(rows.rewards.astype(np.float64), starts).mean()),
    }
    with replacing(sources.record_of(path)) as beside:
        beside.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
