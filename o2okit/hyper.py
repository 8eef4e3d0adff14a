"""Hyper-parameters: a frozen dataclass per algorithm, the paper's symbol and the source beside each.

A field is *per run* (a value for each run of a cohort, held as a tensor ``[R]``) or *static* (part of
the computation's shape: the whole cohort shares it). A sweep over per-run fields is one cohort.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from o2okit.errors import UserError, unknown


def per_run(
    default: float,
    symbol: str,
    source: str,
    *,
    low: float = 0.0,
    high: float = math.inf,
    infinite: bool = False,
):
    """A hyper-parameter that may differ between the runs of a cohort; ``low <= value <= high``.

    ``infinite``: it may be infinite.
    """
    meta = {"per_run": True, "symbol": symbol, "source": source, "low": low, "high": high}
    meta["infinite"] = infinite
    return dataclasses.field(default=default, metadata=meta)


def static(default: Any, symbol: str, source: str, *, low: float = 0.0, high: float = math.inf):
    """A hyper-parameter that the whole cohort shares."""
    meta = {"per_run": False, "symbol": symbol, "source": source, "low": low, "high": high}
    meta["infinite"] = False
    return dataclasses.field(default=default, metadata=meta)


def choice(default: str, *others: str, source: str, later: bool = False):
    """A hyper-parameter that is one of some names; the whole cohort shares it.

    ``later``: it came after the first runs (``described``).
    """
    meta = {"per_run": False, "symbol": "", "source": source, "allowed": (default, *others)}
    return dataclasses.field(default=default, metadata=meta | {"later": later})


def complete(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with the defaults of ``cls`` filled in, checked.

    Raises ``UserError`` for unknown names, wrong types and values out of range.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name in values:
        if name not in fields:
            raise unknown(f"hyper-parameter of {cls.__qualname__}", name, fields)
    return {
        name: _checked(field, values.get(name, field.default), cls.__qualname__)
        for name, field in fields.items()
    }


def described(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """A complete set as a run's spec has it: ``later`` fields only where they differ from their default.

    So the runs that were trained before keep their ids. Such a default must never change.
    """
    later = {f.name: f.default for f in dataclasses.fields(cls) if f.metadata.get("later")}
    return {
        name: value for name, value in values.items() if name not in later or value != later[name]
    }


def _checked(field: dataclasses.Field, value: Any, owner: str) -> Any:
    if allowed := field.metadata.get("allowed"):
        if value not in allowed:
            raise unknown(f"{owner}.{field.name}", value, allowed)
        return value
    low, high = field.metadata["low"], field.metadata["high"]
    kind = type(field.default)
    if kind is bool:
        if not isinstance(value, bool):
            raise UserError(f"{owner}.{field.name} is True or False; got {value!r}.")
        return value
    items = value if kind is tuple and isinstance(value, list | tuple) else [value]
    wanted = int if kind in (int, tuple) else float
    for item in items:
        number = isinstance(item, int | float) and not isinstance(item, bool)
        if not number or (wanted is int and not isinstance(item, int)):
            raise UserError(
                f"{owner}.{field.name} takes {'whole ' if wanted is int else ''}numbers, e.g. "
                f"{field.default!r}; got {value!r}."
            )
        if not low <= item <= high:
            raise UserError(f"{owner}.{field.name} must lie in [{low}, {high}]; got {item!r}.")
        if math.isinf(item) and not field.metadata["infinite"]:
            raise UserError(f"{owner}.{field.name} must be finite; got {item!r}.")
    return tuple(items) if kind is tuple else kind(value)


def split(cls: type, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(per-run values, static values) of a complete set."""
    names = {field.name for field in dataclasses.fields(cls) if field.metadata["per_run"]}
    return (
        {key: value for key, value in values.items() if key in names},
        {key: value for key, value in values.items() if key not in names},
    )


def stack(cls: type, runs: Sequence[Mapping[str, Any]], device: torch.device | str) -> Any:
    """One instance of ``cls`` for a cohort: per-run fields are tensors ``[R]``.

    The runs must agree on the static fields (the caller groups them so).
    """
    varying, shared = split(cls, runs[0])
    tensors: dict[str, Tensor] = {
        key: torch.tensor([float(run[key]) for run in runs], device=device) for key in varying
    }
    return cls(**shared, **tensors)
