"""The run store: ``runs/<id>/``, written atomically, locked while a run is trained.

    spec.json            the complete spec
    environment.json     versions, commit, device, dataset
    evaluations.csv      step, return, length, outcome, ...
    episodes.csv         the training episodes of an online run
    metrics.csv          losses and the like at each evaluation
    checkpoint.safetensors   the run's whole state; its header holds the step
    snapshots/           copies of the agent that were asked for
    result.json          written last: the run is finished

Nothing is ever unpickled.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from filelock import FileLock, Timeout
from pandas.api.types import is_integer_dtype, is_numeric_dtype
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from o2okit import paths
from o2okit.errors import UserError
from o2okit.files import replacing
from o2okit.training.spec import RunSpec, digest

T = TypeVar("T")
TABLES = ("evaluations", "episodes", "metrics")
RESULT = "result.json"
CHECKPOINT = "checkpoint.safetensors"
FIELDS = {  # that whoever reads a record relies on, and their types
    "spec.json": dict.fromkeys(("task", "backbone", "method", "phase"), str)
    | dict.fromkeys(("steps", "seed"), int),
    RESULT: {"diverged": bool},
}


class StoreError(UserError):
    """The store can't be written or read."""


class MissingAgentError(StoreError):
    """A finished run is here without what it learnt: it came from an archive without agents."""


def write_atomically(path: Path, data: bytes) -> None:
    """Writes beside, flushes to the disk, renames: a reader sees the old file or the new one.

    Raises ``StoreError`` where the disk is full or the folder is read-only; the old file stays.
    """
    try:
        with replacing(path) as beside:
            beside.write_bytes(data)
    except OSError as error:
        raise StoreError(
            f"could not write {path}: {error.strerror}. What was written before is intact: free space "
            "or mend the permissions (O2OKIT_RUNS moves the run store), then start the same command "
            "again; it goes on from the last checkpoint."
        ) from error


def write_json(path: Path, value: Any) -> None:
    """``value`` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def record_in(data: bytes, name: str) -> dict[str, Any]:
    """The JSON object of ``spec.json``, ``result.json`` or ``environment.json``.

    Raises ``ValueError`` where it is none or lacks what every run's has (``FIELDS``).
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    wrong = [k for k, kind in FIELDS.get(name, {}).items() if not isinstance(value.get(k), kind)]
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: missing or of another type")
    return value


