"""Updates and actions recorded once as CUDA graphs and replayed: on a GPU their many small kernels cost ten
times as much to launch as to run.

``O2OKIT_CUDA_GRAPH=0`` turns it off. Recorded and eager updates were found equal on an H100, for every
backbone and, of those for continuous actions, every pair with a method (``tests/training/test_capture.py``,
which needs a GPU). Fine-tuning of discrete ones was not compared, nor were backbones of one's own and methods
that change the update itself: there it is off unless the flag is 1.

The recorded work reads and writes fixed memory, so observations, the minibatch and the random numbers are
copied into tensors that stay. What ``Agent.schedule`` changes, it changes before the replay; where
``Agent.branch`` answers differently there is a graph for each answer. What is done the first times is not
recorded: it makes what is made once (the moments of Adam, the libraries' workspaces).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor

from o2okit.backbones.base import HOOKS, Agent, Changes
from o2okit.data import Batch
from o2okit.errors import UserError
from o2okit.source import is_own
from o2okit.streams import Draws

FLAG = "O2OKIT_CUDA_GRAPH"
EAGER = 3  # times that work is done before it is recorded
T = TypeVar("T")


def compared(agent: type[Agent], method: type[Changes]) -> bool:
    """Whether the recorded updates of an agent and a method are known to be the eager ones.

    A method of one's own that leaves the update itself alone (it changes rewards, acting, what is drawn) is.
    """
    hooks = (getattr(method, hook) for hook in HOOKS)
    return not agent.discrete and not is_own(agent) and not any(map(is_own, hooks))


def wanted(device: torch.device | str, compared: bool = True) -> bool:
    """Whether the work of an agent on ``device`` is to be captured, ``compared`` with eager work or not.

    Raises ``UserError`` for other values of the flag than 0 and 1.
    """
    value = os.environ.get(FLAG, "1" if compared else "0")
    if value not in ("0", "1"):
        raise UserError(f"{FLAG} must be 0 or 1; got {value!r}.")
    return value == "1" and torch.device(device).type == "cuda"


class FixedDraws:
    """Random numbers in tensors that stay: the same draws, asked for in the same order.

    ``load`` takes the numbers of a step; what is asked for the first time is remembered.
    """

    def __init__(self) -> None:
        self._fixed: dict[tuple[str, str, tuple[int, ...]], Tensor] = {}
        self._draws: Draws | None = None

    def load(self, draws: Draws) -> None:
        """Copies the numbers of another step into place."""
        self._draws = draws
        for (kind, stream, shape), tensor in self._fixed.items():
            tensor.copy_(getattr(draws, kind)(stream, *shape))

    def uniform(self, stream: str, *shape: int) -> Tensor:
        """As ``Draws.uniform``."""
        return self._get("uniform", stream, shape)

    def normal(self, stream: str, *shape: int) -> Tensor:
        """As ``Draws.normal``."""
        return self._get("normal", stream, shape)

    def _get(self, kind: str, stream: str, shape: tuple[int, ...]) -> Tensor:
        key = (kind, stream, shape)
        if key not in self._fixed:
            self._fixed[key] = getattr(self._draws, kind)(stream, *shape).clone()
        return self._fixed[key]


class Recorder:
    """Does work that reads and writes fixed memory: some times as it is, then recorded, then replayed.

    Args:
        device: a GPU.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.stream = torch.cuda.Stream(device)
        self._done: dict[Hashable, int] = {}
        self.graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, Any]] = {}

    def __call__(self, branch: Hashable, work: Callable[[], T]) -> T:
        """What ``work`` returns; the next call overwrites it. Equal ``branch``: the same work."""
        done = self._done.get(branch, 0)
        if done < EAGER:
            self._done[branch] = done + 1
            return self._eager(work)
        if branch not in self.graphs:
            graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph, stream=self.stream):  # nothing runs yet
                    result = work()
            except RuntimeError as error:
                raise UserError(
                    f"this work can't be recorded as a CUDA graph ({error}). A backbone or a method of your "
                    "own may read numbers from the GPU or decide by them in an update; use tensors that "
                    f"stay, or set {FLAG}=0."
                ) from error
            self.graphs[branch] = graph, result
        graph, result = self.graphs[branch]
        graph.replay()
        return result

    def _eager(self, work: Callable[[], T]) -> T:
        """On a stream of its own, as what precedes a capture must be."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = work()
        current.wait_stream(self.stream)
        return result


class CapturedUpdate:
    """Takes the place of ``agent.update``; call it with minibatches of one shape.

    Args:
        agent: on a GPU.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent, self.draws = agent, FixedDraws()
        self.batch: Batch | None = None
        self.recorder = Recorder(agent.device)
        for adam in agent.optimisers():
            adam.make_capturable()

    def __call__(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """As ``Agent.update``; the metrics are overwritten by the next call."""
        agent = self.agent
        self._load(batch, draws)
        agent.schedule()
        metrics = self.recorder(agent.branch(), lambda: agent.learn(self.batch, self.draws))
        agent.updates += 1
        return metrics

    def _load(self, batch: Batch, draws: Draws) -> None:
        if self.batch is None:
            self.batch = Batch(*(value if value is None else value.clone() for value in batch))
        for fixed, value in zip(self.batch, batch, strict=True):
            if fixed is not None:
                fixed.copy_(value)
        self.draws.load(draws)
        self.agent.method.draws = self.draws


class CapturedActions:
    """Takes the place of a function of tensors, and of objects that stay (a policy), with one result.

    Args:
        function: what it does depends on its arguments alone, and on parameters that are changed in place.
        device: a GPU.
    """

    def __init__(self, function: Callable[..., Tensor], device: torch.device | str) -> None:
        self.function, self.recorder = function, Recorder(device)
        self._fixed: dict[Hashable, list[Any]] = {}

    def __call__(self, *arguments: Any) -> Tensor:
        """As ``function``; the result is overwritten by the next call."""
        key = tuple(x.shape if isinstance(x, Tensor) else x for x in arguments)
        if key not in self._fixed:
            self._fixed[key] = [x.clone() if isinstance(x, Tensor) else x for x in arguments]
        fixed = self._fixed[key]
        for place, x in zip(fixed, arguments, strict=True):
            if isinstance(x, Tensor):
                place.copy_(x)
        return self.recorder(key, lambda: self.function(*fixed))


def capture(agent: Agent) -> CapturedUpdate:
    """Returns what takes the place of ``agent.update``, and lets the agent act by recorded work, too."""
    for name in agent.acts_by:
        setattr(agent, name, CapturedActions(getattr(agent, name), agent.device))
    return CapturedUpdate(agent)
