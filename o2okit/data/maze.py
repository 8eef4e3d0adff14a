"""Datasets for the toy maze: many noisy paths, many to the far goal, few to the near one.

Departures from the paper (Section 3.1, B.4):
    1. ``scripted``: the paper collects with checkpoints of DQN and DQN + RND. Here noisy shortest-path
       policies take their place, because plain DQN found the near goal and never the far one
       (specs/gde.md 2.8). ``checkpoints`` collects with checkpoints, too.
    2. The paper gives no shares. Ours, for both: half noise, 45 % to the right goal, 5 % to the left one;
       checkpoints are sorted into these by where their greedy path ends. A goal that no checkpoint
       reaches leaves its share to the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from o2okit.data.dataset import Dataset
from o2okit.streams import generator
from o2okit.tasks.maze import GEOMETRY, HORIZON, OUTCOMES


@dataclass(frozen=True)
class Part:
    """A share of the dataset and the tabular policy ``[S, 4]`` that collects it."""

    label: str
    share: float
    policy: np.ndarray


def epsilon_greedy(policy: np.ndarray, epsilon: float) -> np.ndarray:
    """``policy`` ``[S, 4]`` mixed with uniform actions; all uniform where it has none."""
    uniform = np.full_like(policy, 1 / policy.shape[1])
    known = policy.sum(1, keepdims=True) > 0
    return np.where(known, (1 - epsilon) * policy + epsilon * uniform, uniform)


def scripted_parts() -> list[Part]:
    """The composition of specs/gde.md 2.8."""
    left, right = GEOMETRY.optimal_actions(1), GEOMETRY.optimal_actions(2)
    return [
        Part("random", 0.5, np.full((GEOMETRY.n_cells, 4), 0.25)),
        Part("right goal, ε = 0.1", 0.225, epsilon_greedy(right, 0.1)),
        Part("right goal, ε = 0.3", 0.225, epsilon_greedy(right, 0.3)),
        Part("left goal, ε = 0.3", 0.05, epsilon_greedy(left, 0.3)),
    ]


def collect(
    parts: Sequence[Part], *, name: str, transitions: int, seed: int, provenance: dict
) -> Dataset:
    """Rolls the parts out one after the other.

    Args:
        parts: their shares must add up to 1.
        name: name of the dataset.
        transitions: ``N``; an episode that a part's quota cuts off ends as a time-out.
        seed: equal seeds give equal datasets.
        provenance: recorded, together with the parts and how their episodes ended.
    """
    ends = np.rint(np.cumsum([part.share for part in parts]) * transitions).astype(int)
    state, action, following = (np.empty(transitions, dtype=np.int64) for _ in range(3))
    terminal, timeout = (np.zeros(transitions, dtype=bool) for _ in range(2))
    i = 0
    for part, end in zip(parts, ends, strict=True):
        draws = generator(seed, f"dataset/{part.label}").random(transitions)
        thresholds = part.policy.cumsum(1)[:, :-1]
        cell, elapsed = GEOMETRY.start, 0
        while i < end:
            move = int((draws[i] >= thresholds[cell]).sum())
            state[i], action[i] = cell, move
            cell, elapsed = int(GEOMETRY.successor[cell, move]), elapsed + 1
            following[i], terminal[i] = cell, GEOMETRY.outcome[cell] > 0
            timeout[i] = not terminal[i] and (elapsed == HORIZON or i + 1 == end)
            if terminal[i] or timeout[i]:
                cell, elapsed = GEOMETRY.start, 0
            i += 1
    outcome = GEOMETRY.outcome[following[terminal | timeout]]
    return Dataset(
        task="toy-maze",
        name=name,
        source="kit",
        observations=state,
        actions=action,
        rewards=np.full(transitions, -1.0, dtype=np.float32),
        next_observations=following,
        terminals=terminal,
        timeouts=timeout,
        provenance={
            **provenance,
            "seed": seed,
            "parts": {part.label: part.share for part in parts},
            "episodes": {label: int((outcome == k).sum()) for k, label in enumerate(OUTCOMES)},
        },
    )


def scripted(transitions: int = 50_000, seed: int = 0) -> Dataset:
    """The default dataset of Fig. 2."""
    provenance = {"recipe": "noisy shortest-path policies (specs/gde.md 2.8)"}
    return collect(
        scripted_parts(),
        name="kit-toy-maze-scripted",
        transitions=transitions,
        seed=seed,
        provenance=provenance,
    )


def checkpoint_parts(tables: Sequence[np.ndarray]) -> list[Part]:
    """A composition like the scripted one from the greedy policies of checkpoints.

    Args:
        tables: ``[S]`` greedy action of each checkpoint.

    The checkpoints are sorted by where their greedy path ends. A goal that no checkpoint reaches gets
    no part: its share goes to the checkpoints that reach none, and the provenance shows it.
    """
    groups: dict[int, list[np.ndarray]] = {0: [], 1: [], 2: []}
    for actions in tables:
        cell = GEOMETRY.start
        for _ in range(HORIZON):
            cell = int(GEOMETRY.successor[cell, actions[cell]])
            if GEOMETRY.outcome[cell]:
                break
        groups[int(GEOMETRY.outcome[cell])].append(np.eye(4)[actions])
    if not groups[0]:
        groups[0] = [np.zeros((GEOMETRY.n_cells, 4))]  # no policy: uniform actions
    wanted = {0: (0.5, (0.3, 1.0)), 2: (0.45, (0.1, 0.3)), 1: (0.05, (0.3,))}
    missing = sum(share for goal, (share, _) in wanted.items() if not groups[goal])
    parts = []
    for goal, (share, epsilons) in wanted.items():
        total = share + (missing if goal == 0 else 0.0)
        for number, policy in enumerate(groups[goal]):
            for epsilon in epsilons:
                label = f"{OUTCOMES[goal]} checkpoint {number}, ε = {epsilon}"
                each = total / (len(groups[goal]) * len(epsilons))
                parts.append(Part(label, each, epsilon_greedy(policy, epsilon)))
    return parts