def table_in(data: bytes, name: str) -> pd.DataFrame:
    """The table ``evaluations``, ``episodes`` or ``metrics``; empty where nothing was recorded.

    Raises ``ValueError`` where it is none, or lacks what every run's has.
    """
    if not data:
        return pd.DataFrame()
    table = pd.read_csv(io.BytesIO(data), float_precision="round_trip")
    wanted = ("step", "return", "length") if name == "evaluations" else ("step",)
    if missing := [column for column in wanted if column not in table]:
        raise ValueError(f"the columns {', '.join(missing)} are missing")
    text = [each for each in table if each != "outcome" and not is_numeric_dtype(table[each])]
    if text or not is_integer_dtype(table["step"]):
        raise ValueError(f"{', '.join(text) or 'step'} must be numbers, and step whole ones")
    return table


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def finished(self) -> bool:
        """Whether the run has its result."""
        return (self.path / RESULT).is_file()

    @property
    def has_agent(self) -> bool:
        """Whether there is a state to go on with; runs from an archive have none."""
        return (self.path / CHECKPOINT).is_file()

    def spec(self) -> dict[str, Any]:
        """What ``RunSpec.describe`` gave."""
        return self._json("spec.json")

    def result(self) -> dict[str, Any]:
        """What was recorded at the end: steps, diverged, seconds, runs_in_cohort."""
        return self._json(RESULT)

    def environment(self) -> dict[str, Any]:
        """Versions, commit and device that the run was trained with, last; ``earlier``: those before.

        ``start``: a digest of the agent that it started from.
        """
        return self._json("environment.json")

    def environments(self) -> list[dict[str, Any]]:
        """All that it was trained with, oldest first."""
        last = self.environment()
        return [*last.pop("earlier", []), last]

    def continued(self, now: Mapping[str, Any], step: int) -> dict[str, Any]:
        """``now``, and as ``earlier`` what else the run was trained with up to ``step``.

        What it started from stays.
        """
        if not step or not (self.path / "environment.json").is_file():
            return dict(now)
        *earlier, last = self.environments()
        if "start" in last:
            now = {**now, "start": last["start"]}
        if last != json.loads(json.dumps(now)):
            earlier.append({**last, "until": step})
        return {**now, **({"earlier": earlier} if earlier else {})}

    def _json(self, name: str) -> dict[str, Any]:
        return self._read(name, lambda data: record_in(data, name))

    def table(self, name: str) -> pd.DataFrame:
        """``evaluations``, ``episodes`` or ``metrics``; empty where nothing was recorded."""
        if not (self.path / f"{name}.csv").is_file():
            return pd.DataFrame()
        return self._read(f"{name}.csv", lambda data: table_in(data, name))

    def evaluations(self, *columns: str) -> pd.DataFrame:
        """The table that no trained run is without. Raises ``StoreError`` where it or a column is missing."""
        table = self.table("evaluations")
        if missing := [column for column in ("step", *columns) if column not in table]:
            raise StoreError(
                f"{self.path / 'evaluations.csv'} is missing or lacks {', '.join(missing)}. Delete the "
                f"folder {self.path} to train this run afresh."
            )
        return table

    def _read(self, name: str, parse: Callable[[bytes], T]) -> T:
        file = self.path / name
        try:
            return parse(file.read_bytes())
        except (OSError, ValueError) as error:  # pandas' errors, and bytes that are no text, too
            raise StoreError(
                f"{file} is damaged ({error}). Delete the folder {self.path} to train this run afresh."
            ) from error

    def write_tables(self, tables: Mapping[str, list[dict[str, Any]]]) -> None:
        """Replaces the tables; columns may appear late."""
        for name, rows in tables.items():
            text = pd.DataFrame(rows).to_csv(index=False) if rows else ""
            write_atomically(self.path / f"{name}.csv", text.encode())

    # --- checkpoints ------------------------------------------------------------------------------
    def save_tensors(self, name: str, tensors: Mapping[str, Tensor], **header: Any) -> None:
        """A safetensors file with ``header`` as JSON."""
        plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        data = save(plain, metadata={"o2okit": json.dumps(header)})
        write_atomically(self.path / f"{name}.safetensors", data)

    def begin_as(self, other: RunFolder) -> None:
        """Takes over what another run has recorded and its state, to go on from there."""
        records = ("environment.json", *(f"{table}.csv" for table in TABLES))
        files = [file for name in records if (file := other.path / name).is_file()]
        # The state comes last: it says that the rest is there.
        for file in (*files, *other.path.glob("snapshots/*.safetensors"), other.path / CHECKPOINT):
            write_atomically(self.path / file.relative_to(other.path), file.read_bytes())

    def load_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and header, or ``None`` where there is no such file."""
        return self._open(
            name,
            lambda file: ({key: file.get_tensor(key) for key in file.keys()}, _header(file)),  # noqa: SIM118
        )

    def checkpoint_step(self) -> int:
        """The step of the last checkpoint; 0 where there is none. Reads no tensor."""
        header = self._open("checkpoint", _header)
        return header["step"] if header else 0

    def _open(self, name: str, read: Callable[[Any], T]) -> T | None:
        file = self.path / f"{name}.safetensors"
        if not file.is_file():
            return None
        try:
            with safe_open(file, framework="pt") as handle:
                return read(handle)
        except (
            SafetensorError,
            OSError,
            LookupError,
            TypeError,
            ValueError,
            RecursionError,
        ) as error:
            raise StoreError(
                f"{file} can't be read ({error}). Delete the folder {self.path} to train this run "
                "afresh; those that have started from it stay as they are."
            ) from error

    # --- one process at a time --------------------------------------------------------------------
    def try_lock(self) -> FileLock | None:
        """The lock, or ``None`` where another process holds it.

        The operating system drops it when its process ends, however it ends: none is ever stale.
        Half-written files of a killed process are removed.
        """
        lock = FileLock(self.path / "lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            for leftover in self.path.rglob(".*.tmp"):
                leftover.unlink()
        except Timeout:
            return None
        except OSError as error:
            raise StoreError(
                f"{self.path} can't be written: {error.strerror}. Free space or mend the permissions; "
                "O2OKIT_RUNS moves the run store."
            ) from error
        return lock


def _header(file: Any) -> dict[str, Any]:
    header = json.loads(file.metadata()["o2okit"])
    if not isinstance(header["step"], int):
        raise ValueError(f"step is {header['step']!r}")
    return header


class RunStore:
    """All runs below one folder (default: ``runs/`` of the project, or ``O2OKIT_RUNS``)."""

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root) if root is not None else paths.runs()
        self._kinds: dict[str, tuple[int, str]] = {}  # for ``shorter``
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the run store {self.root} can't be made: {error.strerror}. Set O2OKIT_RUNS to a "
                "folder that can be written."
            ) from error
        paths.readable(self.root)

    def folder(self, spec: RunSpec) -> RunFolder:
        """Where a run lies, whether it exists or not."""
        return RunFolder(self.root / spec.id)

    def folders(self) -> Iterator[RunFolder]:
        """Every run of the store."""
        for file in sorted(self.root.glob("*/spec.json")):
            yield RunFolder(file.parent)

    def shorter(self, spec: RunSpec) -> RunFolder | None:
        """The longest finished run that ``spec`` begins with: the same offline run with fewer steps.

        Nothing in an offline run depends on how long it will be, save an evaluation at an end that is
        between two others; such a run is no beginning. Online runs leave their environment at the end.
        """
        if spec.phase != "offline":
            return None
        kind, found = _without_steps(spec.describe()), dict[int, RunFolder]()
        for folder in self.folders():
            if folder.path.name not in self._kinds:  # a run's spec is written once
                try:
                    described = folder.spec()
                except StoreError:  # whoever asks for that run is told
                    continue
                self._kinds[folder.path.name] = (described["steps"], _without_steps(described))
            steps, other = self._kinds[folder.path.name]
            ends_well = steps < spec.steps and steps % spec.eval_every == 0
            if other == kind and ends_well and folder.finished and folder.has_agent:
                found[steps] = folder
        return found[max(found)] if found else None


def _without_steps(described: dict[str, Any]) -> str:
    return digest({**described, "steps": 0})
