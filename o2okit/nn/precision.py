"""Where products in bfloat16 are worth their rounding."""

from __future__ import annotations

import os

import torch

from o2okit.errors import UserError

CHOICES = ("auto", "0", "1", "all")


def bfloat16(device: torch.device | str) -> str:
    """Which products between hidden layers run in bfloat16: ``none``, ``many`` or ``all``.

    ``O2OKIT_BFLOAT16`` decides: ``0`` none; ``1`` those of many actions per state, which are nearly all of
    CQL's work; ``all`` those of every network; ``auto``, the default, is 1 on a processor with units for
    bfloat16 (AMX, AVX512-BF16) and 0 elsewhere, GPUs included. Raises ``UserError`` for anything else.
    """
    wanted = os.environ.get("O2OKIT_BFLOAT16", "auto")
    if wanted not in CHOICES:
        raise UserError(f"O2OKIT_BFLOAT16 must be one of {', '.join(CHOICES)}; got {wanted!r}.")
    if wanted == "auto":
        wanted = "1" if torch.device(device).type == "cpu" and _fast() else "0"
    return {"0": "none", "1": "many", "all": "all"}[wanted]


def _fast() -> bool:
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
