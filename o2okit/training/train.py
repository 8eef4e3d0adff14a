"""From specs to finished runs: nothing is computed twice, nothing finished is lost."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from o2okit.errors import UserError
from o2okit.nn.products import release_buffers
from o2okit.training.cohort import Cohort
from o2okit.training.progress import Progress
from o2okit.training.run import Run, environment, load
from o2okit.training.spec import RunSpec
from o2okit.training.store import RESULT, TABLES, RunFolder, RunStore, write_json
from o2okit.training.threads import Threads

CHECKPOINT_SECONDS = 30.0  # between two checkpoints at least: what a killed process can lose
SAVING_SHARE = 1 / 20  # of the time at most: a large replay's checkpoint is longer under way


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
        starts = [load(store.folder(s.start), "checkpoint")[0] for s in specs if s.start]
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
