"""Where a task's dataset lies: the places in the order in which they are searched.

    1. a path that is named
    2. ``O2OKIT_DATA_DIR``, D4RL's files by name, flat or in D4RL's folders
    3. D4RL's own cache: ``D4RL_DATASET_DIR`` or ``~/.d4rl/datasets``
    4. Minari's local store: ``MINARI_DATASETS_PATH`` or ``~/.minari/datasets``
    5. the kit's datasets: ``kit-<task>-<rows>.hdf5`` in ``O2OKIT_DATA_DIR`` or ``data/`` of the project

Nothing is downloaded unless it is asked for (``o2okit data fetch``): a run should not turn into gigabytes
over the network. DESIGN.md would do it before it takes the kit's.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from o2okit import paths
from o2okit.data import d4rl, hdf5, minari
from o2okit.data.dataset import Dataset
from o2okit.data.rows import Rows
from o2okit.errors import UserError
from o2okit.tasks import TASKS, Task
from o2okit.tasks import task as find_task

SOURCES = ("auto", "d4rl", "minari", "kit")


class File(NamedTuple):
    """One of D4RL's files. ``bytes`` and ``sha256`` are ``None`` where no published one is known."""

    task: str
    path: str
    bytes: int | None
    sha256: str | None

    @property
    def name(self) -> str:
        """The file's name without D4RL's folder."""
        return PurePosixPath(self.path).name


@functools.cache
def _files() -> dict[str, File]:
    path = resources.files("o2okit").joinpath("data", "published", "d4rl_files.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return {
            row["task"]: File(
                row["task"], row["path"], int(row["bytes"] or 0) or None, row["sha256"] or None
            )
            for row in csv.DictReader(file)
            if row["task"] in TASKS  # not the demonstrations, which no task here uses
        }


FILES: Mapping[str, File] = _files()
"""Task -> D4RL's file (specs/tasks.md 7, published/d4rl_files.csv)."""


class Place(NamedTuple):
    """One place. ``note`` says why what is found there is not used, or how it differs; ``mend`` what to do.

    A place that may not be looked at counts as found: what lies there would be used.
    """

    source: str
    path: Path
    found: bool
    usable: bool
    note: str
    mend: str = ""


def data_folder() -> Path | None:
    """``O2OKIT_DATA_DIR``, or ``None``."""
    return paths.named("O2OKIT_DATA_DIR")


def kit_folder() -> Path:
    """Where kit datasets are built and looked for."""
    return data_folder() or paths.home() / "data"


def d4rl_folder() -> Path:
    """D4RL's own cache."""
    return paths.named("D4RL_DATASET_DIR") or paths.expanded("~/.d4rl/datasets")


def minari_folder() -> Path:
    """Minari's local store."""
    return paths.named("MINARI_DATASETS_PATH") or paths.expanded("~/.minari/datasets")


def kit_file(task: str, rows: int, switches: Iterable[str] = ()) -> Path:
    """Where the kit dataset of a task with so many rows lies, built or not.

    One made with ``switches`` of its recipe has them in its name and is used only where it is named.
    """
    return kit_folder() / f"{'-'.join(('kit', task, str(rows), *sorted(set(switches))))}.hdf5"


def where(task: str) -> list[Place]:
    """Every place for a task's dataset, in order; the first usable one is taken.

    Raises ``UserError`` for a task that is unknown or has no data (the binary ones, ``hopper``).
    """
    with_data(task)
    places, folder = [], data_folder()
    if (file := FILES.get(task)) is not None:
        candidates = [folder / file.name, folder / file.path] if folder else []
        for path in (*candidates, d4rl_folder() / file.name):
            places.append(_looked_at("d4rl", path, path, file))
    if task in minari.counterparts():
        known = minari.counterparts()[task]
        path = minari_folder() / known.id
        places.append(_looked_at("minari", path, path / minari.MAIN, note=known.note))
    return places + _kit_places(task)


