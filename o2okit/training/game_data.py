"""The datasets of Atari games: a DQN agent is trained, and its checkpoints play (GDE, C.5).

Numbered departures from the paper, which says no more than that:
    1. Five checkpoints, at equal distances, collect equal shares, ε-greedily with ε = 0.05.
    2. DQN's amounts (replay, learning rate, schedule of ε) are those of Mnih et al. scaled to its length.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from o2okit.backbones.settings import settings
from o2okit.data import Batch, Dataset, Replay, sources
from o2okit.data.dataset import FIELDS
from o2okit.errors import UserError
from o2okit.files import replacing
from o2okit.streams import Streams
from o2okit.tasks import Key, Task
from o2okit.tasks import task as find_task
from o2okit.training.progress import Progress
from o2okit.training.run import Run
from o2okit.training.spec import RunSpec

CHECKPOINTS = 5
EPSILON = 0.05
EVERY = 4  # environment steps per update (Mnih et al.)


def behaviour(task: str, steps: int, seed: int = 0) -> RunSpec:
    """The agent that collects a game's data: DQN from scratch for ``steps`` steps of four frames."""
    schedule = {"epsilon_start": 1.0, "epsilon_steps": max(1, steps // 10)}
    return RunSpec(
        task,
        "dqn",
        "online",
        steps,
        seed,
        hyper=settings("dqn", find_task(task), None, schedule),
        replay="online",
        capacity=min(steps, 250_000),
        learning_starts=steps // 50,
        update_every=EVERY,
        eval_every=steps,  # what the checkpoints score, the dataset's record says
        eval_episodes=1,
        snapshot_every=max(1, steps // CHECKPOINTS),
    )


def file(spec: RunSpec, rows: int) -> Path:
    """Where ``dataset`` keeps what a behaviour run plays."""
    return sources.kit_folder() / f"kit-{spec.task}-{rows}-{spec.id}.safetensors"


def dataset(run: Run, rows: int) -> Dataset:
    """``rows`` transitions by the checkpoints of a behaviour run; played once, then read from the disk.

    Raises ``UserError`` where the run has no checkpoints, or the file can't be written.
    """
    task, path = find_task(run.spec.task), file(run.spec, rows)
    if not path.is_file():
        _write(path, *_collect(run, task, rows))
    return _read(path, task)


def _collect(run: Run, task: Task, rows: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The fields of a dataset and its provenance."""
    steps, parts, images, played = run.checkpoints(), [], 0, []
    ends = np.rint(np.linspace(0, rows, len(steps) + 1)).astype(int)
    progress = Progress(f"kit dataset {task.name}", rows)
    for number, step in enumerate(steps):
        part, returns = _play(run, task, step, int(ends[number + 1] - ends[number]))
        for name in ("observations", "next_observations"):
            part[name] += task.image[0] * images
        images += len(part["frames"])
        parts.append(part)
        played.append({"step": step, "episodes": len(returns), "return": float(np.mean(returns))})
        progress.update(int(ends[number + 1]))
    progress.close()
    about = {"recipe": "checkpoints of DQN", "behaviour_run": run.spec.id, "epsilon": EPSILON}
    fields = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return fields, {**about, "seed": run.spec.seed, "checkpoints": played}


def _play(run: Run, task: Task, step: int, rows: int) -> tuple[dict[str, Tensor], list[float]]:
    """What one checkpoint collects, and the returns of its episodes; the last one is cut off."""
    agent, seed, stream = run.agent(step), run.spec.seed, f"dataset/{step}"
    env, streams = task.vector([Key(seed, stream)]), Streams([seed], stream)
    record = Replay("online", task, None, runs=1, capacity=rows)
    cut = torch.zeros(rows, dtype=torch.bool)
    returns, running = [], 0.0
    obs, _ = env.reset()
    for row in range(rows):
        u = streams.uniform("explore", row, 2)
        random = (u[:, 1] * task.act_size).long()
        best = agent.greedy(torch.from_numpy(obs)[:, None])[:, 0]
        action = torch.where(u[:, 0] < EPSILON, random, best)
        before = torch.from_numpy(obs)
        obs, reward, terminated, truncated, info = env.step(action.numpy())
        cut[row] = bool(truncated[0]) or (row == rows - 1 and not terminated[0])
        fields = (torch.from_numpy(x) for x in (reward, info["final_obs"], terminated))
        record.add(Batch(before, action, *fields), torch.from_numpy(terminated | truncated))
        running += float(reward[0])
        if terminated[0] or cut[row]:
            returns.append(running)
            running = 0.0
    columns = record.rows.T
    fields = {
        "observations": columns[0].long(),
        "actions": columns[1].long(),
        "rewards": columns[2].clone(),
        "next_observations": columns[3].long(),
        "terminals": columns[4].bool(),
        "timeouts": cut,
        "frames": record.frames.images[: int(record.frames.pushed)].clone(),
    }
    return fields, returns


def _write(path: Path, fields: dict[str, Tensor], about: dict[str, Any]) -> None:
    try:
        with replacing(path) as beside:
            save_file(fields, beside, metadata={"provenance": json.dumps(about)})
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"could not write {path}: {getattr(error, 'strerror', None) or error}. Free space or mend the "
            "permissions; O2OKIT_DATA_DIR moves the folder of datasets."
        ) from error


def _read(path: Path, task: Task) -> Dataset:
    try:
        with safe_open(path, framework="numpy") as stored:
            arrays = {name: stored.get_tensor(name) for name in (*FIELDS, "frames")}
            about = json.loads(stored.metadata()["provenance"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} can't be read ({error}). Delete it: it is played again."
        ) from error
    name = f"kit-{task.name}-{len(arrays['rewards'])}"
    return Dataset(task.name, name, "kit", provenance=about, **arrays)
