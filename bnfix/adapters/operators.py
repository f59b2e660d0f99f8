"""Bare functions on tensors that do what a layer does, and what it is called then.

`x + y` is an Add, `tf.concat` a Concatenate, `x * 2 - 1` a Rescaling: the passes know layers, so a
function is read as the layer by whose name it could have been written, with that layer's options.
What each Keras records, and under which names, is said in `functions.py`; a function that treats
rows of a batch together is no layer and keeps its own kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bnfix.graph.definition import TensorSpec


@dataclass(frozen=True)
class Operator:
    """What a function is read as.

    Attributes:
        kind: Of a layer; "Slice", "Pad", "Shape", "StepsToRows" or "RowsToSteps" where there is
            none for it.
        options: As `moving` knows them of the kind.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Function:
    """One call of a function.

    Attributes:
        arguments: By the names used here; tensors as `TensorSpec`s, constants as numbers or arrays,
            anything that may change, such as a variable, as `UNKNOWN`.
        outputs: What comes out.
    """

    arguments: Mapping[str, Any]
    outputs: tuple[TensorSpec, ...]

    @property
    def tensors(self) -> int:
        return sum(len(_specs(part)) for part in self.arguments.values())

    def __getitem__(self, name: str) -> Any:
        return self.arguments.get(name)


#: Stands for an argument of which only the running model knows the value.
UNKNOWN = object()

Translation = Callable[[Function], Operator | None]


def translated(translation: Translation, function: Function) -> Operator | None:
    """What `function` is read as; None where it does more than a layer would."""
    tensors = [s for part in function.arguments.values() for s in _specs(part)]
    if any(value is UNKNOWN for part in function.arguments.values() for value in _each(part)):
        return None
    # Something without a batch axis, such as the sizes of a tensor, is no data.
    if not tensors or any(not spec.shape for spec in tensors):
        return None
    return translation(function)


# --- element by element --------------------------------------------------------------------------


def same(function: Function) -> Operator | None:
    """The tensor itself."""
    kept = function["x"].dtype == function.outputs[0].dtype
    return Operator("Identity") if kept else None


def relu(function: Function) -> Operator | None:
    return Operator("ReLU")


def shape_only(function: Function) -> Operator | None:
    """What depends on the shape of a tensor, and not on what is in it."""
    return Operator("Shape")


def negative(function: Function) -> Operator | None:
    return _rescaling(function["x"], function, -1.0, 0.0)


def add(function: Function) -> Operator | None:
    x, y = function["x"], function["y"]
    if _both(x, y):
        return Operator("Add")
    tensor, constant = (x, y) if isinstance(x, TensorSpec) else (y, x)
    return _rescaling(tensor, function, 1.0, constant)


def add_all(function: Function) -> Operator | None:
    return Operator("Add") if all(isinstance(s, TensorSpec) for s in function["values"]) else None


def subtract(function: Function) -> Operator | None:
    x, y = function["x"], function["y"]
    if _both(x, y):
        return Operator("Subtract")
    if isinstance(x, TensorSpec):
        return _rescaling(x, function, 1.0, -np.asarray(y, np.float64))
    return _rescaling(y, function, -1.0, x)


def multiply(function: Function) -> Operator | None:
    x, y = function["x"], function["y"]
    if _both(x, y):
        return Operator("Multiply")
    tensor, constant = (x, y) if isinstance(x, TensorSpec) else (y, x)
    return _rescaling(tensor, function, constant, 0.0)


def divide(function: Function) -> Operator | None:
    x, y = function["x"], function["y"]
    if not isinstance(x, TensorSpec) or isinstance(y, TensorSpec) or not np.all(y):
        return None
    return _rescaling(x, function, 1.0 / np.asarray(y, np.float64), 0.0)


def maximum(function: Function) -> Operator | None:
    return Operator("Maximum") if _both(function["x"], function["y"]) else None


def minimum(function: Function) -> Operator | None:
    return Operator("Minimum") if _both(function["x"], function["y"]) else None


# --- positions -----------------------------------------------------------------------------------


def concatenate(function: Function) -> Operator | None:
    values, axis = function["values"], function["axis"]
    if not all(isinstance(value, TensorSpec) for value in values):
        return None
    axis = int(axis) % len(function.outputs[0].shape)
    return Operator("Concatenate", {"axis": axis}) if axis else None


