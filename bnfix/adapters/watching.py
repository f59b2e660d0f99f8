"""Watch every layer of a model at work: what the first row brings in, and what comes out.

Only row 0 is kept, since that is what must not depend on its neighbours, and of all rows together
two sums, by which one tells whether anything is another than it was.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfix.adapters.base import Adapter
from bnfix.adapters.intercepting import intercepted
from bnfix.adapters.subject import Subject

Rows = tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True)
class Event:
    """One call of one layer, recorded when it returned.

    Attributes:
        path: Names of the layers around it and its own, `outer/inner/bn`.
        layer: The layer itself.
        dtype: In which it computes.
        inputs: Row 0 of every tensor that went in, by position or by name; a mask is one of them.
        outputs: Row 0 of every tensor that came out.
        entered: How many calls had begun before it did.
        taken: Of every tensor of numbers that went in, all rows, `sums`; empty unless asked for.
        given: The same of what came out.
    """

    path: str
    layer: Any
    dtype: str
    inputs: Rows
    outputs: Rows
    entered: int
    taken: Rows = ()
    given: Rows = ()


@contextmanager
def watched(
    subject: Subject, rows: int, *, whole: bool = False, traced: bool = False
) -> Generator[list[Event]]:
    """A list that fills with the calls made while the block runs, in the order they return.

    Args:
        rows: Length of the batches that the model is called on. The first axis of that length is
            taken for the rows; where a tensor has a multiple of it in front (time folded into the
            batch), that many entries make up row 0.
        whole: Whether all rows are summed up, too.
        traced: Whether what is kept stands for values that compiled code will have later.
    """
    spying = _Watching(subject.adapter, rows, whole, traced)
    with intercepted(subject.adapter.callables(subject.model), spying.spy):
        yield spying.events


def watching(
    subject: Subject, rows: int, *, training: bool | None, whole: bool = False
) -> Callable[[Any], list[Event]]:
    """From inputs to the calls that happen in the model on them.

    Args:
        subject: The model.
        rows: As for `watched`.
        training: What the model is called with; None where it decides itself.
        whole: As for `watched`.
    """
    adapter, model = subject
    options = {} if training is None else {"training": training}

    def run(x: Any) -> list[Event]:
        with watched(subject, rows, whole=whole) as events, adapter.inference():
            model(x, **options)
        return events

    return run


def watching_compiled(
    subject: Subject, rows: int, *, training: bool
) -> Callable[[Any], list[Event]]:
    """As `watching`, in compiled code for batches of one length."""
    adapter, model = subject
    calls: list[Event] = []  # while it is traced

    def traced(x: Any) -> list[tuple[Rows, Rows]]:
        with watched(subject, rows, traced=True) as events:
            model(x, training=training)
        calls[:] = events
        return [(call.inputs, call.outputs) for call in events]

    compiled = adapter.compiled(traced, any_rows=False, quickly=True)

    def values(tensors: Rows) -> Rows:
        return tuple(np.asarray(adapter.to_numpy(tensor)) for tensor in tensors)

    def run(x: Any) -> list[Event]:
        seen = compiled(x)
        return [
            replace(call, inputs=values(entering), outputs=values(leaving))
            for call, (entering, leaving) in zip(calls, seen, strict=True)
        ]

    return run


class _Watching:
    def __init__(self, adapter: Adapter, rows: int, whole: bool, traced: bool) -> None:
        self.adapter, self.rows, self.whole, self.traced = adapter, rows, whole, traced
        self.events: list[Event] = []
        self.around: list[str] = []
        self.begun = 0

    def spy(self, layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        def spy(*args: Any, **kwargs: Any) -> Any:
            entered, self.begun = self.begun, self.begun + 1
            self.around.append(layer.name)
            try:
                # Taken before the call, which may change a state that it is given.
                entering, taken = self._seen((args, kwargs))
                outputs = call(*args, **kwargs)
                path = "/".join(self.around)
            finally:
                self.around.pop()
            leaving, given = self._seen(outputs)
            dtype = self.adapter.computes_in(layer)
            self.events.append(Event(path, layer, dtype, entering, leaving, entered, taken, given))
            return outputs

        return spy

    def _seen(self, structure: Any) -> tuple[Rows, Rows]:
        first = _first(self.adapter, structure, self.rows, traced=self.traced)
        return first, _sums(self.adapter, structure) if self.whole else ()


def _sums(adapter: Adapter, structure: Any) -> Rows:
    """Of each tensor of numbers, the sum of its absolute values and one with uneven weights."""
    found: list[npt.NDArray[Any]] = []
    for leaf in adapter.flatten(structure):
        if not getattr(leaf, "shape", None):
            continue
        try:
            values = np.asarray(adapter.to_numpy(leaf))
        except (AttributeError, *adapter.run_errors):
            continue  # as in `_first`
        if values.dtype.kind in "fiub":
            flat = values.reshape(-1).astype(np.float64)
            uneven = np.modf(np.arange(1, flat.size + 1) * _GOLDEN)[0]
            found.append(np.array([np.abs(flat).sum(), flat @ uneven]))
    return tuple(found)


#: Its multiples, cut down to what follows the point, are spread evenly and never repeat.
_GOLDEN = 0.6180339887498949


def _first(adapter: Adapter, structure: Any, rows: int, *, traced: bool) -> Rows:
    """Row 0 of every tensor in `structure` that has rows and values."""
    found: list[npt.NDArray[Any]] = []
    for leaf in adapter.flatten(structure):
        axis, length = _row_axis(tuple(getattr(leaf, "shape", None) or ()), rows)
        if not length:
            continue
        first = (slice(None),) * axis + (slice(0, length),)
        try:
            if traced:
                found.append(leaf[first])
            else:  # cut as an array, since a library may compile the cut of each shape
                found.append(np.array(adapter.to_numpy(leaf)[first]))
        except (AttributeError, *adapter.run_errors):
            continue  # ragged, or a placeholder in a loop that the layer traces by itself
    return tuple(found)


def _row_axis(shape: tuple[int | None, ...], rows: int) -> tuple[int, int]:
    """Axis along which the rows stand, and how many entries are row 0; (0, 0) if none."""
    if rows in shape:
        return shape.index(rows), 1  # not always in front: time-major layouts, attention heads
    folded = bool(shape) and bool(shape[0]) and shape[0] % rows == 0
    return (0, shape[0] // rows) if folded and shape[0] else (0, 0)
