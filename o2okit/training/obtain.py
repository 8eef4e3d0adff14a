"""A task's dataset, wherever it is from: found on the machine, else collected with the kit's policies."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
from filelock import AcquireReturnProxy, FileLock, Timeout

from o2okit import paths
from o2okit.data import Dataset, hdf5, kit, sources
from o2okit.errors import UserError, whole
from o2okit.streams import generator
from o2okit.tasks import Task
from o2okit.tasks import task as find_task
from o2okit.training.progress import Progress

STAND_IN = "stand-in"  # the source of a dataset that stands for one which is still to be built,
FRAMES = 20  # images of one of a game
STANDS_FOR = "stands for"  # and in its provenance: how many rows that one will have


def dataset(
    task: str,
    *,
    source: str | Path = "auto",
    rows: int,
    ant_obs: int = 111,
    build: bool = True,
) -> Dataset:
    """The task's dataset; the kit's is built where no other is found.

    Args:
        task: its name.
        source: ``auto``, ``d4rl``, ``minari``, ``kit`` or a path (``o2okit data where TASK``).
        rows: of the kit dataset, if it comes to that.
        ant_obs: 27 leaves ant's padding out, as in ``RunSpec``.
        build: ``False`` for ``stand_in`` instead of building, for those who plan.

    Raises:
        UserError: it can neither be found nor built.
    """
    narrow = find_task(task, ant_obs)
    if source == "kit" or (source == "auto" and not _others(task)):
        if not build and not _ready(task, sources.kit_file(task, rows)):
            return stand_in(narrow, rows)
        source = build_kit(task, rows)
    data = sources.load(task, source)
    left_out = find_task(task).obs_size - narrow.obs_size
    return data.without_padding(left_out) if left_out else data


def stand_in(task: Task, stands_for: int) -> Dataset:
    """2,000 random transitions of a task's sizes, the same every time: for counting and timing.

    Its hash is no dataset's, so that no run of the store is taken for one that learns from it.
    ``stands_for`` is the number of rows that the dataset will have.
    """
    rows = 2_000
    rng = generator(0, f"stand-in/{task.name}")
    frames = None
    if task.discrete:
        kinds = task.image[0] * FRAMES if task.image else task.obs_size
        obs, next_obs = rng.integers(kinds, size=(2, rows))
        action = rng.integers(task.act_size, size=rows)
        if task.image:
            frames = rng.integers(256, size=(FRAMES, *task.image[1:]), dtype=np.uint8)
    else:
        obs, next_obs = rng.standard_normal((2, rows, task.obs_size), dtype=np.float32)
        action = rng.uniform(-1, 1, (rows, task.act_size)).astype(np.float32)
    ends = np.arange(1, rows + 1) % 100 == 0
    fields = (obs, action, rng.random(rows, dtype=np.float32), next_obs, np.zeros_like(ends), ends)
    return Dataset(
        task.name,
        f"stand-in for {task.name}",
        STAND_IN,
        *fields,
        provenance={STANDS_FOR: stands_for},
        frames=frames,
    )


def build_kit(task: str, rows: int, *, seed: int = 0, switches: Collection[str] = ()) -> Path:
    """The kit dataset of a task in its place: built if it is missing or outdated, with progress.

    Args:
        task: its name.
        rows: transitions.
        seed: 0 or more.
        switches: of the family's recipe (``kit.COLLECTIONS``); the file's name has them, so that it is
            never taken for the task's.

    Raises:
        UserError: it can't be built, or is there with another seed; a number is wrong, a switch unknown.
    """
    seed, rows = whole("a seed", seed, 0), whole("rows", rows, 2)
    kit.plan(task, switches)
    path = sources.kit_file(task, rows, switches)
    if not _ready(task, path, switches):
        _check_memory(task, rows)
        with _alone(path):
            if not _ready(task, path, switches):  # nor has another process built it meanwhile
                _collect(task, path, rows, seed, switches)
    made = hdf5.provenance(path) or {}
    if made.get("seed") != seed:
        raise UserError(
            f"{path} was collected with seed {made.get('seed')}, not {seed}. Move it away to collect another."
        )
    return path


def _others(task: str) -> bool:
    """Whether there is a file that is not the kit's; one that is damaged counts, `load` says so."""
    return any(place.found for place in sources.where(task) if place.source != "kit")


def _ready(task: str, path: Path, switches: Collection[str] = ()) -> bool:
    """Whether the kit's file is there and what would be built now."""
    with paths.looking():
        return path.is_file() and not _outdated(task, path, switches)


def _outdated(task: str, path: Path, switches: Collection[str]) -> str:
    made = sources.load_rows(task, path, first=2)[1].provenance
    return kit.outdated(task, made, **dict.fromkeys(switches, True))


def _alone(path: Path) -> AcquireReturnProxy:
    """A lock beside the file: one process builds it, others wait."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            return lock.acquire(timeout=0)
        except Timeout:
            print(f"{path.name}: another process is building it; waiting", flush=True)
            return lock.acquire()
    except OSError as error:
        raise UserError(
            f"could not write {path}: {error.strerror or error}. Mend the folder's permissions; "
            "O2OKIT_DATA_DIR moves the folder of datasets."
        ) from error


def _check_memory(task: str, rows: int) -> None:
    """That the rows may fit into memory, where they are collected step by step and then put together."""
    where = find_task(task)
    row = 4 * (2 * where.obs_size + where.act_size + 1) + 2  # float32, and two flags, without infos
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (2 * row)
    if rows > most:
        raise UserError(
            f"{rows:,} rows of {task} take {2 * row * rows / 2**30:,.0f} GiB of memory or more while they "
            f"are collected. This machine has room for {most:,} at most: ask for fewer (D4RL has a million)."
        )


def _collect(task: str, path: Path, rows: int, seed: int, switches: Collection[str]) -> None:
    if path.is_file():
        print(f"{path.name}: {_outdated(task, path, switches)}; collecting it again", flush=True)
    progress = Progress(f"kit dataset {task}", rows)
    done = 0

    def tell(new: int) -> None:
        nonlocal done
        done = min(done + new, rows - 1)  # whole episodes: the last ones overrun
        progress.update(done)

    kit.build(task, rows, path, seed=seed, progress=tell, **dict.fromkeys(switches, True))
    progress.update(rows)
    progress.close()


def why_not(task: str, source: str | Path = "auto") -> str:
    """Why ``dataset`` would find nothing for a task; empty where it would. Builds nothing."""
    try:
        if source == "kit" or (source == "auto" and not _others(task)):
            kit.plan(task)
        else:
            sources.find(task, source)
    except UserError as error:
        return str(error)
    return ""
