"""Updates and actions that are recorded once and replayed (``o2okit.training.recording``).

``O2OKIT_RECORD=0`` turns it off. Recorded and eager updates are tested to be equal, bit by bit on a CPU, for
every backbone and every pair with a method (``tests/training/test_capture.py``); on an H100, but for the
fine-tuning of discrete ones, which is not recorded on a GPU. Backbones of one's own and methods that change
the update itself were compared by nobody: there it is off unless the flag is 1.

The recorded work reads and writes fixed memory, so observations, the minibatch and the random numbers are
copied into tensors that stay. What ``Agent.schedule`` changes, it changes before the replay; where
``branch`` of agent or method answers differently there is a recording for each answer.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from o2okit.backbones.base import HOOKS, Agent, Changes
from o2okit.data import Batch
from o2okit.errors import UserError
from o2okit.source import is_own
from o2okit.streams import Draws
from o2okit.training.recording import FLAG, Recorder


def compared(agent: type[Agent], method: type[Changes], device: torch.device | str) -> bool:
    """Whether the recorded updates of an agent and a method are known to be the eager ones on ``device``.

    Those of one's own are not, but for a method that leaves the update itself alone (it changes rewards,
    acting, what is drawn): a change that it inherits may call what it overrides.
    """
    seen = not agent.discrete or torch.device(device).type == "cpu"
    hooks = ("shape", *HOOKS)
    plain = all(getattr(method, hook) is getattr(Changes, hook) for hook in hooks)
    return seen and not is_own(agent) and (plain or not is_own(method))


def wanted(compared: bool = True) -> bool:
    """Whether the work of an agent is to be recorded, ``compared`` with eager work or not.

    Raises ``UserError`` for other values of the flag than 0 and 1.
    """
    value = os.environ.get(FLAG, "1" if compared else "0")
    if value not in ("0", "1"):
        raise UserError(f"{FLAG} must be 0 or 1; got {value!r}.")
    return value == "1"


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


class CapturedUpdate:
    """Takes the place of ``agent.update``; call it with minibatches of one shape.

    Where the agent is given another network, optimiser or hyper-parameters, the update is recorded anew.

    Args:
        agent: of any device; its optimisers take their learning rate from a tensor from now on.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent, self.draws = agent, FixedDraws()
        self.batch: Batch | None = None
        self._begin()

    def _begin(self) -> None:
        self.held, self.recorder = self._holds(), Recorder(self.agent.device)
        for adam in self.agent.optimisers():
            adam.make_capturable()

    def _holds(self) -> list[Any]:
        return [x for name, x in vars(self.agent).items() if name[0] != "_" and name != "updates"]

    def __call__(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """As ``Agent.update``; the metrics are overwritten by the next call."""
        agent, held = self.agent, self._holds()
        if len(held) != len(self.held) or any(map(operator.is_not, held, self.held)):
            self._begin()
        self._load(batch, draws)
        agent.schedule()
        branch = agent.branch(), agent.method.branch()
        metrics = self.recorder(branch, lambda: agent.work(self.batch, self.draws))
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
        device: of the tensors.
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
