"""The optimiser of stacked networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from o2okit.nn.stacked import Stacked

PIECES, LEAST = 64, 4_096  # of a flat tensor on a GPU: how many at most, numbers in each at least


def pieces(flats: Sequence[Tensor]) -> list[Tensor]:
    """The same memory in pieces: on a GPU the kernel would give tensors of this size few cores."""
    sizes = [LEAST * math.ceil(flat.numel() / (LEAST * PIECES)) for flat in flats]
    pairs = zip(flats, sizes, strict=True)
    return [piece for flat, size in pairs for piece in flat.detach().split(size)]


class Adam:
    """Adam (Kingma & Ba, 2015) over the flat parameters of networks; one fused step serves all runs.

    It calls the kernel of ``torch.optim.Adam(fused=True)`` directly: that class's own work takes several
    times as long as the kernel does on networks of this size.

    Args:
        networks: whose parameters it trains.
        lr: learning rate, the same for all runs of the cohort.
    """

    def __init__(self, networks: Sequence[Stacked], lr: float) -> None:
        self.networks = tuple(networks)
        self.flats = [network.flat for network in networks]
        self.first = [torch.zeros_like(flat, requires_grad=False) for flat in self.flats]
        self.second = [torch.zeros_like(flat, requires_grad=False) for flat in self.flats]
        self.steps = torch.zeros((), device=self.flats[0].device)
        self._lr: float | Tensor = lr
        self._trained = self._pieces(self.flats)
        self._moments = [self._pieces(parts) for parts in (self.first, self.second)]

    def step(self, loss: Tensor) -> None:
        """One step on ``loss`` ``[R]``: runs share no parameters, so the sum separates."""
        self.apply(self.gradient(loss))

    def gradient(self, loss: Tensor) -> tuple[Tensor, ...]:
        """Gradient of ``loss`` ``[R]``, laid out as the flat parameters of each network.

        Zero for a network that the loss does not depend on, such as log σ where the mean alone acts.
        """
        return torch.autograd.grad(loss.sum(), self.flats, materialize_grads=True)

    @torch.no_grad()
    def apply(self, gradients: Sequence[Tensor]) -> None:
        """One step along what ``gradient`` returned."""
        self.steps += 1
        torch._fused_adam_(
            self._trained,
            self._pieces(gradients),
            *self._moments,
            [],
            [self.steps] * len(self._trained),
            lr=self._lr,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    @property
    def _pieces(self) -> Callable[[Sequence[Tensor]], list[Tensor]]:
        return pieces if self.flats[0].is_cuda else list

    @property
    def lr(self) -> float:
        """The learning rate; schedules set it."""
        return float(self._lr)

    @lr.setter
    def lr(self, value: float) -> None:
        if isinstance(self._lr, Tensor):
            self._lr.fill_(value)
        else:
            self._lr = value

    def make_capturable(self) -> None:
        """Lets its steps be recorded: the learning rate is read from memory, from now on always the same.

        On a CPU it keeps all of its digits; the kernel for GPUs wants float32.
        """
        if isinstance(self._lr, Tensor):
            return
        place = self.flats[0]
        kind = torch.float32 if place.is_cuda else torch.float64
        self._lr = torch.tensor(float(self._lr), dtype=kind, device=place.device)

    def reset(self) -> None:
        """As before the first step."""
        for tensor in (self.steps, *self.first, *self.second):
            tensor.zero_()

    def state(self) -> dict[str, Tensor]:
        """First and second moment ``[R, P]`` and the number of steps ``[R]``."""
        moments = {
            name: torch.cat(
                [network.pack(part) for network, part in zip(self.networks, parts, strict=True)],
                dim=1,
            )
            for name, parts in (("first", self.first), ("second", self.second))
        }
        return {"steps": torch.full((self.networks[0].runs,), int(self.steps)), **moments}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what ``state`` returned. The runs must have done equally many steps."""
        self.steps.fill_(int(state["steps"][0]))
        sizes = [sum(math.prod(shape) for shape in network.shapes) for network in self.networks]
        for name, parts in (("first", self.first), ("second", self.second)):
            for network, packed, part in zip(
                self.networks, state[name].split(sizes, dim=1), parts, strict=True
            ):
                network.unpack(packed, part)
