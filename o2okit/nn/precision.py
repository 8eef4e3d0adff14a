"""Where products in bfloat16 are worth their rounding."""

from __future__ import annotations

import os

import torch

from o2okit.errors import UserError


def bfloat16_is_fast(device: torch.device | str) -> bool:
    """Whether the processor has matrix units for bfloat16 (AMX).

    ``O2OKIT_BFLOAT16=0`` or ``=1`` overrides it. On a GPU it is off unless asked for.
    """
    wanted = os.environ.get("O2OKIT_BFLOAT16", "auto")
    if wanted not in ("auto", "0", "1"):
        raise UserError(f"O2OKIT_BFLOAT16 must be 0, 1 or auto; got {wanted!r}.")
    if wanted != "auto":
        return wanted == "1"
    return torch.device(device).type == "cpu" and torch.cpu._is_amx_tile_supported()
