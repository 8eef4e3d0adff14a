"""From specs to finished runs: nothing is computed twice, nothing finished is lost."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import o2okit
from o2okit.backbones import BACKBONES
from o2okit.data import Batch
from o2okit.data.replay import split_rows
from o2okit.errors import UserError
from o2okit.nn.precision import bfloat16
from o2okit.nn.products import release_buffers
from o2okit.revision import commit
from o2okit.tasks import normalised_score
from o2okit.tasks import task as find_task
from o2okit.training.cohort import Cohort
from o2okit.training.progress import Progress
from o2okit.training.spec import RunSpec
from o2okit.training.store import RESULT, TABLES, MissingAgentError, RunFolder, RunStore, write_json
from o2okit.training.threads import Threads

CHECKPOINT_SECONDS = 30.0  # between two checkpoints at least: what a killed process can lose
SAVING_SHARE = 1 / 20  # of the time at most: a large replay's checkpoint is longer under way


@dataclass(frozen=True)
class Run:
    """A finished run: its spec and its files."""

    spec: RunSpec
    folder: RunFolder

    def evaluations(self) -> pd.DataFrame:
        """One row per evaluation: step, return, length, shares of the outcomes."""
        return self.folder.evaluations("return", "length", *find_task(self.spec.task).outcomes)

    def curve(self) -> pd.DataFrame:
        """The evaluations with their ``score``: normalised, or plain where the task has no references."""
        table, where = self.evaluations(), find_task(self.spec.task)
        value = table[where.scored].to_numpy()
        table.insert(1, "score", normalised_score(where.name, value) if where.reference else value)
        return table

    def metrics(self) -> pd.DataFrame:
        """One row per evaluation after an update: losses, mean values and the like."""
        return self.folder.table("metrics")

    def episodes(self) -> pd.DataFrame:
        """One row per training episode: step at its end, return, length, outcome."""
        return self.folder.table("episodes")

    def state(self) -> dict[str, Tensor]:
        """The run's last state."""
        return _load(self.folder, "checkpoint")[0]

    def transitions(self) -> Batch:
        """The run's own transitions, oldest first, ``[n, ...]`` each.

        Raises ``UserError`` where they were not kept (``RunSpec.keep_replay``).
        """
        state = self.state()
        if "replay/rows" not in state:
            raise UserError(
                f"the run {self.spec.id} did not keep its transitions. Train it with keep_replay=True."
            )
        rows = state["replay/rows"]
        oldest_first = rows.roll(-int(state["replay/next"]) % max(len(rows), 1), dims=0)
        returns = BACKBONES[self.spec.backbone].needs_returns
        return split_rows(oldest_first, self.spec.task_seen, returns=returns)

    def environments(self) -> list[dict[str, Any]]:
        """All that the run and those it starts from were trained with, oldest first."""
        store = RunStore(self.folder.path.parent)
        folders = [store.folder(spec) for spec in self.spec.lineage()]
        return [each for folder in folders if folder.finished for each in folder.environments()]

    def snapshots(self) -> list[int]:
        """The steps of the kept copies of the agent."""
        return [int(file.stem) for file in sorted(self.folder.path.glob("snapshots/*.safetensors"))]

    def checkpoints(self) -> list[int]:
        """As ``snapshots``, for those who can't do without: ``UserError`` where there are none."""
        if found := self.snapshots():
            return found
        raise UserError(
            f"the run {self.spec.id} has no snapshots here; it came from an archive without agents. Delete "
            f"the folder {self.folder.path} to train it anew."
        )

    def agent(self, step: int | None = None) -> Any:
        """The run's agent on the CPU, a cohort of one: its last state, or the snapshot at ``step``."""
        if step is not None and step not in self.snapshots():
            kept = ", ".join(map(str, self.snapshots())) or "none"
            raise UserError(
                f"the run {self.spec.id} has no snapshot at step {step}; it has: {kept}."
            )
        name = "checkpoint" if step is None else f"snapshots/{step:08d}"
        state, _ = _load(self.folder, name)
        spec = self.spec
        agent = BACKBONES[spec.backbone](spec.task_seen, [spec.hyper], [spec.seed])
        agent.load_state(
            {k.removeprefix("agent/"): v[None] for k, v in state.items() if k.startswith("agent/")}
        )
        return agent


def trained_with(runs: Iterable[Run]) -> dict[str, list[str]]:
    """Every commit, device, use of bfloat16 and PyTorch behind some runs and those they start from.

    ``mixed_starts``: as the function.
    """
    runs = list(runs)
    where = [each for run in runs for each in run.environments()]
    found = {
        name: sorted({str(each.get(name)) for each in where})
        for name in ("commit", "device", "bfloat16")
    }
    found["torch"] = sorted({str(each.get("packages", {}).get("torch")) for each in where})
    return {**found, "mixed_starts": mixed_starts(runs)}


