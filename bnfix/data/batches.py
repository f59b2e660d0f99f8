"""How does any data that `fit` takes become a stream of batches?

What is given whole is told apart as bnfix documents: a tuple is `(x,)`, `(x, y)` or
`(x, y, weight)`, anything else is `x`. What has batches already hands them out in its own order,
and each is read as Keras reads it: a tuple or list is `x`, `(x, y)` or `(x, y, weight)`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from bnfix.data.columns import Column, columns, is_column, is_nested
from bnfix.data.endless import watched
from bnfix.errors import BnfixError, DataError, gist
from bnfix.options import whole
from bnfix.tree import is_named, leaves, map_leaves

#: What a `DataError` says of data without a row.
EMPTY = "the data is empty: at least one row is required."


@dataclass(frozen=True)
class Batch:
    """Some rows of a data set, at least one.

    Attributes:
        index: Position in the data set, from 0.
        x: Inputs in the model's structure, leaves `(batch, ...)`: NumPy arrays, or ragged tensors.
        y: Targets, or None.
        weight: Sample weights `(batch,)`, or None.
    """

    index: int
    x: Any
    y: Any = None
    weight: Any = None


def batches(
    ds: Any, *, batch_size: int = 32, steps: int | None = None, held: bool = True
) -> Iterator[Batch]:
    """The batches of `ds` that have rows, each once and in order.

    Args:
        ds: Arrays, or a tuple, list or dict of them; `tf.data.Dataset`; `PyDataset` or `Sequence`;
            any other iterable over batches.
        batch_size: Rows a batch, where `ds` is arrays.
        steps: Most batches to take; None takes all.
        held: Whether the caller holds all of them in memory.

    Raises:
        DataError: `ds` is none of these or cannot be read, its arrays differ in length, or it never
            ends and `steps` is not given.
        OptionError: `batch_size` or `steps` is not a positive whole number.
    """
    batch_size = whole("batch_size", batch_size, at_least=1)
    steps = None if steps is None else whole("steps", steps, at_least=1)
    # The checks above and those in `_source` come at the call, not when the first batch is drawn.
    with _reading("the data"):
        found = _source(ds, batch_size, steps)
    return _batches(found, steps, held)


def first_rows(stream: Iterable[Batch], rows: int) -> Any:
    """The inputs of the first `rows` rows of `stream`, fewer if it ends; None if it is empty.

    All are of the shape of the first; batches of another are passed over.

    Raises:
        DataError: The rows are ragged.
    """
    taken: list[Any] = []
    shapes: Any = None
    missing = rows
    for batch in stream:
        found = map_leaves(partial(_row_shape, batch.index), batch.x)
        shapes = found if shapes is None else shapes
        if found != shapes:
            continue
        taken.append(map_leaves(partial(_first, missing), batch.x))
        missing -= length(taken[-1])
        if missing <= 0:
            break
    if not taken:
        return None
    return map_leaves(lambda *parts: np.concatenate(parts), *taken)


def length(structure: Any) -> int:
    """Number of rows of the arrays in `structure`; 0 where there is none."""
    return next((int(leaf.shape[0]) for leaf in leaves(structure)), 0)


def _first(rows: int, leaf: Any) -> Any:
    return leaf[:rows]


def _row_shape(index: int, leaf: Any) -> _Shape:
    if not isinstance(leaf, np.ndarray):
        raise DataError(
            f"batch {index} is ragged, and rows of one length are required here. Pass "
            "x.to_tensor() if the model takes padded rows; recalibrate takes ragged ones."
        )
    return _Shape(leaf.shape[1:], leaf.dtype.kind)


@dataclass(frozen=True)
class _Shape:
    """Of one row; no tuple, which would be a structure."""

    sizes: tuple[int, ...]
    kind: str


@contextmanager
def _reading(where: str) -> Generator[None]:
    """What code of the user's or of a library raises while data is read is told as such."""
    try:
        yield
    except (BnfixError, MemoryError):
        raise
    except Exception as error:
        raise DataError(
            f"{where} cannot be read: {gist(error)}. Go through the data alone, for example "
            "`for batch in ds: pass`, to see it fail."
        ) from error


