"""Updates and actions that are recorded once and replayed (``o2okit.training.recording``).

``O2OKIT_RECORD=0`` turns it off. Recorded and eager updates are tested to be equal, bit by bit on a CPU, for
every backbone and every pair with a method (``tests/training/test_capture.py``); on an H100, but for the
fine-tuning of discrete ones, which is not recorded on a GPU. Backbones of one's own and methods that change
the update itself were compared by nobody: there it is off unless the flag is 1.

The recorded work reads and writes fixed memory, so observations, the minibatch and the random numbers are
copied into tensors that stay. What ``Agent.schedule`` changes, it changes before the replay; where
``branch`` of agent or method answers differently there is a recording for each answer. There is one for each
shape of a minibatch, too, and where the agent is given other parts all is recorded anew.
"""

from __future__ import annotations

import copy
import operator
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from o2okit.backbones.base import HOOKS, Agent, Changes
from o2okit.data import Batch
from o2okit.errors import UserError
from o2okit.nn import Policy
from o2okit.source import is_own
from o2okit.streams import Draws
from o2okit.training.recording import FLAG, Recorder

PARTS = (Agent, Policy, *Agent.saved_kinds)


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


@contextmanager
def eagerly() -> Iterator[None]:
    """Within it nothing is recorded, whatever the flag says."""
    before = os.environ.get(FLAG)
    os.environ[FLAG] = "0"
    try:
        yield
    finally:
        del os.environ[FLAG]
        if before is not None:
            os.environ[FLAG] = before


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


def held(thing: Any, deep: int = 3) -> list[Any]:
    """What an agent or a part of one holds, and what networks, optimisers and policies among it hold.

    Where one of these is another object than before, what was recorded reads the old one.
    """
    found = []
    for name, part in vars(thing).items():
        if name[0] != "_" and name != "updates":
            found.append(part)
            if deep > 1 and isinstance(part, PARTS):
                found += held(part, deep - 1)
    return found


class Kind:
    """Arguments of one kind (shapes, types, objects): places that stay for their tensors, and a recorder."""

    def __init__(self, values: Sequence[Any], parts: list[Any], device: torch.device | str) -> None:
        self.places = [x.clone() if isinstance(x, Tensor) else x for x in values]
        self.parts, self.recorder = parts, Recorder(device)

    def outlived(self, parts: list[Any]) -> bool:
        """Whether other ``parts`` are in the place of those that it was made for."""
        return len(parts) != len(self.parts) or any(map(operator.is_not, parts, self.parts))

    def load(self, values: Sequence[Any]) -> None:
        """Copies tensors into place."""
        for place, x in zip(self.places, values, strict=True):
            if isinstance(x, Tensor):
                place.copy_(x)


class Kinds:
    """The kinds of arguments that were met last.

    Args:
        device: where work with them is done.
    """

    MOST = 16

    def __init__(self, device: torch.device | str) -> None:
        self.device = device
        self.met: dict[Hashable, Kind] = {}

    @torch.no_grad()
    def load(self, values: Sequence[Any], parts: list[Any]) -> Kind:
        """The kind of ``values``, which are in its places; a new one where ``parts`` were replaced."""
        key = tuple((x.shape, x.dtype) if isinstance(x, Tensor) else x for x in values)
        found = self.met.pop(key, None)
        if found is None or found.outlived(parts):
            found = Kind(values, parts, self.device)
        self.met[key] = found  # the latest is the last
        if len(self.met) > self.MOST:
            del self.met[next(iter(self.met))]
        found.load(values)
        return found

    @property
    def recorded(self) -> list[Hashable]:
        """The branches that are recorded, of all kinds."""
        return [branch for each in self.met.values() for branch in each.recorder.recorded]


class CapturedUpdate:
    """Takes the place of ``agent.update``.

    Args:
        agent: of any device; its optimisers take their learning rate from a tensor from now on.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent, self.draws, self.kinds = agent, FixedDraws(), Kinds(agent.device)

    def __call__(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """As ``Agent.update``; the metrics are overwritten by the next call."""
        agent, method = self.agent, self.agent.method
        kind = self.kinds.load(batch, held(agent))
        if not kind.recorder.recorded:
            for adam in agent.optimisers():
                adam.make_capturable()
        agent.schedule()
        self.draws.load(draws)
        method.draws, fixed = self.draws, Batch(*kind.places)
        branch = agent.branch(), method.branch()
        metrics = kind.recorder(branch, lambda: agent.work(fixed, self.draws))
        agent.updates += 1
        method.draws = draws
        return metrics


class CapturedActions:
    """Takes the place of an agent's function of tensors and of objects that stay (a policy).

    Args:
        function: a method of the agent. What it does depends on its arguments and on the agent's parts;
            where one of these is replaced it is recorded anew.
        device: of the tensors.
    """

    def __init__(self, function: Callable[..., Tensor], device: torch.device | str) -> None:
        self.function, self.kinds = function, Kinds(device)

    def __deepcopy__(self, memo: dict[int, Any]) -> CapturedActions:
        """Of a copy of the agent; recordings read and write the memory of the original."""
        return type(self)(copy.deepcopy(self.function, memo), self.kinds.device)

    @torch.inference_mode(False)
    @torch.no_grad()
    def __call__(self, *arguments: Any) -> Tensor:
        """As ``function``."""
        things = [self.function.__self__, *(x for x in arguments if isinstance(x, PARTS))]
        kind = self.kinds.load(arguments, [part for thing in things for part in held(thing)])
        return kind.recorder(None, lambda: self.function(*kind.places)).clone()


def capture(agent: Agent) -> CapturedUpdate:
    """Returns what takes the place of ``agent.update``, and lets the agent act by recorded work, too."""
    for name in agent.acts_by:
        setattr(agent, name, CapturedActions(getattr(agent, name), agent.device))
    return CapturedUpdate(agent)
