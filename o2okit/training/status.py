"""What the run store holds, in words."""

from __future__ import annotations

import json

from o2okit.training.store import RunFolder, RunStore


def summary(store: RunStore | None = None) -> str:
    """Finished, running and interrupted runs, and the size on disk."""
    store = store or RunStore()
    counts: dict[str, dict[str, int]] = {}
    unfinished = []
    for folder in store.folders():
        spec = json.loads((folder.path / "spec.json").read_text())
        kind = f"{spec['task']} {spec['backbone']}+{spec['method']} {spec['phase']}"
        state = _state(folder)
        counts.setdefault(kind, {}).setdefault(state, 0)
        counts[kind][state] += 1
        if state in ("running", "interrupted"):
            saved = folder.load_tensors("checkpoint")
            step = saved[1]["step"] if saved else 0
            unfinished.append(
                f"  {folder.path.name}  {kind}, seed {spec['seed']}: "
                f"{state} at {step:,} of {spec['steps']:,}"
            )
    size = sum(file.stat().st_size for file in store.root.rglob("*") if file.is_file())
    lines = [f"run store {store.root}: {size / 1e6:.1f} MB"]
    for kind, states in sorted(counts.items()):
        lines.append(
            f"  {kind}: " + ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
        )
    if not counts:
        lines.append("  no runs yet; `o2okit list` shows what can be run")
    if unfinished:
        lines += ["unfinished; the command that started them goes on from there:", *unfinished]
    return "\n".join(lines)


def _state(folder: RunFolder) -> str:
    if folder.finished:
        return "diverged" if folder.result()["diverged"] else "finished"
    lock = folder.try_lock()
    if lock is None:
        return "running"
    lock.release()
    return "interrupted"