# --- kinds of data -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """Data about to be read.

    Attributes:
        items: What it holds, batch by batch, each still `x`, `(x, y)` or `(x, y, weight)`.
        name: For messages.
        ends: Whether it is known to end.
    """

    items: Iterator[Any]
    name: str
    ends: bool


def _source(ds: Any, batch_size: int, steps: int | None) -> _Source:
    name = type(ds).__name__
    if ds is None:
        raise DataError(f"no data was given: {_ACCEPTED}")
    if _is_tf_dataset(ds):
        return _from_tf_dataset(ds, steps)
    if _is_indexed(ds):
        return _Source(_from_indexed(ds, steps), name, True)
    if is_whole(ds):
        return _Source(_from_arrays(ds, batch_size), name, True)
    if isinstance(ds, Iterable) and not isinstance(ds, (str, bytes, Mapping, tuple)):
        return _Source(iter(ds), f"the {name}", hasattr(ds, "__len__"))
    raise DataError(f"{_held(ds)} is no calibration data: {_ACCEPTED}")


_ACCEPTED = (
    "pass arrays (or a tuple, list or dict of them), a tf.data.Dataset, a PyDataset or Sequence, "
    "or an iterable over batches."
)


def _held(ds: Any) -> str:
    kinds = sorted({type(leaf).__name__ for leaf in leaves(ds)})
    structured = isinstance(ds, (Mapping, tuple))
    return type(ds).__name__ + (f" of {' and '.join(kinds) or 'nothing'}" if structured else "")


def is_whole(ds: Any) -> bool:
    """Whether `ds` is arrays in some structure, rather than something that hands out batches."""
    with _reading("the data"):  # which may hold itself
        held = list(leaves(ds, is_leaf=is_nested))
    return bool(held) and all(is_nested(leaf) or is_column(leaf) for leaf in held)


def _from_arrays(ds: Any, batch_size: int) -> Iterator[Any]:
    item = ds if isinstance(ds, tuple) and not is_named(ds) else (ds,)
    parts = tuple(columns(part, "the data") for part in _parts(item, "the data"))
    rows = _rows(parts, "the data")
    return (
        map_leaves(partial(_cut, start, start + batch_size), parts)
        for start in range(0, rows, batch_size)
    )


def _is_tf_dataset(ds: Any) -> bool:
    return any(
        cls.__module__.startswith("tensorflow.") and cls.__name__ == "DatasetV2"
        for cls in type(ds).__mro__
    )


def _from_tf_dataset(ds: Any, steps: int | None) -> _Source:
    infinite, unknown = -1, -2  # tf.data.INFINITE_CARDINALITY, UNKNOWN_CARDINALITY
    cardinality = int(ds.cardinality())
    if steps is None and cardinality == infinite:
        raise _endless("the tf.data.Dataset")
    return _Source(iter(ds), "the tf.data.Dataset", cardinality != unknown)


def _is_indexed(ds: Any) -> bool:
    """`keras.utils.PyDataset` and `Sequence`, of either Keras, without importing either."""
    return any(
        cls.__name__ in ("PyDataset", "Sequence")
        and cls.__module__.partition(".")[0] in ("keras", "tf_keras")
        for cls in type(ds).__mro__
    )


def _from_indexed(ds: Any, steps: int | None) -> Iterator[Any]:
    total = ds.num_batches if hasattr(ds, "num_batches") else len(ds)
    if total is None and steps is None:
        raise _endless(type(ds).__name__)
    number = min(size for size in (total, steps) if size is not None)
    return map(ds.__getitem__, range(number))


def _endless(what: str) -> DataError:
    return DataError(
        f"{what} never ends, and calibration reads all of it. Pass steps=, the number of batches "
        "to take, or leave out repeat()."
    )


# --- batches -----------------------------------------------------------------------------------


def _batches(source: _Source, steps: int | None, held: bool) -> Iterator[Batch]:
    items = _arrays(source.items, steps)
    if steps is None and not source.ends:
        items = watched(items, source.name, held=held)
    for index, parts in items:
        if length(parts[0]):
            yield Batch(index, *parts)


def _arrays(items: Iterator[Any], steps: int | None) -> Iterator[tuple[int, Any]]:
    """Position and parts of each batch, with arrays for all kinds of leaves."""
    taken = islice(items, steps)
    index = 0
    while True:
        where = f"batch {index}"
        with _reading(where):
            item = next(taken, _ENDED)
            if item is _ENDED:
                return
            parts = tuple(columns(part, where) for part in _parts(item, where))
            rows = _rows(parts, where)
            held = map_leaves(partial(_cut, 0, rows), parts)
        yield index, held
        index += 1


_ENDED = object()


def _cut(start: int, stop: int, column: Column) -> Any:
    return column.cut(start, stop)


def _parts(item: Any, where: str) -> tuple[Any, ...]:
    """`x`, and `y` and `weight` where they are there."""
    if not isinstance(item, (tuple, list)) or is_nested(item):
        return (item,)
    if not 1 <= len(item) <= 3:
        raise DataError(
            f"{where} is a {type(item).__name__} of {len(item)}; x, (x, y) or (x, y, weight) is "
            "required. Several inputs of one model go into a list inside of it: ([a, b],)."
        )
    return tuple(item)


def _rows(parts: tuple[Any, ...], where: str) -> int:
    """Number of rows of every `Column` in `parts`."""
    held: list[Column] = list(leaves(parts))
    lengths = sorted({column.rows for column in held})
    if not lengths:
        raise DataError(f"{where} holds no array.")
    if len(lengths) > 1:
        raise DataError(
            f"the arrays of {where} differ in length: {lengths} rows. All need the same number of "
            "rows; (x, y) is a tuple, several inputs of one model are a list."
        )
    return lengths[0]