def reshape(function: Function) -> Operator | None:
    """Whatever leaves the entries of each row in their order."""
    rows = [[size or 0 for size in s.shape[1:]] for s in (function["x"], *function.outputs)]
    if not function.outputs[0].shape or any(0 in row for row in rows):
        return None
    if rows[0][1:] == rows[1] and rows[0][0] > 1:
        return Operator("StepsToRows")
    if rows[1][1:] == rows[0] and rows[1][0] > 1:
        return Operator("RowsToSteps")
    return Operator("Reshape") if math.prod(rows[0]) == math.prod(rows[1]) else None


def transpose(function: Function) -> Operator | None:
    order = function["order"]
    if order is None or int(order[0]) != 0:
        return None
    return Operator("Permute", {"dims": [int(axis) for axis in order[1:]]})


def pad(function: Function) -> Operator | None:
    widths = [(int(before), int(after)) for before, after in function["widths"]]
    mode, value = str(function["mode"] or "constant").lower(), function["value"]
    if len(widths) != len(function["x"].shape) or widths[0] != (0, 0):
        return None
    return Operator("Pad", {"widths": widths[1:], "mode": mode, "value": float(value or 0)})


def item(function: Function) -> Operator | None:
    """`x[...]`, where all rows are kept."""
    rank = len(function["x"].shape)
    index = _whole_index(function["index"], rank)
    if index is None or index[0] != slice(None):
        return None
    return Operator("Slice", {"slices": [index[1:]]})


def split(function: Function) -> Operator | None:
    x, axis = function["x"], int(function["axis"] or 0)
    axis %= len(x.shape)
    sizes = [spec.shape[axis] or 0 for spec in function.outputs]
    if axis == 0 or 0 in sizes:
        return None
    ends = [int(end) for end in np.cumsum(sizes)]
    before = [slice(None)] * (axis - 1)
    behind = [slice(None)] * (len(x.shape) - axis - 1)
    parts = [
        (*before, slice(end - size, end), *behind) for end, size in zip(ends, sizes, strict=True)
    ]
    return Operator("Slice", {"slices": parts})


def mean(function: Function) -> Operator | None:
    return _pooled(function, "GlobalAveragePooling")


def largest(function: Function) -> Operator | None:
    return _pooled(function, "GlobalMaxPooling")


# --- what they share -----------------------------------------------------------------------------


def _each(part: Any) -> Sequence[Any]:
    return part if isinstance(part, (list, tuple)) else [part]


def _specs(part: Any) -> list[TensorSpec]:
    return [value for value in _each(part) if isinstance(value, TensorSpec)]


def _both(x: Any, y: Any) -> bool:
    return isinstance(x, TensorSpec) and isinstance(y, TensorSpec)


def _rescaling(x: TensorSpec, function: Function, scale: Any, offset: Any) -> Operator | None:
    """`scale * x + offset`, if that is the same for all rows and keeps their shape."""
    parts = [_for_rows(part, len(x.shape)) for part in (scale, offset)]
    if any(part is None for part in parts) or function.outputs[0].shape != x.shape:
        return None
    return Operator("Rescaling", {"scale": parts[0], "offset": parts[1]})


def _for_rows(constant: Any, rank: int) -> np.ndarray[Any, Any] | None:
    values = np.asarray(constant, np.float64)
    if values.ndim == rank and values.shape[0] == 1:
        values = values[0]
    return values if values.ndim < rank else None


def _whole_index(index: Any, rank: int) -> tuple[Any, ...] | None:
    """`index` with an entry for every axis and for every new one; None if it holds more."""
    entries = list(index) if isinstance(index, (list, tuple)) else [index]
    if not all(_is_plain(entry) for entry in entries):
        return None
    taken = sum(entry is not None and entry is not Ellipsis for entry in entries)
    if Ellipsis not in entries:
        entries.append(Ellipsis)
    at = entries.index(Ellipsis)
    return (*entries[:at], *([slice(None)] * (rank - taken)), *entries[at + 1 :])


def _is_plain(entry: Any) -> bool:
    if isinstance(entry, slice):
        return all(p is None or isinstance(p, int) for p in (entry.start, entry.stop, entry.step))
    whole = isinstance(entry, int) and not isinstance(entry, bool)
    return whole or entry is None or entry is Ellipsis


def _pooled(function: Function, name: str) -> Operator | None:
    """A mean or maximum over all positions of each channel."""
    x, axis = function["x"], function["axis"]
    rank = len(x.shape)
    if axis is None or rank not in (3, 4, 5):
        return None
    axes = sorted(int(each) % rank for each in _each(axis))
    formats = {"channels_last": range(1, rank - 1), "channels_first": range(2, rank)}
    for layout, positions in formats.items():
        if axes == list(positions):
            return Operator(f"{name}{rank - 2}D", {"data_format": layout})
    return None
