"""Past layers that put entries of a row elsewhere: reshaped, permuted, repeated, cut and joined.

Each entry stays what it is, so a map goes with the entries that it is applied to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bnfix.graph.graph import Call, Value
from bnfix.numerics.affine import Affine, per_channel
from bnfix.passes.absorbing import Objection

Options = Mapping[str, Any]


def row_of(value: Value) -> tuple[int, ...]:
    """Shape of a row; -1 where it is not known."""
    return tuple(-1 if size is None else size for size in value.shape[1:])


def reshape_before(call: Call, options: Options, affine: Affine) -> Affine:
    return _reshaped(call, affine, call.outputs[0], call.inputs[0])


def reshape_after(call: Call, options: Options, affine: Affine) -> Affine:
    return _reshaped(call, affine, call.inputs[0], call.outputs[0])


def permute_before(call: Call, options: Options, affine: Affine) -> Affine:
    order = [axis - 1 for axis in options["dims"]]
    return affine.transposed([int(at) for at in np.argsort(order)])


def permute_after(call: Call, options: Options, affine: Affine) -> Affine:
    return affine.transposed([axis - 1 for axis in options["dims"]])


def flattened(call: Call, options: Options, affine: Affine) -> Affine:
    order = _channels_last(options, affine.rank)
    row = tuple(row_of(call.inputs[0])[axis] for axis in order)
    moved = affine.transposed(order)
    if -1 not in row:
        return moved.reshaped(row, (int(np.prod(row)),))
    raise Objection(f"{call.path} ({call.kind}) reshapes rows of unknown length")


def unflattened(call: Call, options: Options, affine: Affine) -> Affine:
    rank = len(call.inputs[0].shape) - 1
    order = _channels_last(options, rank)
    row = tuple(row_of(call.inputs[0])[axis] for axis in order)
    if -1 in row:
        raise Objection(f"{call.path} ({call.kind}) reshapes rows of unknown length")
    back = [int(at) for at in np.argsort(order)]
    return affine.reshaped((int(np.prod(row)),), row).transposed(back)


def repeated_before(call: Call, options: Options, affine: Affine) -> Affine:
    if affine.varies & {0}:
        raise Objection(
            f"{call.path} ({call.kind}) joins positions that the normalization treats differently"
        )
    return Affine(affine.scale[0], affine.shift[0])


def repeated_after(call: Call, options: Options, affine: Affine) -> Affine:
    return Affine(affine.scale[np.newaxis], affine.shift[np.newaxis])


def sliced_before(call: Call, index: tuple[Any, ...], affine: Affine) -> Affine:
    found = affine.placed(index, row_of(call.inputs[0]), alone=len(call.outputs) == 1)
    if found is None:
        raise Objection(f"{call.path} ({call.kind}) takes a part of an unknown length")
    return found


def joined_before(call: Call, options: Options, affine: Affine) -> list[Affine]:
    axis, places = _concatenated(call, options)
    return [affine.part(axis, *place) for place in places]


def joined_after(call: Call, options: Options, affine: Affine, position: int) -> Affine:
    axis, places = _concatenated(call, options)
    return affine.embedded(axis, *places[position], places[-1][1])


def _concatenated(call: Call, options: Options) -> tuple[int, list[tuple[int, int]]]:
    """The axis of a row along which inputs are joined, and where along it each comes to lie."""
    if len(set(call.inputs)) < len(call.inputs):
        raise Objection(f"{call.path} ({call.kind}) reads the same tensor twice")
    axis = options["axis"] % len(call.outputs[0].shape) - 1
    sizes = [row_of(value)[axis] for value in call.inputs]
    if axis < 0 or -1 in sizes:
        raise Objection(f"{call.path} ({call.kind}) joins tensors along an axis of unknown length")
    ends = np.cumsum(sizes)
    return axis, [(int(end) - size, int(end)) for end, size in zip(ends, sizes, strict=True)]


def _reshaped(call: Call, affine: Affine, old: Value, new: Value) -> Affine:
    rows = row_of(old), row_of(new)
    if -1 not in (*rows[0], *rows[1]):
        return affine.reshaped(*rows)
    last = len(rows[0]) - 1
    if affine.varies <= {last} and rows[0][-1] == rows[1][-1] != -1:
        return per_channel(*affine.along(last, rows[0][-1]), len(rows[1]) - 1, len(rows[1]))
    raise Objection(f"{call.path} ({call.kind}) reshapes rows of unknown length")


def _channels_last(options: Options, rank: int) -> list[int]:
    """Order of a row's axes in which Flatten takes them."""
    return (
        [*range(1, rank), 0] if options.get("data_format") == "channels_first" else [*range(rank)]
    )
