"""Variational autoencoders on the run axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from o2okit.nn.saved import Parts
from o2okit.nn.stacked import StackedMLP

LOG_STD = (-4.0, 15.0)  # of the encoder: what BCQ's code allows


class VAE(Parts):
    """``R`` autoencoders of values ``[R, B, D]``, given ``[R, B, C]`` if there is a condition.

    The latent is N(0, 1) before a value is seen; the decoder's output is the mean of N(·, 1).

    Args:
        seeds: one per run.
        size: D.
        latent: numbers in the latent, Z.
        hidden: of encoder and decoder.
        condition: C.
        name: of the initial parameters' stream.
        device: where the tensors live.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        size: int,
        latent: int,
        hidden: Sequence[int],
        *,
        condition: int = 0,
        name: str,
        device: torch.device | str = "cpu",
    ) -> None:
        def network(part: str, start: int, end: int) -> StackedMLP:
            sizes = (start + condition, *hidden, end)
            return StackedMLP(seeds, sizes, name=f"{name}/{part}", device=device)

        self.latent = latent
        self.encoder, self.decoder = (
            network("encoder", size, 2 * latent),
            network("decoder", latent, size),
        )
        self.parts = (self.encoder, self.decoder)

    def encode(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log σ ``[R, B, Z]`` of the latent."""
        mean, log_std = self.encoder(_with(x, condition)).chunk(2, dim=-1)
        return mean, log_std.clamp(*LOG_STD)

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Values ``[R, B, D]`` of latents ``[R, B, Z]``."""
        return self.decoder(_with(z, condition))

    def errors(
        self, x: Tensor, noise: Tensor, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Squared error of the reconstruction and KL(q ‖ N(0, 1)) ``[R, B]``, means over dimensions.

        ``noise`` ``[R, B, Z]`` is standard normal.
        """
        mean, log_std = self.encode(x, condition)
        again = self.decode(mean + log_std.exp() * noise, condition)
        divergence = 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std
        return (again - x).square().mean(-1), divergence.mean(-1)


def _with(x: Tensor, condition: Tensor | None) -> Tensor:
    return x if condition is None else torch.cat([x, condition], dim=-1)
