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

import h5py
import numpy as np
import torch

from o2okit.data import hdf5, kit, minari
from o2okit.data.policies import Snapshot
from o2okit.data.rows import Rows
from o2okit.data.sources import Place
from o2okit.errors import UserError
from o2okit.tasks import Key, Task
from o2okit.tasks.mujoco_vector import MujocoVector

STATE = ("qpos", "qvel")
SIDE_BY_SIDE = 256
POLICY = "metadata/policy"  # in D4RL's files, as rlkit writes it
# What the policy is, where the file says so.
KIND = {"nonlinearity": "relu", "output_distribution": "tanh_gaussian"}


@dataclass(frozen=True)
class OneStep:
    """``n`` steps from stored states.

    Attributes:
        observations: ``|Δ|`` of the next observation, ``[n, obs]``.
        spread: standard deviation of each dimension in the data, ``[obs]``; 1 for one that is constant.
        rewards: ``|Δ|`` of the reward ``[n]``.
        ends: share of the rows that terminate here as they do in the file.
        left_out: share of the file's rows whose velocities are not known: clipped, and not among the infos.

    ``rewards`` and ``ends`` are ``None`` where they depend on a goal that is not observed.
    """

    observations: np.ndarray
    spread: np.ndarray
    rewards: np.ndarray | None
    ends: float | None
    left_out: float


def read(place: Place, task: Task) -> Rows:
    """A dataset's rows with its simulator's states, where the file has them. Raises as ``read_rows``."""
    if place.source == "minari":
        return minari.read_rows(place.path, task)
    with hdf5.intact(place.path), hdf5.open_file(place.path) as file:
        infos = [name for name in STATE if f"infos/{name}" in file]
    return hdf5.read_rows(place.path, task, infos=infos if len(infos) == len(STATE) else ())


def one_step(rows: Rows, task: Task, most: int) -> OneStep:
    """Repeats up to ``most`` of the file's steps, evenly spaced, of ``read``'s rows.

    Left out are rows whose next observation is not the following row's, and states that are not known.

    Raises:
        UserError: the task's observations don't tell the state, or no row is left.
    """
    env = task.vector([Key(0, f"fidelity/{i}") for i in range(SIDE_BY_SIDE)])
    if not env.observes_state:
        raise UserError(
            f"an observation of {task.name} does not tell the whole state, so that its steps can't be "
            "repeated. Those of the robots and of AntMaze can."
        )
    qpos, qvel, known = _states(rows, task, env)
    usable = known & ~rows.timeouts
    usable[-1] = False
    allowed = np.flatnonzero(usable)
    if not len(allowed):
        raise UserError(f"no row of {task.name} can be repeated: none is followed by another.")
    chosen = allowed[np.linspace(0, len(allowed) - 1, min(most, len(allowed))).astype(int)]
    parts = np.array_split(chosen, -(-len(chosen) // SIDE_BY_SIDE))
    steps = [_repeat(env, qpos[part], qvel[part], rows.actions[part]) for part in parts]
    following, rewards, terminated = map(np.concatenate, zip(*steps, strict=True))
    # After a terminal step the next row begins another episode, or, in a maze, may have another goal.
    goes_on, size = ~rows.terminals[chosen], task.obs_size - task.padding
    if not goes_on.any():
        raise UserError(f"of {task.name} only terminal steps were taken: ask for more steps.")
    away = np.abs(following - rows.observations[chosen + 1])[goes_on, :size]
    spread = rows.observations[:, :size].std(axis=0, dtype=np.float64)
    spread = np.where(spread > 0, spread, 1)
    left_out = float((~known).mean())
    if task.sparse:  # which is said of goals
        return OneStep(away, spread, None, None, left_out)
    same = terminated == rows.terminals[chosen]
    rewards = np.abs(rewards - rows.rewards[chosen])
    return OneStep(away, spread, rewards, float(same.mean()), left_out)


def _states(rows: Rows, task: Task, env: MujocoVector) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions ``[N, nq]``, velocities ``[N, nv]``, whether they are known ``[N]``.

    Without infos x, or x and y, which robots don't observe, are 0: nothing depends on them.
    """
    obs = rows.observations
    if rows.infos:
        qpos, qvel = (np.asarray(rows.infos[name], dtype=float) for name in STATE)
        return qpos, qvel, np.ones(len(rows), dtype=bool)
    nq, nv = env.model.nq, env.model.nv
    hidden = nq + nv - (task.obs_size - task.padding)
    qpos = np.hstack([np.zeros((len(obs), hidden)), obs[:, : nq - hidden]])
    qvel = obs[:, nq - hidden :][:, :nv].astype(float)
    return qpos, qvel, (np.abs(qvel) < env.fastest).all(1)


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

        for name, wanted in KIND.items():
            if f"{POLICY}/{name}" in file and (kind := _word(file[f"{POLICY}/{name}"])) != wanted:
                raise UserError(
                    f"{path}: the {name} of its policy is {kind!r}; o2okit knows {wanted!r}."
                )
        names = ("fc0", "fc1", "last_fc", "last_fc_log_std")
        if missing := [name for name in names if f"{POLICY}/{name}/weight" not in file]:
            raise UserError(
                f"{path}: the policy in {POLICY} has no {', '.join(missing)}: not the tanh-Gaussian of two "
                "hidden layers that D4RL's files hold."
            )
        *hidden, mean, log_std = map(layer, names)
        last = tuple(torch.cat(both) for both in zip(mean, log_std, strict=True))
    return Snapshot(0, (*hidden, last), {})


def _word(field: h5py.Dataset) -> str:
    value = field[()]
    return value.decode() if isinstance(value, bytes) else str(value)


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
