"""Batches of the one size that a model takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from bnfix.data.batches import Batch, length
from bnfix.errors import DataError
from bnfix.tree import map_leaves


def in_batches_of(size: int | None, stream: Iterable[Batch]) -> Iterator[Batch]:
    """The rows of `stream` in batches of `size` rows each; as they come where it is None.

    Rows that are left over in the end, fewer than `size`, are left out.

    Raises:
        DataError: There are rows, but fewer than `size`.
    """
    if size is None:
        yield from stream
        return
    held: Batch | None = None
    index = 0
    for batch in stream:
        held = batch if held is None else _joined(held, batch)
        while length(held.x) >= size:
            yield _cut(held, slice(0, size), index)
            held = _cut(held, slice(size, None), index)
            index += 1
    if held is not None and not index:
        raise DataError(
            f"the data has {length(held.x)} rows, and the model takes batches of {size}, neither "
            "more nor less. Pass more rows."
        )


def _joined(one: Batch, other: Batch) -> Batch:
    if not length(one.x):
        return other

    def both(a: Any, b: Any) -> Any:
        return np.concatenate([np.asarray(a), np.asarray(b)])

    def part(a: Any, b: Any) -> Any:
        return None if a is None else map_leaves(both, a, b)

    return Batch(
        one.index, part(one.x, other.x), part(one.y, other.y), part(one.weight, other.weight)
    )


def _cut(batch: Batch, rows: slice, index: int) -> Batch:
    def part(value: Any) -> Any:
        return None if value is None else map_leaves(lambda leaf: leaf[rows], value)

    return Batch(index, part(batch.x), part(batch.y), part(batch.weight))
