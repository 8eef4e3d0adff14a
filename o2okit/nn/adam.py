"""The optimiser of stacked networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from o2okit.nn.stacked import Stacked


class Adam:
    """Adam over the flat parameters of networks; one fused step serves all runs.

    Args:
        networks: whose parameters it trains.
        lr: learning rate, the same for all runs of the cohort.
    """

    def __init__(self, networks: Sequence[Stacked], lr: float) -> None:
        self.networks = tuple(networks)
        self.flats = [network.flat for network in networks]
        self.optimiser = torch.optim.Adam(self.flats, lr=lr, fused=True)

    def step(self, loss: Tensor) -> None:
        """One step on ``loss`` ``[R]``: runs share no parameters, so the sum separates."""
        self.apply(self.gradient(loss))

    def gradient(self, loss: Tensor) -> tuple[Tensor, ...]:
        """Gradient of ``loss`` ``[R]``, laid out as the flat parameters of each network."""
        return torch.autograd.grad(loss.sum(), self.flats)

    def apply(self, gradients: Sequence[Tensor]) -> None:
        """One step along what ``gradient`` returned."""
        for flat, gradient in zip(self.flats, gradients, strict=True):
            flat.grad = gradient
        self.optimiser.step()

    @property
    def lr(self) -> float:
        """The learning rate; schedules set it."""
        return float(self.optimiser.param_groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        group = self.optimiser.param_groups[0]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value

    def make_capturable(self) -> None:
        """Lets a CUDA graph record its steps: the learning rate is read from the GPU's memory."""
        group = self.optimiser.param_groups[0]
        group["capturable"] = True
        group["lr"] = torch.tensor(float(group["lr"]), device=self.flats[0].device)

    def state(self) -> dict[str, Tensor]:
        """First and second moment ``[R, P]`` and the number of steps ``[R]``."""
        parts: dict[str, list[Tensor]] = {"first": [], "second": []}
        steps = 0
        for network, flat in zip(self.networks, self.flats, strict=True):
            state = self.optimiser.state.get(flat)
            if not state:
                empty = torch.zeros_like(flat)
                state = {"step": torch.zeros(()), "exp_avg": empty, "exp_avg_sq": empty}
            steps = int(state["step"])
            parts["first"].append(network.pack(state["exp_avg"]))
            parts["second"].append(network.pack(state["exp_avg_sq"]))
        moments = {name: torch.cat(part, dim=1) for name, part in parts.items()}
        return {"steps": torch.full((self.networks[0].runs,), steps), **moments}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what ``state`` returned. The runs must have done equally many steps."""
        sizes = [sum(math.prod(shape) for shape in network.shapes) for network in self.networks]
        first, second = (state[name].split(sizes, dim=1) for name in ("first", "second"))
        for number, (network, flat) in enumerate(zip(self.networks, self.flats, strict=True)):
            moments = {"step": torch.tensor(float(state["steps"][0]), device=flat.device)}
            for name, packed in (("exp_avg", first), ("exp_avg_sq", second)):
                moments[name] = torch.zeros_like(flat)
                network.unpack(packed[number], moments[name])
            self.optimiser.state[flat] = moments
