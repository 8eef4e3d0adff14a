"""Hyper-parameters: a frozen dataclass per algorithm, the paper's symbol and the source beside each.

A field is *per run* (a value for each run of a cohort, held as a tensor ``[R]``) or *static* (part of
the computation's shape: the whole cohort shares it). A sweep over per-run fields is one cohort.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from o2okit.errors import UserError, is_whole, known, unknown


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


def given(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Hyper-parameters as they are given, none for ``None``. Raises ``UserError`` for anything else."""
    if values is not None and not isinstance(values, Mapping):
        raise UserError(
            f"hyper-parameters are a dictionary of names and values, or None; got {values!r}."
        )
    return dict(values or {})


def complete(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with the defaults of ``cls`` filled in, checked.

    Raises ``UserError`` for unknown names, wrong types and values out of range.
    """
    fields, values = {field.name: field for field in dataclasses.fields(cls)}, given(values)
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


def listed(cls: type) -> list[dict[str, Any]]:
    """Of each hyper-parameter: name, default, what is allowed, whether it is per run, symbol and source."""
    return [
        {
            "name": field.name,
            "default": field.default,
            "allowed": _allowed(field),
            "per run": field.metadata["per_run"],
            "symbol": field.metadata["symbol"],
            "source": field.metadata["source"],
        }
        for field in dataclasses.fields(cls)
    ]


def _allowed(field: dataclasses.Field) -> str:
    if names := field.metadata.get("allowed"):
        return ", ".join(names)
    kind, low, high = type(field.default), field.metadata["low"], field.metadata["high"]
    if kind is bool:
        return "True, False"
    what = {int: "whole", tuple: "whole numbers"}.get(kind, "number")
    bounds = f">= {low:g}" if high == math.inf else f"{low:g} to {high:g}"
    bounds = "" if low == -math.inf and high == math.inf else f" {bounds}"
    return what + bounds + (" or infinite" if field.metadata["infinite"] else "")


def _checked(field: dataclasses.Field, value: Any, owner: str) -> Any:
    if allowed := field.metadata.get("allowed"):
        return known(f"{owner}.{field.name}", value, allowed)
    low, high = field.metadata["low"], field.metadata["high"]
    kind = type(field.default)
    if kind is bool:
        if not isinstance(value, bool | np.bool_):
            raise UserError(f"{owner}.{field.name} is True or False; got {value!r}.")
        return bool(value)
    whole, items = kind in (int, tuple), value if kind is tuple else [value]
    if not isinstance(items, list | tuple) or not all(map(is_whole if whole else _is_real, items)):
        what = (
            "a list of whole numbers" if kind is tuple else "whole numbers" if whole else "numbers"
        )
        raise UserError(
            f"{owner}.{field.name} takes {what}, e.g. {field.default!r}; got {value!r}."
        )
    for item in items:
        if not low <= item <= high:
            raise UserError(f"{owner}.{field.name} must lie in [{low}, {high}]; got {item!r}.")
    try:
        numbers = [int(item) if whole else float(item) for item in items]
    except OverflowError:
        numbers = [math.inf]
    if math.inf in map(abs, numbers) and not field.metadata["infinite"]:
        raise UserError(f"{owner}.{field.name} must be finite; got {value!r}.")
    return tuple(numbers) if kind is tuple else numbers[0]


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


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