def _looked_at(
    source: str, path: Path, file: Path, published: File | None = None, note: str = ""
) -> Place:
    """A place whose ``file`` says whether there is something."""
    try:
        with paths.looking():
            found = file.is_file()
            wrong = size_differs(file, published) if found and published else ""
    except UserError as error:
        return _closed(source, path, error)
    mend = (
        "D4RL replaced its files once, and broken downloads look like this. Delete it and run `o2okit data "
        "fetch`, or name the file as the source to use it nevertheless."
    )
    return Place(source, path, found, found and not wrong, wrong or note, mend if wrong else "")


def _closed(source: str, path: Path, error: UserError) -> Place:
    """A place that ``paths.looking`` refused."""
    return Place(
        source, path, True, False, f"can't be looked at: {error.__cause__.strerror}", paths.MEND
    )


def find(task: str, source: str | Path = "auto", rows: int | None = None) -> Place:
    """The dataset to use.

    Args:
        task: its name.
        source: ``auto`` (the first place), ``d4rl``, ``minari``, ``kit`` or a path.
        rows: size of the kit dataset; the largest if it is not given.

    Raises:
        UserError: it is not there, or what is there is not the published file or another environment's.
    """
    found = with_data(task)
    if str(source) not in SOURCES:
        return _named(paths.expanded(source), found)
    places = where(task)
    if rows is not None:
        exact = kit_file(task, rows)
        places = [
            place
            for place in places
            if place.source != "kit" or place.path == exact or (place.found and not place.usable)
        ]
    wanted = [place for place in places if source in ("auto", place.source)]
    for place in wanted:
        if place.usable:
            return place
        if place.found:
            raise UserError(f"{place.path}: {place.note}. {place.mend}")
    looked = "".join(f"\n  {place.source:<8}{place.path}" for place in wanted)
    size = f" of {rows:,} rows" if rows is not None else ""
    raise UserError(
        f"no dataset of {task}{size} was found (source {source!r}). Looked at:{looked or ' no place'}\n"
        + (f"`o2okit data fetch {task}` downloads D4RL's file. " if task in FILES else "")
        + f"`o2okit data build {task}` builds the kit's, where it can be built. O2OKIT_DATA_DIR names a "
        "folder that holds D4RL's files."
    )


def load(
    task: str, source: str | Path = "auto", *, mode: str = "faithful", rows: int | None = None
) -> Dataset:
    """The task's dataset as transitions; ``Dataset.source`` and ``provenance`` say which.

    Args:
        task, source, rows: as for ``find``.
        mode: for files in D4RL's format, as ``d4rl.kept``.

    Raises:
        UserError: as ``find``; the file is damaged, of another task or not the published one.
    """
    place = find(task, source, rows)
    if place.source == "minari":
        return minari.read(place.path, task)
    facts, name, made = {}, None, place.source
    if made == "d4rl":  # its name only for its data
        named = str(source) not in SOURCES
        facts |= _verified(place.path, FILES.get(task), named=named)
        sound = facts["published"] or (facts["published"] is None and not named)
        name, made = (task, made) if sound else (f"file-{place.path.stem}", "file")
    return d4rl.read(place.path, task, name=name, source=made, mode=mode, provenance=facts)


def load_rows(
    task: str, source: str | Path = "auto", *, first: int | None = None
) -> tuple[Place, Rows]:
    """The rows as stored, the ``first`` ones or all, and where they are from; for statistics."""
    place, found = find(task, source), find_task(task)
    read = minari.read_rows if place.source == "minari" else hdf5.read_rows
    return place, read(place.path, found, rows=first)


# --- is it the published file? --------------------------------------------------------------------
def size_differs(path: Path, file: File) -> str:
    """In words, or empty: what a look at the size alone tells."""
    size = path.stat().st_size
    if file.bytes is None or size == file.bytes:
        return ""
    return f"{size:,} bytes where D4RL's file has {file.bytes:,}"


def record_of(path: Path) -> Path:
    """Beside a file without a published hash: what its first download was like."""
    return path.with_name(f"{path.name}.sha256.json")


