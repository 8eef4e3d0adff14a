"""The ant's controller: it walks in a direction. What it is worth is measured in hops of 4 m.

A snapshot of ``ant-controller`` acts with its mean and a little noise, as OGBench's does
(specs/tasks.md 6); ``sampled`` draws the actions from its distribution first, as D4RL's does.
"""

from __future__ import annotations

import numpy as np
import torch

from o2okit.data.planner import towards
from o2okit.data.policies import Snapshot
from o2okit.streams import generator
from o2okit.tasks import Key, task
from o2okit.tasks.antmaze_maps import RADIUS, SIZE

NOISE = 0.2  # standard deviation, added to the actions
LIMIT = 100  # steps that a hop may take
ANTS, HOPS = 50, 5  # that score a snapshot, and hops of each


class Controller:
    """Actions for ants that are told a direction.

    Args:
        snapshot: of ``ant-controller``.
        rng: of the actions' noise.
        sampled: draw from the policy's distribution, not its mean.
    """

    def __init__(
        self, snapshot: Snapshot, rng: np.random.Generator, *, sampled: bool = False
    ) -> None:
        self.snapshot, self.rng, self.sampled = snapshot, rng, sampled

    def act(self, posture: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Actions ``[n, 8]`` in [-1, 1] for ``posture`` ``[n, 27]`` and unit vectors ``[n, 2]``."""
        obs = torch.from_numpy(np.concatenate([posture, directions], axis=1).astype(np.float32))
        size = (len(obs), len(self.snapshot.layers[-1][1]) // 2)
        drawn, added = self.rng.standard_normal((2, *size), dtype=np.float32)
        actions = self.snapshot.sample(obs, torch.from_numpy(drawn * self.sampled)).numpy()
        return np.clip(actions + np.float32(NOISE) * added, -1.0, 1.0)


def hop_scores(environment: str, snapshot: Snapshot, confirm: bool = False) -> dict[str, float]:
    """What the snapshot covers on the empty floor.

    Ants walk hop after hop, each to within 0.5 m of a point 4 m away along the grid or a diagonal. A
    hop fails with a fall, after which the ant starts anew, or after ``LIMIT`` steps.

    Args:
        environment: whose task is walked in.
        snapshot: who walks.
        confirm: other hops than without it.

    Returns:
        ``hops`` share that is covered, ``steps`` mean of those, ``falls`` share that ends in a fall,
        ``tried`` number of hops.
    """
    seed, stream = int(confirm), f"hops/{snapshot.step}"
    env = task(environment).vector([Key(seed, f"{stream}/start/{ant}") for ant in range(ANTS)])
    controller = Controller(snapshot, generator(seed, f"{stream}/actions"))
    heading = generator(seed, f"{stream}/headings").integers(0, 8, (HOPS + 1, ANTS)) * np.pi / 4
    offset = SIZE * np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    ants = np.arange(ANTS)
    tried, covered, fallen, steps, age = np.zeros((5, ANTS), dtype=np.int64)
    obs, _ = env.reset()
    target = env.qpos[:, :2] + offset[0]
    while (active := tried < HOPS).any():
        directions = towards(env.qpos[:, :2], target)
        obs, _, fell, _, _ = env.step(controller.act(obs[:, :27], directions), active)
        age += active
        near = np.linalg.norm(env.qpos[:, :2] - target, axis=1) <= RADIUS
        reached = active & near & ~fell
        over = active & (reached | fell | (age >= LIMIT))
        covered += reached
        fallen += fell
        steps += np.where(reached, age, 0)
        tried += over
        age[over] = 0
        target = np.where(over[:, None], env.qpos[:, :2] + offset[tried, ants], target)
    return {
        "hops": float(covered.sum() / tried.sum()),
        "steps": float(steps.sum() / max(covered.sum(), 1)),
        "falls": float(fallen.sum() / tried.sum()),
        "tried": int(tried.sum()),
    }
