"""The training loop: the runs of a cohort, one step at a time, and their whole state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from o2okit.backbones import BACKBONES
from o2okit.backbones.base import with_rewards
from o2okit.data import Batch, Dataset, Replay
from o2okit.data.returns import best_episodes
from o2okit.data.rollout import one_thread
from o2okit.errors import UserError, whole
from o2okit.methods import METHODS, Naive
from o2okit.streams import Draws, Streams
from o2okit.tasks import Key, Task
from o2okit.training.capture import capture, compared, wanted
from o2okit.training.spec import RunSpec

Rows = dict[str, list[dict[str, Any]]]


class Cohort:
    """Runs that are trained together: equal ``RunSpec.cohort``, any seeds and per-run values.

    Args:
        specs: the runs, in the order of the run axis.
        device: where the learner's tensors live; environments step on the CPU.
    """

    def __init__(self, specs: Sequence[RunSpec], device: torch.device | str = "cpu") -> None:
        spec, seeds = specs[0], [s.seed for s in specs]
        self.specs, self.runs, self.device = list(specs), len(specs), device
        self.task, self.online = spec.task_seen, spec.phase == "online"
        self.agent = BACKBONES[spec.backbone](self.task, [s.hyper for s in specs], seeds, device)
        method = METHODS[spec.method]
        recorded = wanted(compared(type(self.agent), method, device))
        self.update = capture(self.agent) if recorded else self.agent.update
        self.method = method(self.agent, [s.method_hyper for s in specs], seeds)
        self.agent.method = self.method
        data, kind = spec.dataset, spec.replay
        if kind == "part":
            rows = best_episodes(data, spec.part_episodes)
            data, kind = data.select(rows, f"best {spec.part_episodes} episodes"), "mixed"
        data = data and self.method.select(data)
        self.replay = Replay(
            kind,
            self.task,
            data,
            runs=self.runs,
            capacity=(spec.capacity or spec.steps) if self.online else 0,
            returns=self._returns(data),
            n_step=whole(f"{method.__name__}.n_step", self.method.n_step, 1),
            discount=self.agent.hyper.discount,
            device=device,
        )
        self.method.attach(self.replay)
        if spec.dataset is not None:
            self.agent.fit(spec.dataset)
        self.streams = Streams(seeds, spec.phase, device)
        self.step = 0
        self.rows: list[Rows] = [
            {"evaluations": [], "episodes": [], "metrics": []} for _ in self.specs
        ]
        self.diverged = np.zeros(self.runs, dtype=bool)
        self._metrics: dict[str, Tensor] = {}
        if self.online:
            self.env = self.task.vector([Key(seed, "online/start") for seed in seeds])
            self.obs, _ = self.env.reset()
            self.episode = {"return": np.zeros(self.runs), "length": np.zeros(self.runs, int)}

    def _returns(self, dataset: Dataset | None) -> Tensor | None:
        """Monte-Carlo returns of the dataset's rows, for backbones that learn from them."""
        if not self.agent.needs_returns:
            return None
        if dataset is None:
            return torch.zeros(0)
        ends = dataset.terminals | dataset.timeouts
        return torch.from_numpy(self.agent.returns(dataset.rewards, dataset.terminals, ends))

    def _store_returns(self, run: int, length: int, terminated: bool) -> None:
        """The returns of the episode of a run that has just ended."""
        rows = self.replay.episode_rows(run, length)
        rewards = self.replay.rewards(rows).cpu().numpy()
        ends = np.zeros(len(rewards), dtype=bool)
        ends[-1] = True
        returns = self.agent.returns(rewards, ends & terminated, ends)
        self.replay.set_returns(rows, torch.from_numpy(returns))

    # --- one step ---------------------------------------------------------------------------------
    def advance(self) -> None:
        """One update offline; one environment step and its updates online."""
        self.method.step = self.step
        if self.online:
            self.interact()
        updates = self.updates_at(self.step)
        for update in range(updates):
            self.learn(self.streams.at(self.step * updates + update))
        self.step += 1

    def updates_at(self, step: int) -> int:
        """How many updates there are at a step; the method is told the step."""
        spec, self.method.step = self.specs[0], step
        due = step >= spec.learning_starts and step % spec.update_every == 0
        learns = not self.online or (due and self.method.learns())
        return spec.updates_per_step if learns else 0

    def learn(self, draws: Draws) -> None:
        """One update, with the random numbers ``draws``."""
        self.method.draws = draws
        batch = self.agent.prepare(self.method.sample(self.replay))
        batch = with_rewards(batch, self.method.reward(batch), self.specs[0].method)
        self._metrics |= self.update(batch, draws)
        extra = self.method.extra_updates(batch)
        if not isinstance(extra, Mapping) or not all(map(self._is_metric, extra.values())):
            raise UserError(
                f"method {self.specs[0].method!r} returns {extra!r} from extra_updates; allowed is a "
                f"dictionary of metrics, {{}} for none: a tensor ({self.runs},) each, a number per run."
            )
        self._metrics |= extra

    def _is_metric(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.shape == (self.runs,)

    def interact(self) -> None:
        """One step of every run's environment."""
        obs = torch.from_numpy(self.obs)
        action = self.method.act(obs.to(self.device), self.streams.at(self.step))
        action = action.nan_to_num().cpu()  # a diverged run goes on and is recorded as such
        self.obs, reward, terminated, truncated, info = self.env.step(action.numpy())
        following, rewards, ends = map(
            torch.from_numpy, (info["final_obs"], reward, terminated)
        )  # which go to a GPU as one row
        ended = terminated | truncated
        seen = torch.from_numpy(np.stack([reward, ended])).to(self.device)
        self.method.observe(seen[0], seen[1].bool())
        if self.method.cuts():
            if not ended.all():
                self.obs, _ = self.env.reset(options={"reset_mask": ~ended})
            ended = np.ones_like(ended)
        last = torch.from_numpy(ended)
        self.replay.add(Batch(obs, action, rewards, following, ends), last)
        self.episode["return"] += reward
        self.episode["length"] += 1
        for run in np.flatnonzero(ended):
            if self.agent.needs_returns:
                self._store_returns(run, int(self.episode["length"][run]), bool(terminated[run]))
            row = {key: value[run].item() for key, value in self.episode.items()}
            if self.task.outcomes:
                row["outcome"] = self.task.outcomes[info["outcome"][run]]
            self.rows[run]["episodes"].append({"step": self.step + 1, **row})
            for value in self.episode.values():
                value[run] = 0

    # --- measuring --------------------------------------------------------------------------------
    def evaluate(self) -> None:
        """Appends one row per run to ``evaluations`` and, after an update, to ``metrics``."""
        stream = "evaluation" if self.specs[0].eval_starts == "fixed" else f"evaluation/{self.step}"
        seeds, episodes = [spec.seed for spec in self.specs], self.specs[0].eval_episodes
        self.method.step = self.step
        scores = evaluate(self.method, self.task, seeds, episodes, stream)
        self.method.after_evaluation(scores)
        metrics = {key: value.tolist() for key, value in self._metrics.items()}
        for run, rows in enumerate(self.rows):
            rows["evaluations"].append({"step": self.step, **scores[run]})
            if metrics:
                values = {key: value[run] for key, value in metrics.items()}
                rows["metrics"].append({"step": self.step, **values})
                bounded = [values[key] for key in values.keys() - set(self.method.unbounded)]
                self.diverged[run] |= not np.isfinite(bounded).all()

    # --- checkpoints: the state of a run is one container -----------------------------------------
    def state(self, finished: bool = False) -> dict[str, Tensor]:
        """Every tensor that the next step depends on, run axis first.

        Random numbers are missing on purpose: they are a function of seed and step. A ``finished`` run
        has no next step: its environment is left out, and its replay unless it is to be kept.
        """
        parts: dict[str, Mapping[str, Any]] = {
            "agent": self.agent.state(),
            "method": self.method.state(),
            "metrics": self._metrics,
        }
        if self.online and (not finished or self.specs[0].keep_replay):
            parts["replay"] = self.replay.state()
        if self.online and not finished:
            parts |= {"env": self.env.state(), "episode": self.episode}
        tensors = {
            f"{part}/{key}": torch.as_tensor(value)
            for part, state in parts.items()
            for key, value in state.items()
        }
        return {**tensors, "diverged": torch.from_numpy(self.diverged.copy())}

    def load_state(self, states: Sequence[Mapping[str, Tensor]], step: int) -> None:
        """Takes over the states of the runs, one container each, at ``step``."""
        state = {key: _stack([run[key] for run in states]) for key in states[0]}
        self.step = step
        self.agent.load_state(_part(state, "agent"))
        self.method.load_state(_part(state, "method"))
        self._metrics = _part(state, "metrics")
        self.diverged = state["diverged"].numpy()
        if self.online and step < self.specs[0].steps:  # a finished run has neither
            self.replay.load_state(_part(state, "replay"))
            self.obs = self.env.load_state({k: v.numpy() for k, v in _part(state, "env").items()})
            self.episode = {k: v.numpy() for k, v in _part(state, "episode").items()}

    def begin(self, starts: Sequence[Mapping[str, Tensor]] = ()) -> None:
        """Before the first step: takes over the agents of the runs that these ones continue."""
        if starts:
            state = {key: torch.stack([run[key] for run in starts]) for key in starts[0]}
            self.agent.load_state(_part(state, "agent"))
        self.method.prepare(self.specs[0].dataset)


@one_thread()
def evaluate(
    method: Naive,
    task: Task,
    seeds: Sequence[int],
    episodes: int,
    stream: str,
    most: int | None = None,
) -> list[dict[str, Any]]:
    """Episodes of what a method has learnt, all at once; touches no training state.

    Args:
        method: with a cohort of ``R`` agents.
        task: the task.
        seeds: one per run.
        episodes: of each run.
        stream: what the random numbers are for: equal ones give equal starts.
        most: steps after which episodes are given up, for those who only time them.

    Returns:
        Per run the mean ``return`` and ``length`` and the share of episodes per outcome.
    """
    keys = [Key(seed, f"{stream}/{episode}") for seed in seeds for episode in range(episodes)]
    env, runs, streams = task.vector(keys), len(seeds), Streams(seeds, stream, method.device)
    obs, _ = env.reset()
    returns, lengths = np.zeros(len(keys)), np.zeros(len(keys), dtype=int)
    outcome = np.zeros(len(keys), dtype=int)
    alive, step = np.ones(len(keys), dtype=bool), 0
    while alive.any() and step != most:
        grid = torch.from_numpy(obs).view(runs, -1, *obs.shape[1:]).to(method.device)
        actions = method.greedy(grid, streams.at(step)).nan_to_num().flatten(0, 1).cpu().numpy()
        obs, reward, terminated, truncated, info = env.step(actions, alive)
        returns += np.where(alive, reward, 0.0)
        lengths += alive
        step += 1
        outcome = np.where(alive & terminated, info["outcome"], outcome)
        alive &= ~(terminated | truncated)
    returns, lengths = returns.reshape(runs, -1), lengths.reshape(runs, -1)
    rows = [
        {"return": returns[run].mean().item(), "length": lengths[run].mean().item()}
        for run in range(runs)
    ]
    if task.outcomes:
        shares = np.eye(len(task.outcomes))[outcome].reshape(runs, -1, len(task.outcomes)).mean(1)
        for row, share in zip(rows, shares.tolist(), strict=True):
            row |= dict(zip(task.outcomes, share, strict=True))
    return rows


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors as one ``[R, ...]``; those that hold fewer images than others are filled up."""
    if len({tensor.shape for tensor in tensors}) > 1:
        return pad_sequence(list(tensors), batch_first=True)
    return torch.stack(list(tensors))


def _part(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{name}/"): v for k, v in state.items() if k.startswith(f"{name}/")}
