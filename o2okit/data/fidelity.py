"""How far the environments here are from those that recorded a file (specs/tasks.md 3).

    one step      a stored state, the stored action, one step here: how far off is the next observation?
    the policy    D4RL's medium and expert files hold the policy that acted: what does it return here?

MuJoCo's contact solver has changed since D4RL's files were made, which nobody can undo; so it is measured.
Of data that were collected here a step is off by what float32 leaves out of a state, which contacts may
enlarge, and ant's reward by more: it is measured on a position that lags by a substep and that no file holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from o2okit.data import hdf5, kit
from o2okit.data.policies import Snapshot
from o2okit.data.rows import Rows
from o2okit.errors import UserError
from o2okit.tasks import Key, Task
from o2okit.tasks.mujoco_vector import MujocoVector

FAMILIES = ("locomotion", "antmaze")  # whose observations tell the state
CLIPPED = 10  # velocities that hopper and walker2d observe no larger
SIDE_BY_SIDE = 256
POLICY = "metadata/policy"  # in D4RL's files, as rlkit writes it


@dataclass(frozen=True)
class OneStep:
    """``n`` steps from stored states.

    Attributes:
        observations: ``|Δ|`` of the next observation, ``[n, obs]``.
        spread: standard deviation of each dimension in the data, ``[obs]``; 1 for one that is constant.
        rewards: ``|Δ|`` of the reward ``[n]``.
        ends: share of the rows that terminate here as they do in the file.

    The last two are ``None`` where they depend on a goal that is not observed.
    """

    observations: np.ndarray
    spread: np.ndarray
    rewards: np.ndarray | None
    ends: float | None


def one_step(rows: Rows, task: Task, most: int) -> OneStep:
    """Repeats up to ``most`` of the file's steps, evenly spaced.

    States whose velocities the observation clips are left out, and rows whose next observation is not the
    following row's.

    Raises:
        UserError: the observations of the task's family don't tell the state, or no row is left.
    """
    if task.family not in FAMILIES:
        raise UserError(
            f"an observation of {task.name} does not tell the whole state, so that its steps can't be "
            f"repeated. Those of the families {', '.join(FAMILIES)} can."
        )
    env = task.vector([Key(0, f"fidelity/{i}") for i in range(SIDE_BY_SIDE)])
    env.reset()
    qpos, qvel = _states(rows.observations, task, env.model.nq, env.model.nv)
    usable = ~rows.timeouts
    usable[-1] = False
    if task.environment in ("hopper", "walker2d"):
        usable &= (np.abs(qvel) < CLIPPED).all(1)
    allowed = np.flatnonzero(usable)
    if not len(allowed):
        raise UserError(f"no row of {task.name} can be repeated: none is followed by another.")
    chosen = allowed[np.linspace(0, len(allowed) - 1, min(most, len(allowed))).astype(int)]
    parts = np.array_split(chosen, -(-len(chosen) // SIDE_BY_SIDE))
    steps = [_repeat(env, qpos[part], qvel[part], rows.actions[part]) for part in parts]
    following, rewards, terminated = map(np.concatenate, zip(*steps, strict=True))
    # After a terminal step the file's next row begins another episode.
    goes_on, size = ~rows.terminals[chosen], task.obs_size - task.padding
    away = np.abs(following - rows.observations[chosen + 1])[goes_on, :size]
    spread = rows.observations[:, :size].std(axis=0, dtype=np.float64)
    spread = np.where(spread > 0, spread, 1)
    if task.family == "antmaze":
        return OneStep(away, spread, None, None)
    same = terminated == rows.terminals[chosen]
    return OneStep(away, spread, np.abs(rewards - rows.rewards[chosen]), float(same.mean()))


def _states(obs: np.ndarray, task: Task, nq: int, nv: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions ``[N, nq]`` and velocities ``[N, nv]``; x, or x and y, which robots don't observe, are 0."""
    hidden = nq + nv - (task.obs_size - task.padding)
    unseen = np.zeros((len(obs), hidden))
    return np.hstack([unseen, obs[:, : nq - hidden]]), obs[:, nq - hidden :][:, :nv].astype(float)


def _repeat(
    env: MujocoVector, qpos: np.ndarray, qvel: np.ndarray, actions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(observation, reward, terminated) after a step from each state ``[n, ...]``."""
    n, every = len(actions), np.zeros((env.num_envs, actions.shape[1]), dtype=np.float32)
    every[:n] = actions
    for i in range(n):
        env.place(i, qpos[i], qvel[i])
    _, reward, terminated, _, info = env.step(every, np.arange(env.num_envs) < n)
    return info["final_obs"][:n], reward[:n], terminated[:n]


def stored_policy(path: Path) -> Snapshot | None:
    """The policy that D4RL's medium and expert files hold; ``None`` where there is none.

    Raises ``UserError`` where it has another form than rlkit's.
    """
    with hdf5.intact(path), hdf5.open_file(path) as file:
        if POLICY not in file:
            return None

        def layer(name: str) -> tuple[torch.Tensor, torch.Tensor]:
            parts = (f"{POLICY}/{name}/{part}" for part in ("weight", "bias"))
            weight, bias = (np.float32(hdf5.array(path, file, part)) for part in parts)
            return torch.from_numpy(weight), torch.from_numpy(bias)

        names = ("fc0", "fc1", "last_fc", "last_fc_log_std")
        if missing := [name for name in names if f"{POLICY}/{name}/weight" not in file]:
            raise UserError(
                f"{path}: the policy in {POLICY} has no {', '.join(missing)}: not the tanh-Gaussian of two "
                "hidden layers that D4RL's files hold."
            )
        *hidden, mean, log_std = map(layer, names)
    last = tuple(torch.cat(both) for both in zip(mean, log_std, strict=True))
    return Snapshot(0, (*hidden, last), {})


def policy_returns(path: Path, task: Task, episodes: int) -> np.ndarray | None:
    """Returns ``[episodes]`` of the policy that a file holds, its actions sampled, here."""
    policy = stored_policy(path)
    if policy is None:
        return None
    sizes = (policy.layers[0][0].shape[1], len(policy.layers[-1][1]))
    if sizes != (task.obs_size, 2 * task.act_size):
        raise UserError(
            f"{path}: its policy takes {sizes[0]} observations and gives {sizes[1] // 2} actions; "
            f"{task.name} has {task.obs_size} and {task.act_size}."
        )
    return kit.episode_returns(task, policy, episodes, seed=0, stream="fidelity/policy")[0]