def mixed_starts(runs: Iterable[Run]) -> list[str]:
    """The ids of those runs from which some of ``runs`` started, but not all with the same agent.

    A restored archive has no agents. Where they are trained anew on another processor they round otherwise,
    and the runs that start from them are not paired to the last bit with those of the archive.
    """
    agents: dict[str, set[str]] = {}
    for run in runs:
        if agent := run.folder.environment().get("start"):  # older records do not say
            agents.setdefault(run.spec.start.id, set()).add(agent)
    return sorted(run_id for run_id, found in agents.items() if len(found) > 1)


def train(
    specs: Iterable[RunSpec],
    *,
    store: RunStore | None = None,
    device: str = "auto",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    label: str = "",
) -> list[Run]:
    """Finds the runs in the store and trains those that are missing, cohort by cohort.

    Interrupted runs go on from their last checkpoint, longer offline runs from shorter ones that are
    finished; runs that another process is training are waited for. Runs that others start from are
    trained first.

    Args:
        specs: the runs wanted.
        store: default: the project's.
        device: ``auto``, ``cpu`` or ``cuda``.
        checkpoint_seconds: time between two checkpoints.
        label: shown beside the progress.

    Returns:
        The finished runs, in the order of ``specs``.

    Raises:
        UserError: a spec is wrong, the device is missing, or the store can't be written.
    """
    specs, store = list(specs), store or RunStore()
    where = resolve_device(device)
    _train_missing(specs, store, where, checkpoint_seconds, label)
    return [Run(spec, store.folder(spec)) for spec in specs]


def to_train(specs: Iterable[RunSpec], store: RunStore, *, agents: bool = False) -> list[RunSpec]:
    """Which of some runs the store does not have; ``agents``: or has without what they learnt."""
    return [
        spec
        for spec in {spec.id: spec for spec in specs}.values()
        if not (folder := store.folder(spec)).finished or (agents and not folder.has_agent)
    ]


def _train_missing(
    specs: Sequence[RunSpec],
    store: RunStore,
    device: torch.device,
    checkpoint_seconds: float,
    label: str,
    agents: bool = False,
) -> None:
    starts = [spec.start for spec in to_train(specs, store, agents=agents) if spec.start]
    if starts:
        _train_missing(starts, store, device, checkpoint_seconds, label, agents=True)
    told = False
    while missing := to_train(specs, store, agents=agents):
        others = 0
        # Locked cohort by cohort: what is not under way is free for other processes.
        for cohort in cohorts(missing, store):
            with ExitStack() as stack:
                mine = []
                for spec in cohort:
                    if (lock := store.folder(spec).try_lock()) is not None:
                        stack.callback(lock.release)
                        mine.append(spec)
                others += len(cohort) - len(mine)
                # Another process may have trained a run, or finished it, between the look and the lock.
                for group in cohorts(to_train(mine, store, agents=agents), store):
                    _train_cohort(group, store, device, checkpoint_seconds, label)
        if others == len(missing):  # nothing to do but to wait
            if not told:
                print(f"{label}: {others} runs are with another process; waiting", flush=True)
                told = True
            time.sleep(0.5)


def resolve_device(device: str) -> torch.device:
    """``auto`` takes the GPU where there is one. Raises ``UserError`` for a device that is not here."""
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"device must be 'auto', 'cpu' or 'cuda'; got {device!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device 'cuda' was asked for, but PyTorch finds no GPU. Use 'auto' or 'cpu'."
        )
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if cuda else "cpu")


