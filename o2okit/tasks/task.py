"""What is known of a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gymnasium.vector import VectorEnv


@dataclass(frozen=True)
class Task:
    """What is known of a task.

    Attributes:
        name: the name used everywhere; D4RL's where D4RL has the task.
        vector: makes one environment per key; they step together and reset in the same step. Further
            arguments are the environment's own, for who collects data.
        obs_size: dimension of an observation; how many there are where they are indices.
        act_size: the same for actions.
        horizon: steps after which an episode is cut off (a time-out, not a termination).
        discrete: actions are indices, and observations too, unless they are images.
        image: images per observation, height and width, where observations are images (uint8).
        reward_clip: rewards are learnt within ± this; evaluations count all of them.
        outcomes: names of the values of ``info["outcome"]`` when an episode terminates; none where
            terminating is not succeeding.
        version: part of a run's id; raise it when a change to the environment alters results.
        family: ``maze``, ``locomotion``, ``antmaze``, ``adroit`` or ``atari``.
        environment: what tasks that differ only in their data have in common: ``hopper``.
        quality: who collected the data: ``medium``; ``None`` where the task has no dataset.
        reference: the scores that count as 0 and 100, in units of ``scored``.
        scored: what the normalised score is computed from: an episode's ``return``, or the fraction
            of episodes with the outcome ``success``.
        dataset_file: path below the root of D4RL's files; ``None`` where there is none that could be read.
        kit_only: the dataset is the kit's own, with nothing of D4RL's to compare it with.
        sparse: the reward says only whether the task is done.
        success: what success is, in words; empty where only the return counts.
        padding: how many observations, the last ones, are always 0: ant's contact forces.
        note: what to know before numbers are compared with published ones.
    """

    name: str
    vector: Callable[..., VectorEnv]
    obs_size: int
    act_size: int
    horizon: int
    discrete: bool = False
    image: tuple[int, int, int] | tuple[()] = ()
    reward_clip: float | None = None
    outcomes: tuple[str, ...] = ()
    version: int = 1
    family: str = ""
    environment: str = ""
    quality: str | None = None
    reference: tuple[float, float] | None = None
    scored: str = "return"
    dataset_file: str | None = None
    kit_only: bool = False
    sparse: bool = False
    success: str = ""
    padding: int = 0
    note: str = ""

    @property
    def has_data(self) -> bool:
        """Whether it has a dataset that can be read or built."""
        return self.dataset_file is not None or self.kit_only

    @property
    def failure_reward(self) -> float | None:
        """Reward of a step without success of a sparse task; ``None`` for the others."""
        if not self.sparse:
            return None
        return -1.0 if self.scored == "success" else 0.0
