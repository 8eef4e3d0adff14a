"""A finished run, and what runs were trained with."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import o2okit
from o2okit import native
from o2okit.backbones import BACKBONES
from o2okit.data import Batch
from o2okit.data.replay import split_rows
from o2okit.errors import UserError
from o2okit.nn.precision import bfloat16
from o2okit.revision import commit
from o2okit.tasks import normalised_score
from o2okit.tasks import task as find_task
from o2okit.training.spec import RunSpec
from o2okit.training.store import MissingAgentError, RunFolder, RunStore


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
        return load(self.folder, "checkpoint")[0]

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
        state, _ = load(self.folder, name)
        spec = self.spec
        agent = BACKBONES[spec.backbone](spec.task_seen, [spec.hyper], [spec.seed])
        agent.load_state(
            {k.removeprefix("agent/"): v[None] for k, v in state.items() if k.startswith("agent/")}
        )
        return agent


def load(folder: RunFolder, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A state of a finished run and its header. Raises ``MissingAgentError`` where an archive left it out."""
    loaded = folder.load_tensors(name)
    if loaded is None:
        raise MissingAgentError(
            f"{folder.path / name}.safetensors is missing although the run is finished. If it came from an "
            f"archive, that is how it came. Delete the folder {folder.path} to train the run again."
        )
    return loaded


# --- what runs were trained with ---
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
        "native": native.compiler() is not None,
        "device": gpu or f"cpu ({os.cpu_count()} cores, {torch.get_num_threads()} threads)",
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # mujoco is an extra
        return None
