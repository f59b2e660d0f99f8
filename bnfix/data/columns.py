"""Of what can rows be taken, and what do they come out as?

Data comes in the arrays of many libraries. Each kind is known here by the name of its class, so
that no library is imported that the user has not, and its rows come out as NumPy arrays. Only
ragged tensors stay what they are, since no array holds them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfix.errors import DataError
from bnfix.tree import map_leaves

#: Rows from one position to another.
Cut = Callable[[int, int], Any]


class Column:
    """Rows of one array, whatever library it is of.

    Attributes:
        rows: Their number.
    """

    def __init__(self, rows: int, cut: Cut) -> None:
        self.rows = rows
        self.cut = cut


def columns(structure: Any, where: str) -> Any:
    """`structure` with a `Column` for each of its arrays.

    Nested lists of numbers or words are one array.

    Raises:
        DataError: Something in it has no rows. `where` it stands begins the message.
    """

    def column(leaf: Any) -> Column:
        made = _column(_array_of(leaf, where) if is_nested(leaf) else leaf)
        if made is None:
            raise DataError(
                f"{where} holds {_kind(leaf)}, of which no rows can be taken. Arrays, tensors or "
                "data frames are required, each with a row for each example."
            )
        return made

    return map_leaves(column, structure, is_leaf=is_nested)


def is_column(value: Any) -> bool:
    """Whether rows can be taken of `value`."""
    return _column(value) is not None


def is_nested(value: Any) -> bool:
    """Whether `value` is a list of numbers or words, or of such lists."""
    for _ in range(_DEEPEST):
        if not isinstance(value, list) or not value:
            break
        first: Any = value[0]
        if isinstance(first, (bool, int, float, complex, str, bytes, np.generic)):
            return True
        value = list(first) if isinstance(first, tuple) and not hasattr(first, "_fields") else first
    return False


#: Axes that an array may have; a list that holds itself has no end.
_DEEPEST = 64


def _array_of(nested: Any, where: str) -> npt.NDArray[Any]:
    try:
        return np.array(nested)
    except ValueError:
        raise DataError(
            f"{where} holds nested lists that differ in length, of which no array can be made. "
            "Pad them to one length, or pass tf.ragged.constant where the model takes that."
        ) from None


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__}" + ("" if shape is None else f" of shape {shape}")


# --- kinds of arrays ---------------------------------------------------------------------------


def _column(value: Any) -> Column | None:
    if isinstance(value, np.ndarray):
        return _sliced(value)
    for module, name, make in _KINDS:
        if any(
            cls.__name__ == name and cls.__module__.partition(".")[0] == module
            for cls in type(value).__mro__
        ):
            return make(value)
    if hasattr(value, "__array__") and hasattr(value, "__getitem__"):
        return _sliced(value)
    return None


def _sliced(array: Any) -> Column | None:
    """Of what is sliced first and made an array then, so that files are read in parts."""
    shape = getattr(array, "shape", None)
    if shape is None or len(shape) == 0 or shape[0] is None:
        return None
    return Column(int(shape[0]), lambda start, stop: np.asarray(array[start:stop]))


def _tensor(tensor: Any) -> Column | None:
    return _sliced(np.asarray(tensor))


def _ragged(tensor: Any) -> Column:
    return Column(int(tensor.nrows()), lambda start, stop: tensor[start:stop])


def _sparse_tensor(tensor: Any) -> Column | None:
    """TensorFlow's, made dense a batch at a time; values of one place are added, as there."""
    indices, values = np.asarray(tensor.indices), np.asarray(tensor.values)
    shape = tuple(int(size) for size in np.asarray(tensor.dense_shape))
    if not shape:
        return None
    order = np.argsort(indices[:, 0], kind="stable")
    indices, values = indices[order], values[order]

    def cut(start: int, stop: int) -> npt.NDArray[Any]:
        stop = min(stop, shape[0])
        held = slice(*np.searchsorted(indices[:, 0], (start, stop)))
        dense = np.zeros((max(stop - start, 0), *shape[1:]), values.dtype)
        places = indices[held] - np.array([start, *([0] * (len(shape) - 1))])
        dense[tuple(places.T)] = values[held]
        return dense

    return Column(shape[0], cut)


def _sparse_array(array: Any) -> Column | None:
    return _sparse_tensor(_Coordinates(array.indices, array.data, array.shape))


class _Coordinates:
    """What JAX calls otherwise than TensorFlow."""

    def __init__(self, indices: Any, values: Any, dense_shape: Any) -> None:
        self.indices, self.values, self.dense_shape = indices, values, dense_shape


def _sparse_matrix(matrix: Any) -> Column:
    rows = matrix.tocsr()
    return Column(rows.shape[0], lambda start, stop: rows[start:stop].toarray())


def _torch(tensor: Any) -> Column | None:
    held = tensor.detach().cpu()
    return _sliced((held.float() if "bfloat16" in str(held.dtype) else held).numpy())


def _frame(frame: Any) -> Column:
    return Column(len(frame), lambda start, stop: frame.iloc[start:stop].to_numpy())


def _series(series: Any) -> Column:
    """As both Kerases read it: a column of a table."""
    return Column(len(series), lambda start, stop: series.iloc[start:stop].to_numpy()[:, None])


_KINDS: tuple[tuple[str, str, Callable[[Any], Column | None]], ...] = (
    ("tensorflow", "RaggedTensor", _ragged),
    ("tensorflow", "SparseTensor", _sparse_tensor),
    ("tensorflow", "Tensor", _tensor),
    ("tensorflow", "Variable", _tensor),
    ("jax", "BCOO", _sparse_array),
    ("scipy", "spmatrix", _sparse_matrix),
    ("scipy", "sparray", _sparse_matrix),
    ("torch", "Tensor", _torch),
    ("pandas", "DataFrame", _frame),
    ("pandas", "Series", _series),
)
