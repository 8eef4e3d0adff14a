"""Objects whose state is that of what they hold: agents and methods, policies and flows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor


class Saved:
    """Every attribute of one of the ``saved_kinds`` is part of the state, and so are the ``saved_tensors``.

    Class attributes:
        saved_kinds: types with ``state()`` and ``load_state()``, run axis first.
        saved_tensors: names of attributes that are tensors ``[R, ...]``.
    """

    saved_kinds: ClassVar[tuple[type, ...]] = ()
    saved_tensors: ClassVar[tuple[str, ...]] = ()

    def state(self) -> dict[str, Tensor]:
        """Everything that the next update depends on, run by run."""
        own = {name: getattr(self, name).clone() for name in self.saved_tensors}
        parts = {
            f"{name}.{key}": value
            for name, part in self._parts().items()
            for key, value in part.state().items()
        }
        return {**parts, **own}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what ``state`` returned."""
        for name, part in self._parts().items():
            prefix = f"{name}."
            part.load_state(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
        for name in self.saved_tensors:
            mine = getattr(self, name)
            mine.copy_(state[name])

    def _parts(self) -> dict:
        return {k: part for k, part in vars(self).items() if isinstance(part, self.saved_kinds)}


class Parts:
    """Several networks that are saved as one.

    Attributes:
        parts: each with ``state()`` and ``load_state()``, run axis first.
    """

    parts: tuple[Any, ...]

    def state(self) -> dict[str, Tensor]:
        """The parameters, run by run."""
        return {
            f"{number}.{key}": value
            for number, part in enumerate(self.parts)
            for key, value in part.state().items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what ``state`` returned."""
        for number, part in enumerate(self.parts):
            prefix = f"{number}."
            part.load_state(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
