"""Does a batch fit the model, and is it fit to be learned from?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bnfix.errors import DataError
from bnfix.graph.definition import TensorSpec


def check_fits(
    flat: Sequence[Any], names: Sequence[str], specs: Sequence[TensorSpec], *, index: int
) -> int:
    """Number of rows in batch `index`, whose inputs fit the model and are finite.

    Args:
        flat: One array or tensor per input, `(batch, ...)`.
        names: Names of the model's inputs.
        specs: What the model takes.
        index: Position of the batch, for messages.

    Raises:
        DataError: The number of inputs, a shape, a dtype or the number of rows is not as required,
            or a value is not finite. Says what was expected and what was got.
    """
    if len(flat) != len(specs):
        raise DataError(
            f"batch {index} has {len(flat)} inputs; the model takes {len(specs)}: "
            f"{', '.join(names)}. A tuple is (x, y, weight), a list is several inputs; a list of "
            "batches "
            f"goes in as iter(...)."
        )
    rows = 0
    for array, name, spec in zip(flat, names, specs, strict=True):
        if array is None:  # an optional input left out; Keras says so itself where it is needed
            continue
        shape, dtype = _shape(array), _dtype(array)
        where = f"batch {index}, input {name}"
        if not _shape_fits(shape, spec.shape):
            raise DataError(
                f"{where}: got shape {shape}; the model takes {shown(spec.shape)}. Reshape or "
                "resize the "
                f"data as for training."
            )
        _check_values(array, dtype, spec, where)
        if rows and shape[0] != rows:
            raise DataError(
                f"{where}: got {shape[0]} rows where the input before has {rows}. All inputs of a "
                "batch "
                f"need the same number of rows."
            )
        rows = shape[0]
    return rows


def spec_of(array: Any) -> TensorSpec:
    """What `array`, a leaf of a batch, would be declared as by a model that takes it."""
    is_text = isinstance(array, np.ndarray) and array.dtype.kind in "OSU"
    return TensorSpec((None, *_shape(array)[1:]), "string" if is_text else _dtype(array))


def _shape(array: Any) -> tuple[int, ...]:
    shape = getattr(array, "shape", None)
    return np.shape(array) if shape is None else tuple(shape)


def _dtype(array: Any) -> str:
    dtype = getattr(array, "dtype", None)
    return str(np.asarray(array).dtype if dtype is None else getattr(dtype, "name", dtype))


def _shape_fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """Keras adds or drops a last axis of 1; the batch axis may have any length."""
    candidates = [shape, (*shape, 1), *([shape[:-1]] if shape[-1:] == (1,) else [])]
    return bool(shape) and any(
        len(candidate) == len(wanted)
        and all(
            want is None or got == want for got, want in zip(candidate[1:], wanted[1:], strict=True)
        )
        for candidate in candidates
    )


def shown(shape: tuple[int | None, ...]) -> str:
    """`shape` as it is told: what is open may be any."""
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"


def _check_values(array: Any, dtype: str, spec: TensorSpec, where: str) -> None:
    wanted = f"the model takes {spec.dtype}"
    values = np.asarray(getattr(array, "flat_values", array))  # of a ragged tensor
    is_text = values.dtype.kind in "OSU"
    is_number = values.dtype.kind in "biuf" or "float" in dtype
    if is_text != (spec.dtype == "string") or not (is_text or is_number):
        raise DataError(f"{where}: got dtype {dtype}; {wanted}. Convert the data.")
    if values.dtype.kind == "O" and not all(isinstance(word, (str, bytes)) for word in values.flat):
        raise DataError(f"{where}: not all of it is text; {wanted}. Convert the data.")
    if "float" not in dtype:
        return
    if values.dtype.kind != "f":  # bfloat16 has no finiteness test of its own
        values = values.astype(np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        rows, channels = (
            _listed(np.unique(np.argwhere(~finite)[:, axis])) for axis in (0, values.ndim - 1)
        )
        spread = f", channel {channels}" if values.ndim > 1 else ""
        raise DataError(
            f"{where}: {int((~finite).sum())} of {values.size} values are not finite. Calibration "
            f"data must be finite; look at row {rows}{spread}."
        )
    if "int" in spec.dtype and not np.array_equal(values, np.round(values)):
        raise DataError(
            f"{where}: got dtype {dtype} with fractions; {wanted}. Is this another input's data?"
        )


def _listed(numbers: Any) -> str:
    """The first of them."""
    more = f" and {len(numbers) - _LISTED} more" if len(numbers) > _LISTED else ""
    return ", ".join(str(int(number)) for number in numbers[:_LISTED]) + more


_LISTED = 5
