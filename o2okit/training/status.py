"""What the run store holds, in words."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from o2okit.training.store import RunFolder, RunStore, StoreError


def summary(store: RunStore | None = None) -> str:
    """Finished, running and interrupted runs, and the size on disk.

    A run whose records can't be read is named in a line of its own.
    """
    store = store or RunStore()
    counts: dict[str, dict[str, int]] = {}
    unfinished, damaged = [], []
    for folder in store.folders():
        try:
            spec, state, step = folder.spec(), _state(folder), folder.checkpoint_step()
        except StoreError as error:
            damaged.append(f"  {error}")
            continue
        kind = f"{spec['task']} {spec['backbone']} {_way(spec)}"
        counts.setdefault(kind, {}).setdefault(state, 0)
        counts[kind][state] += 1
        if state in ("running", "interrupted"):
            unfinished.append(
                f"  {folder.path.name}  {kind}, seed {spec['seed']}: "
                f"{state} at {step:,} of {spec['steps']:,}"
            )
    lines = [f"run store {store.root}: {_bytes(store) / 1e6:.1f} MB"]
    for kind, states in sorted(counts.items()):
        lines.append(
            f"  {kind}: " + ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
        )
    if not counts and not damaged:
        lines.append("  no runs yet; `o2okit list` shows what can be run")
    if unfinished:
        lines += ["unfinished; the command that started them goes on from there:", *unfinished]
    if damaged:
        lines += ["damaged:", *damaged]
    return "\n".join(lines)


def _way(spec: Mapping[str, Any]) -> str:
    if spec["phase"] == "offline":
        return "offline"
    return f"{spec['method']} online" if spec.get("start") else "from scratch"


def _bytes(store: RunStore) -> int:
    """Size on disk; a run that is being trained replaces its files while we look."""
    size = 0
    for file in store.root.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            size += file.stat().st_size if file.is_file() else 0
    return size


def _state(folder: RunFolder) -> str:
    if folder.finished:
        return "diverged" if folder.result()["diverged"] else "finished"
    try:
        lock = folder.try_lock()
    except StoreError:  # a store that can only be read: nobody trains in it
        return "interrupted"
    if lock is None:
        return "running"
    lock.release()
    return "interrupted"
