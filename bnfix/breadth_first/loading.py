"""Calibration data on its way in: each batch once, in order, checked against the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bnfix.adapters.defining import flat_inputs
from bnfix.adapters.subject import Subject
from bnfix.data.batches import EMPTY, Batch, batches, first_rows, is_whole
from bnfix.data.fit import check_fits, spec_of
from bnfix.errors import DataError
from bnfix.graph.definition import TensorSpec
from bnfix.tree import leaves, map_leaves


@dataclass(frozen=True)
class Loaded:
    """A batch that fits the model.

    Attributes:
        batch: As it came.
        flat: Its inputs in the order of the model's, or as they stand where it has none declared.
        rows: Their number.
    """

    batch: Batch
    flat: list[Any]
    rows: int


def loaded(
    subject: Subject, stream: Iterable[Batch], *, some_elsewhere: bool = False
) -> Iterator[Loaded]:
    """Every batch of `stream`; at least one, unless there may be `some_elsewhere`.

    Raises:
        DataError: There is none, or one does not fit the model or is not finite.
    """
    adapter, model = subject
    inputs = adapter.inputs(model)
    specs = [adapter.tensor_spec(tensor) for tensor in inputs]
    empty = True
    for batch in stream:
        empty = False
        yield _fitting(subject, batch, specs)
    if empty and not some_elsewhere:
        raise DataError(EMPTY)


def given(subject: Subject, x: Any) -> Any:
    """Inputs on which models are compared, from `x` of any kind that `fit` takes; None stays.

    Arrays of any structure are inputs here, without labels; at most the first 256 rows are used.

    Raises:
        DataError: `x` has no row, or does not fit the model.
    """
    if x is None:
        return None
    read = batches((x,) if is_whole(x) else x, batch_size=_GIVEN, steps=_GIVEN)
    return first_rows((one.batch for one in loaded(subject, read)), _GIVEN)


_GIVEN = 256


def as_inputs(subject: Subject, one: Loaded) -> Any:
    """The batch as tensors in the structure in which the model is called."""
    adapter, model = subject
    inputs = adapter.inputs(model)
    if not inputs:
        return map_leaves(adapter.fed, one.batch.x)
    specs = (adapter.tensor_spec(tensor) for tensor in inputs)
    tensors = [
        None if leaf is None else adapter.to_tensor(leaf, spec)
        for leaf, spec in zip(one.flat, specs, strict=True)
    ]
    return adapter.pack(adapter.input_structure(model), tensors)


def _fitting(subject: Subject, batch: Batch, specs: list[TensorSpec]) -> Loaded:
    adapter, model = subject
    if specs:
        flat, names = flat_inputs(*subject, batch.x), adapter.input_names(model)
    else:  # a subclassed model may take any shape, but values must be finite
        flat = list(leaves(batch.x))
        names = [str(position) for position in range(len(flat))]
        specs = [spec_of(leaf) for leaf in flat]
    return Loaded(batch, flat, check_fits(flat, names, specs, index=batch.index))
