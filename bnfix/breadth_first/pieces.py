"""In pieces of how many rows does data go through the network?

Statistics do not depend on it, time and memory do: a processor is fastest on tensors that fit into
its cache, and batches of one row cost a call each. So rows are joined and cut as suits the machine,
unless a layer might mix the rows of a batch; and joined again where the tensors of a network become
smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bnfix.breadth_first.loading import Loaded

#: Kinds of calls of which nobody knows what they do with rows.
_UNKNOWN = ("Operation", "Custom", "Lambda")


@dataclass(frozen=True)
class Piece:
    """Rows that go through the network together.

    Attributes:
        inputs: One array per input of the model, or None where it is left out.
        rows: Their number.
        first: Position of the batch in the data that its first row is from.
        last: Position of the batch that its last row is from.
        shapes: Of one row of each input; None where that is not an array.
    """

    inputs: list[Any]
    rows: int
    first: int
    last: int
    shapes: tuple[Any, ...]

    def __str__(self) -> str:
        if self.first == self.last:
            return f"batch {self.first}"
        return f"batches {self.first} to {self.last}"


def keeps_rows_apart(kind: str, layer: Any) -> bool:
    """Whether a call of `layer` certainly treats each row of a batch by itself.

    BatchNormalizations count among these: they do, once they normalize by statistics.
    """
    if kind in _UNKNOWN or getattr(layer, "stateful", False):
        return False
    axis = getattr(layer, "axis", None)
    return 0 not in (axis if isinstance(axis, (list, tuple)) else [axis])


def pieces(batches: Iterable[Loaded], rows: int | None) -> Iterator[Piece]:
    """All rows of `batches`, in order, `rows` at a time; None leaves the batches as they are.

    Args:
        batches: Read one at a time.
        rows: Of each piece but the last, and the last before the rows change their shape.
    """
    waiting: list[Piece] = []
    for one in batches:
        shapes = tuple(map(_shape, one.flat))
        piece = Piece(one.flat, one.rows, one.batch.index, one.batch.index, shapes)
        if rows is None or None in shapes:
            yield from [*_joined(waiting), piece]
            waiting = []
            continue
        if waiting and waiting[0].shapes != piece.shapes:
            yield from _joined(waiting)
            waiting = []
        start = 0
        while start < piece.rows:
            missing = rows - sum(part.rows for part in waiting)
            waiting.append(_part(piece, start, start + missing))
            start += missing
            if start <= piece.rows:
                yield from _joined(waiting)
                waiting = []
    yield from _joined(waiting)


def grouped(pieces: Sequence[Piece], rows: int | None) -> list[list[Piece]]:
    """`pieces` in runs of up to `rows` rows, but at least one piece, which can be joined."""
    groups: list[list[Piece]] = []
    for piece in pieces:
        if rows is not None and None not in piece.shapes and groups:
            together = piece.rows + sum(part.rows for part in groups[-1])
            if together <= rows and groups[-1][0].shapes == piece.shapes:
                groups[-1].append(piece)
                continue
        groups.append([piece])
    return groups


def _shape(leaf: Any) -> Any:
    """Of a row, if all rows have the same, so that they stand in an array."""
    if leaf is None:
        return "left out"
    return tuple(leaf.shape[1:]) if hasattr(leaf, "__array__") else None


def _part(piece: Piece, start: int, stop: int) -> Piece:
    stop = min(stop, piece.rows)
    inputs = [None if leaf is None else leaf[start:stop] for leaf in piece.inputs]
    return replace(piece, inputs=inputs, rows=stop - start)


def _joined(parts: list[Piece]) -> list[Piece]:
    """One piece of all `parts`, or none."""
    if len(parts) < 2:
        return parts
    columns = zip(*(part.inputs for part in parts), strict=True)
    inputs = [None if c[0] is None else np.concatenate([np.asarray(p) for p in c]) for c in columns]
    return [replace(joined(parts), inputs=inputs)]


def joined(parts: Sequence[Piece]) -> Piece:
    """The rows of all `parts` as one piece, without its inputs."""
    rows = sum(part.rows for part in parts)
    return replace(parts[0], inputs=[], rows=rows, last=parts[-1].last)