def expected_hash(path: Path, file: File) -> str | None:
    """The published SHA-256, else the one recorded on the first download, else ``None``."""
    record = record_of(path)
    if file.sha256 or not record.is_file():
        return file.sha256
    try:
        with paths.looking():
            return str(json.loads(record.read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{record} is damaged ({error}). Delete it together with {path.name}, then fetch both again."
        ) from error


def sha256(path: Path) -> str:
    """Of a file; 1.5 GB a second here."""
    with hdf5.intact(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_another(path: Path, made: Mapping[str, Any], task: Task) -> None:
    """Raises ``UserError`` where a file says that its data are another environment's.

    Kit files say so in their provenance ``made``, D4RL's by their names. Sizes don't tell: those of
    halfcheetah and walker2d are equal, and those of all mazes. Other qualities pass.
    """
    published = {file.name: name for name, file in FILES.items()}
    name = str(made.get("name") or published.get(path.name, ""))
    theirs = TASKS.get(name.removeprefix("kit-"))
    if theirs is not None and theirs.environment != task.environment:
        raise UserError(
            f"{path} holds data of {theirs.environment} ({name}), but {task.name} needs those of "
            f"{task.environment}, of any quality. `o2okit data where {task.name}` shows what is there."
        )


def _verified(path: Path, file: File | None, *, named: bool) -> dict[str, Any]:
    """Facts for the provenance. A mismatch is refused unless the user named the file."""
    if file is None:  # D4RL publishes none for the task
        return {"sha256": sha256(path), "published": False}
    digest, expected = sha256(path), expected_hash(path, file)
    if expected is not None and digest != expected and not named:
        raise UserError(
            f"{path}: the SHA-256 is {digest}, but that of D4RL's {file.name} is {expected}. Delete it and "
            "run `o2okit data fetch`, or name the file as the source to use it nevertheless."
        )
    return {"sha256": digest, "published": digest == expected if expected else None}


# --- helpers --------------------------------------------------------------------------------------
def with_data(task: str) -> Task:
    """The task. Raises ``UserError`` where it has no dataset that can be read or built."""
    found = find_task(task)
    if found.quality and not found.has_data:
        built = f"{found.environment}-mixed"
        own = f" or {built}, which the kit builds" if built in TASKS else ""
        raise UserError(
            f"{task} has no dataset that o2okit can read: its data are pickled .npy files, which can execute "
            f"anything when they are opened, and can't be built. Use {found.environment}-cloned-v1 instead "
            f"(D4RL's file; specs/samg.md 4){own}, and say so."
        )
    if found.quality is None:
        like = [name for name, other in TASKS.items() if other.environment == found.environment]
        others = ", ".join(name for name in like if name != task)
        none = {
            "maze": "none; those of the toy maze come from o2okit.data.maze",
            "atari": "none; the study gde/atari collects those of games itself",
        }.get(found.family)
        raise UserError(
            f"{task} names an environment, no dataset. With data there are: {others or none or 'none'}."
        )
    return found


def _named(path: Path, task: Task) -> Place:
    with paths.looking():  # a name that is too long, a folder that may not be read
        folder, file = (path / minari.MAIN).is_file(), path.is_file()
    if folder:
        return Place("minari", path, True, True, "")
    if not file:
        allowed = ", ".join(SOURCES)
        raise UserError(
            f"{str(path)!r} is neither a source ({allowed}) nor a file nor a Minari folder."
        )
    made = hdf5.provenance(path)
    refuse_another(path, made or {}, task)
    return Place("d4rl" if made is None else "kit", path, True, True, "")


def _kit_places(task: str) -> list[Place]:
    """Those that are built, the largest first; else where one would lie."""
    try:
        folder = kit_folder()
    except UserError as error:  # an installed package without a project: other places still serve
        return [Place("kit", Path("data"), False, False, str(error))]
    pattern = re.compile(rf"kit-{re.escape(task)}-(\d+)\.hdf5")
    try:
        with paths.looking():
            found = [
                (pattern.fullmatch(path.name), path)
                for path in paths.readable(folder).glob("kit-*.hdf5")
            ]
            built = sorted(
                ((int(m[1]), path) for m, path in found if m and path.is_file()), reverse=True
            )
    except UserError as error:
        return [_closed("kit", folder, error)]
    if not built:
        return [Place("kit", folder / f"kit-{task}-*.hdf5", False, False, "")]
    return [Place("kit", path, True, True, f"{rows:,} rows") for rows, path in built]
