"""The behaviour policies that the kit ships: ladders of SAC snapshots, one per environment.

    policies/<environment>.safetensors   the snapshots' actors, float16
    policies/<environment>.json          how they were trained, the curve, what each snapshot scores

``o2okit data ladder ENVIRONMENT`` writes both from a training run. Where the expert came later, from another
run, it is a ladder of its own (``<environment>-expert``): the datasets of the first one stay what they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from o2okit.errors import UserError
from o2okit.files import replacing

FOLDER = Path(__file__).parent / "policies"


@dataclass(frozen=True)
class Snapshot:
    """A tanh-Gaussian policy: hidden layers with ReLU, the last gives mean and log σ.

    Attributes:
        step: environment steps it was trained for; 0 acts uniformly.
        layers: (weight ``[out, in]``, bias ``[out]``) of each layer, float32.
        scores: mean, std, min and max return of sampled episodes, and their number; for the
            controller of AntMaze's ant what ``o2okit.data.controller.hop_scores`` says.
    """

    step: int
    layers: tuple[tuple[Tensor, Tensor], ...]
    scores: Mapping[str, float]

    @torch.no_grad()
    def sample(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Actions ``[n, A]`` for ``obs`` ``[n, D]`` and standard normal ``noise`` ``[n, A]``."""
        h = obs[:, : self.layers[0][0].shape[1]]  # ant's padding is not stored
        for weight, bias in self.layers[:-1]:
            h = F.relu_(F.linear(h, weight, bias))
        mean, log_std = F.linear(h, *self.layers[-1]).chunk(2, dim=-1)
        return torch.tanh(mean + log_std.clamp(-20, 2).exp() * noise)


@dataclass(frozen=True)
class Ladder:
    """The snapshots of one environment, from the least trained to the most."""

    environment: str
    snapshots: tuple[Snapshot, ...]
    record: Mapping[str, Any]
    beyond: Ladder | None = None  # has the roles that this one does not reach

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the policies and their roles: part of every dataset that they collect."""
        roles = json.dumps(self.record["roles"], sort_keys=True).encode()
        more = self.beyond.hash.encode() if self.beyond else b""
        return hashlib.sha256(_files(self.environment)[0].read_bytes() + roles + more).hexdigest()

    def snapshot(self, step: int) -> Snapshot:
        """The snapshot at ``step``."""
        return next(snapshot for snapshot in self.snapshots if snapshot.step == step)

    def role(self, name: str) -> list[tuple[Snapshot, float]]:
        """Snapshots that collect a quality (``medium``, ``expert``, ``controller``), their shares of it.

        Raises ``UserError`` where the ladder does not reach it.
        """
        if name not in self.record["roles"]:
            if self.beyond is not None:
                return self.beyond.role(name)
            measure = self.record.get("measure", "mean")
            best = max(snapshot.scores[measure] for snapshot in self.snapshots)
            raise UserError(
                f"the kit's policies for {self.environment} do not reach {name!r} yet: the best of them "
                f"reaches {best:.4g} ({measure}). Reached: {', '.join(self.record['roles'])}. Put D4RL's "
                "file where `o2okit data where` looks, or train on with "
                f"`o2okit data train {self.environment}`."
            )
        return [(self.snapshot(part["step"]), part["share"]) for part in self.record["roles"][name]]


def _files(environment: str) -> tuple[Path, Path]:
    return tuple(FOLDER / f"{environment}.{ending}" for ending in ("safetensors", "json"))


def ladders() -> list[str]:
    """The names of those that there are."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def ladder(environment: str) -> Ladder:
    """The shipped policies of an environment. Raises ``UserError`` where there are none or damaged ones."""
    weights, record = _files(environment)
    if not weights.is_file():
        raise UserError(
            f"the kit has no behaviour policies for {environment!r}; it has them for "
            f"{', '.join(ladders()) or 'no environment'}. Make them: `o2okit data train {environment}`, "
            f"then `o2okit data ladder {environment}`; or take D4RL's file, where it has one."
        )
    try:
        return _read(environment, weights, record)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(
            f"the kit's behaviour policies for {environment!r} are damaged: {weights.name} and {record.name} "
            f"in {FOLDER} do not fit together ({type(error).__name__}: {error}). The installation is broken: "
            "install o2okit again, or in a checkout: git checkout -- o2okit/data/policies"
        ) from error


def _read(environment: str, weights: Path, record: Path) -> Ladder:
    described = json.loads(record.read_text(encoding="utf-8"))
    snapshots = []
    with safe_open(weights, framework="pt") as file:
        unused = set(file.keys())
        for row in described["snapshots"]:
            names = [f"{row['step']}/{n}" for n in range(described["layers"])]
            pairs = [[f"{name}/{part}" for part in ("weight", "bias")] for name in names]
            layers = tuple(tuple(file.get_tensor(part).float() for part in pair) for pair in pairs)
            unused = unused.difference(*pairs)
            scores = {key: value for key, value in row.items() if key != "step"}
            snapshots.append(Snapshot(row["step"], layers, scores))
    if unused:
        raise ValueError(f"no snapshot has {', '.join(sorted(unused))}")
    return Ladder(environment, tuple(snapshots), described)


def write_ladder(
    environment: str, snapshots: list[Snapshot], record: Mapping[str, Any], folder: Path = FOLDER
) -> None:
    """Writes a ladder's two files; the weights are rounded to float16."""
    tensors = {
        f"{snapshot.step}/{number}/{part}": tensor.half().contiguous()
        for snapshot in snapshots
        for number, layer in enumerate(snapshot.layers)
        for part, tensor in zip(("weight", "bias"), layer, strict=True)
    }
    described = {
        **record,
        "layers": len(snapshots[0].layers),
        "snapshots": [{"step": s.step, **s.scores} for s in snapshots],
    }
    text = json.dumps(described, indent=1, ensure_ascii=False) + "\n"
    for ending, data in (("safetensors", save(tensors)), ("json", text.encode())):
        try:
            with replacing(folder / f"{environment}.{ending}") as beside:
                beside.write_bytes(data)
        except OSError as error:
            raise UserError(
                f"could not write {folder / environment}.{ending}: {error.strerror}. Free space or mend the "
                "permissions of the folder of the package, then start the same command again."
            ) from error