def cohorts(specs: Sequence[RunSpec], store: RunStore) -> list[list[RunSpec]]:
    """Groups what can be trained together: the same configuration at the same step."""
    groups: dict[tuple[str, int], list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault((spec.cohort, steps_done(spec, store)), []).append(spec)
    return list(groups.values())


def steps_done(spec: RunSpec, store: RunStore) -> int:
    """The steps that a run need not train: up to its checkpoint, or those of a shorter one."""
    if step := store.folder(spec).checkpoint_step():
        return step
    shorter = store.shorter(spec)
    return shorter.checkpoint_step() if shorter else 0


def _train_cohort(
    specs: list[RunSpec],
    store: RunStore,
    device: torch.device,
    checkpoint_seconds: float,
    label: str,
) -> None:
    first, folders = specs[0], [store.folder(spec) for spec in specs]
    for spec, folder in zip(specs, folders, strict=True):
        if not folder.has_agent and (shorter := store.shorter(spec)) is not None:
            (folder.path / RESULT).unlink(missing_ok=True)  # no kill may leave it beside that state
            folder.begin_as(shorter)
    if len({folder.checkpoint_step() for folder in folders}) > 1:
        return  # another process finished a longer beginning of some meanwhile: they are grouped anew
    cohort = Cohort(specs, device)
    saved = [folder.load_tensors("checkpoint") for folder in folders]
    starts: list[dict[str, Tensor]] = []
    if saved[0]:
        cohort.load_state([state for state, _ in saved], saved[0][1]["step"])
        cohort.rows = [_rows_until(folder, cohort.step) for folder in folders]
    else:
        starts = [_load(store.folder(s.start), "checkpoint")[0] for s in specs if s.start]
        cohort.begin(starts)
    for spec, folder, start in zip(specs, folders, starts or [None] * len(specs), strict=True):
        (folder.path / RESULT).unlink(missing_ok=True)  # it came from an archive, without its agent
        write_json(folder.path / "spec.json", spec.describe())
        data = spec.dataset.provenance if spec.dataset else None
        now = {**environment(device), "dataset": data}
        if start is not None:
            now["start"] = _digest(start)
        write_json(folder.path / "environment.json", folder.continued(now, cohort.step))
    if cohort.step == 0 and not saved[0]:
        cohort.evaluate()

    title = f"{label} {first.phase} {first.backbone} x{len(specs)}".strip()
    progress = Progress(title, first.steps, cohort.step)
    clock = Clock([header for _, header in filter(None, saved)])
    last, cost = time.monotonic(), 0.0
    with Threads(device) as threads:
        while cohort.step < first.steps:
            threads.tick()
            cohort.advance()
            done = cohort.step == first.steps
            if cohort.step % first.eval_every == 0 or done:
                cohort.evaluate()
                mean = sum(rows["evaluations"][-1]["return"] for rows in cohort.rows) / len(specs)
                progress.update(cohort.step, f"return {mean:.1f}")
            if first.snapshot_every and cohort.step % first.snapshot_every == 0:
                agent = {f"agent/{key}": value for key, value in cohort.agent.state().items()}
                _save(folders, f"snapshots/{cohort.step:08d}", agent, cohort.step)
            late = time.monotonic() - last >= max(checkpoint_seconds, cost / SAVING_SHARE)
            if done or late:
                saving = time.monotonic()
                # Tables first: rows beyond the checkpoint are dropped on resuming, missing ones not.
                for folder, rows in zip(folders, cohort.rows, strict=True):
                    folder.write_tables(rows)
                state = cohort.state(finished=done)
                _save(folders, "checkpoint", state, cohort.step, **clock.spent())
                last = time.monotonic()
                cost = last - saving
    progress.close()
    release_buffers()
    for run, folder in enumerate(folders):
        result = {
            "steps": cohort.step,
            "diverged": bool(cohort.diverged[run]),
            **clock.spent(),
            "runs_in_cohort": len(specs),
        }
        write_json(folder.path / RESULT, result)


class Clock:
    """What a cohort has taken, earlier sessions included.

    Args:
        before: headers of the checkpoints that it goes on from. What one of them does not have, since older
            code wrote it, is not known of the whole either.
    """

    def __init__(self, before: Sequence[Mapping[str, Any]]) -> None:
        self._before = {
            name: max((header[name] for header in before), default=0.0)
            for name in self._now()
            if all(name in header for header in before)
        }
        self._began = self._now()

    def spent(self) -> dict[str, float]:
        """``seconds`` on the wall, and of all the process's threads on a processor.

        The latter do not count while the process is stopped or waits for a core, or for a GPU.
        """
        now = self._now()
        return {k: round(done + now[k] - self._began[k], 1) for k, done in self._before.items()}

    @staticmethod
    def _now() -> dict[str, float]:
        return {"seconds": time.monotonic(), "processor_seconds": time.process_time()}


def _save(
    folders: list[RunFolder], name: str, state: dict[str, Tensor], step: int, **header: Any
) -> None:
    for run, folder in enumerate(folders):
        own = {key: value[run] for key, value in state.items()}
        folder.save_tensors(name, own, step=step, **header)


def _load(folder: RunFolder, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    loaded = folder.load_tensors(name)
    if loaded is None:
        raise MissingAgentError(
            f"{folder.path / name}.safetensors is missing although the run is finished. If it came from an "
            f"archive, that is how it came. Delete the folder {folder.path} to train the run again."
        )
    return loaded


def _digest(state: dict[str, Tensor]) -> str:
    """16 hexadecimal digits that say which agent it is, to the last bit."""
    found = hashlib.sha256()
    for name in sorted(name for name in state if name.startswith("agent/")):
        found.update(name.encode() + state[name].contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _rows_until(folder: RunFolder, step: int) -> dict[str, list[dict[str, Any]]]:
    rows = {}
    for name in TABLES:
        table = folder.evaluations() if name == "evaluations" else folder.table(name)
        rows[name] = table[table["step"] <= step].to_dict("records") if len(table) else []
    return rows


def environment(device: torch.device | str) -> dict[str, Any]:
    """What a result was computed with: versions, commit, device."""
    names = ("torch", "numpy", "scipy", "pandas", "gymnasium", "mujoco", "matplotlib")
    gpu = torch.cuda.get_device_name() if torch.device(device).type == "cuda" else None
    return {
        "o2okit": o2okit.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "packages": {name: _version(name) for name in names},
        "bfloat16": bfloat16(device),
        "device": gpu or f"cpu ({os.cpu_count()} cores, {torch.get_num_threads()} threads)",
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # mujoco is an extra
        return None
