"""How far apart are two sets of outputs, and is that more than rounding?"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfix.checks.measurement import Gap

Arrays = list[npt.NDArray[Any]]


def gap(ours: Arrays, theirs: Arrays, unit: float, *, row: int | None = None) -> Gap:
    """The output that differs most, in units of what rounding explains on its own scale.

    Args:
        unit: What rounding explains on a scale of 1.
        row: Compare this row only; None compares all. The scale is that of all rows.
    """
    found = gaps(ours, theirs, unit, row=row)
    return max(found, key=lambda each: each.ratio, default=Gap(0.0, unit))


def gaps(ours: Arrays, theirs: Arrays, unit: float, *, row: int | None = None) -> list[Gap]:
    """As `gap`, for each output."""
    return list(map(partial(_gap, unit, row), ours, theirs))


def _gap(unit: float, row: int | None, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> Gap:
    a, b = (_wide(values) for values in (ours, theirs))
    if a.dtype.kind not in "fc":
        a, b = _row(a, row), _row(b, row)
        return Gap(float(a.shape != b.shape or bool(np.any(a != b))), unit)
    scale = max(_largest(a), _largest(b)) or 1.0
    a, b = _row(a, row), _row(b, row)
    if a.shape != b.shape:
        return Gap(float("inf"), unit * scale)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        difference = float(np.max(np.where(same, 0.0, np.abs(a - b)), initial=0.0))
    return Gap(difference if np.isfinite(difference) else float("inf"), unit * scale)


def _wide(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Floats in double precision, so that differences are exact and do not overflow."""
    wide = {"f": np.float64, "c": np.complex128}.get(values.dtype.kind)
    return values if wide is None else values.astype(wide)


def _row(values: npt.NDArray[Any], row: int | None) -> npt.NDArray[Any]:
    return values if row is None or not values.ndim else values[row]


def _largest(values: npt.NDArray[Any]) -> float:
    return float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))
