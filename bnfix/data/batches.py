"""How does any data that `fit` takes become a stream of batches?

The kinds are told apart as in Keras: a tuple is `(x,)`, `(x, y)` or `(x, y, weight)`; a list or
dict of arrays is the several inputs of one model; what has batches already hands them out in its
own order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from bnfix.errors import DataError
from bnfix.tree import is_named, leaves, map_leaves


@dataclass(frozen=True)
class Batch:
    """Some rows of a data set.

    Attributes:
        index: Position in the data set, from 0.
        x: Inputs in the model's structure, leaves `(batch, ...)`.
        y: Targets, or None.
        weight: Sample weights `(batch,)`, or None.
    """

    index: int
    x: Any
    y: Any = None
    weight: Any = None


def batches(ds: Any, *, batch_size: int = 32, steps: int | None = None) -> Iterator[Batch]:
    """The batches of `ds`, each once and in order.

    Args:
        ds: Arrays, or a tuple, list or dict of them; `tf.data.Dataset`; `PyDataset` or `Sequence`;
            any other iterable over batches.
        batch_size: Rows a batch, where `ds` is arrays.
        steps: Most batches to take; None takes all.

    Raises:
        DataError: `ds` is none of these, its arrays differ in length, it never ends and `steps` is
            not given, or `batch_size` or `steps` is not a positive whole number.
    """
    _check_positive("batch_size", batch_size)
    if steps is not None:
        _check_positive("steps", steps)
    # The checks above and those in `_items` come at the call, not when the first batch is drawn.
    return _numbered(islice(_items(ds, batch_size, steps), steps))


def first_rows(stream: Iterable[Batch], rows: int) -> Any:
    """The inputs of the first `rows` rows of `stream`, fewer if it ends; None if it is empty."""
    taken: list[Any] = []
    missing = rows
    for batch in stream:
        taken.append(map_leaves(partial(_cut, 0, missing), batch.x))
        missing -= max((len(leaf) for leaf in leaves(taken[-1])), default=0)
        if missing <= 0:
            break
    if not taken:
        return None
    return map_leaves(lambda *parts: np.concatenate([np.asarray(p) for p in parts]), *taken)


def _numbered(items: Iterable[Any]) -> Iterator[Batch]:
    for index, item in enumerate(items):
        yield Batch(index, *_parts(item, f"batch {index}"))


def _check_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise DataError(f"{name} must be a whole number of at least 1; got {value!r}.")


def _items(ds: Any, batch_size: int, steps: int | None) -> Iterator[Any]:
    """What `ds` holds, batch by batch, each still `x`, `(x, y)` or `(x, y, weight)`."""
    if ds is None:
        raise DataError(f"no data was given: {_accepted()}")
    if _is_tf_dataset(ds):
        return _from_tf_dataset(ds, steps)
    if _is_indexed(ds):
        return _from_indexed(ds, steps)
    if _is_arrays(ds):
        return _from_arrays(ds, batch_size)
    if isinstance(ds, Iterable) and not isinstance(ds, (str, bytes, Mapping, tuple)):
        return iter(ds)
    raise DataError(f"{type(ds).__name__} is no calibration data: {_accepted()}")


def _accepted() -> str:
    return (
        "pass arrays (or a tuple, list or dict of them), a tf.data.Dataset, a PyDataset or "
        "Sequence, or "
        "an iterable over batches."
    )


def _parts(item: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(item, tuple) or is_named(item):
        return (item,)
    if not 1 <= len(item) <= 3:
        raise DataError(
            f"{where} is a tuple of {len(item)}; x, (x, y) or (x, y, weight) is required. Several "
            "inputs "
            f"of one model go into a list."
        )
    return item


# --- arrays ------------------------------------------------------------------------------------


def _is_arrays(ds: Any) -> bool:
    held = list(leaves(ds))
    return bool(held) and all(_is_array(leaf) for leaf in held)


def _is_array(value: Any) -> bool:
    """Arrays and tensors of any library."""
    return hasattr(value, "shape") and hasattr(value, "__getitem__")


def _from_arrays(ds: Any, batch_size: int) -> Iterator[Any]:
    _parts(ds, "the data")
    shapes = [tuple(leaf.shape) for leaf in leaves(ds)]
    if not shapes or any(not shape for shape in shapes):
        raise DataError(f"the data has an array without rows: shapes are {shapes}.")
    lengths = sorted({shape[0] for shape in shapes})
    if len(lengths) > 1:
        raise DataError(
            f"the arrays differ in length: {lengths} rows. All need the same number of rows; (x, "
            "y) is "
            f"a tuple, several inputs of one model are a list."
        )
    return (
        map_leaves(partial(_cut, start, start + batch_size), ds)
        for start in range(0, lengths[0], batch_size)
    )


def _cut(start: int, stop: int, array: Any) -> Any:
    return array[start:stop]


# --- data that comes in batches ----------------------------------------------------------------


def _is_tf_dataset(ds: Any) -> bool:
    return any(
        cls.__module__.startswith("tensorflow.") and cls.__name__ == "DatasetV2"
        for cls in type(ds).__mro__
    )


def _from_tf_dataset(ds: Any, steps: int | None) -> Iterator[Any]:
    infinite = -1  # tf.data.INFINITE_CARDINALITY
    if steps is None and int(ds.cardinality()) == infinite:
        raise _endless("the tf.data.Dataset")
    return iter(ds)


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
    return (ds[index] for index in range(number))


def _endless(what: str) -> DataError:
    return DataError(
        f"{what} never ends, and calibration reads all of it. Pass steps=, the number of batches "
        "to "
        f"take, or leave out repeat()."
    )
