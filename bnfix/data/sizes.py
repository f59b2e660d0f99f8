"""Batches of the one size that a model takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from bnfix.data.batches import Batch, length
from bnfix.errors import DataError
from bnfix.tree import map_leaves


class InBatchesOf:
    """The rows of a stream in batches of `size` rows each; as they come where it is None.

    Rows that are left over in the end, fewer than `size`, are left out, and counted.

    Attributes:
        left: How many those were, once all was read.
    """

    def __init__(self, size: int | None, stream: Iterable[Batch]) -> None:
        self._size, self._stream = size, stream
        self.left = 0

    def __iter__(self) -> Iterator[Batch]:
        """Read the stream.

        Raises:
            DataError: There are rows, but fewer than `size`.
        """
        size = self._size
        if size is None:
            yield from self._stream
            return
        held: Batch | None = None
        index = 0
        for batch in self._stream:
            held = batch if held is None else _joined(held, batch)
            while length(held.x) >= size:
                yield _cut(held, slice(0, size), index)
                held = _cut(held, slice(size, None), index)
                index += 1
        rows = 0 if held is None else length(held.x)
        if held is not None and not index:
            raise DataError(
                f"the data has {rows} rows, and the model takes batches of {size}, neither more "
                "nor less. Pass more rows."
            )
        self.left = rows

    @property
    def notes(self) -> tuple[str, ...]:
        """That rows were left out, if any were."""
        if not self.left:
            return ()
        which = "row was" if self.left == 1 else f"{self.left} rows were"
        return (f"the last {which} left out: the model takes batches of {self._size}, no fewer",)


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


def cycled(rows: int, structure: Any) -> Any:
    """`rows` rows of a structure of arrays, those that it has over and over again."""
    return map_leaves(lambda array: array[np.arange(rows) % len(array)], structure)


def shared_out(structure: Any, replicas: int) -> Any:
    """A structure of arrays with as many rows more that each of `replicas` gets as many."""
    if replicas == 1:
        return structure
    rows = length(structure)
    return cycled(rows + -rows % replicas, structure)
