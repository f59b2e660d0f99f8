"""A subclassed model, or one of layers that are made of layers, as a plain Functional model."""

from __future__ import annotations

from typing import Any, Literal, overload

from bnfix.adapters import state
from bnfix.adapters.reading import Reading, read
from bnfix.adapters.subject import Subject
from bnfix.breadth_first.loading import given
from bnfix.graph.edit import Edit
from bnfix.operations.proven import proven
from bnfix.outcomes import Outcome, Report
from bnfix.restoring import all_or_nothing


@overload
def open_up(
    model: Any, *, x: Any = ..., verbose: int | str = ..., return_report: Literal[False] = ...
) -> Any: ...
@overload
def open_up(
    model: Any, *, x: Any = ..., verbose: int | str = ..., return_report: Literal[True]
) -> tuple[Any, Report]: ...


@all_or_nothing(state.settings)
def open_up(
    model: Any, *, x: Any = None, verbose: int | str = "auto", return_report: bool = False
) -> Any:
    """The plain Functional model that the code of `model` amounts to.

    Everything is opened that can be: the model itself and, at any depth, layers of classes made
    elsewhere. The code runs once, in inference, on placeholders; what it calls becomes the graph,
    with copies of its weights. Where nothing stays closed the new model saves and loads with no
    code but that of Keras, and tools that read graphs can read it.

    Args:
        model: Built model of either Keras. Not changed.
        x: Inputs on which both are compared, and that tell what a subclassed model takes where it
            does not know; made from its specs by default.
        verbose: "auto" shows progress on terminals and in notebooks; 0 never, 1 always.
        return_report: Return `(model, report)`; the report says what was opened, what stays closed
            and why.

    Returns:
        A new model; `model` itself where there is nothing to open.

    Raises:
        UnsupportedModelError: `model` is not built, or its code takes another way for other values.
        VerificationError: The new model computes something else. It is not returned.

    Examples:
        >>> class Code(keras.Model):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.hidden = keras.layers.Dense(4)
        ...
        ...     def call(self, inputs):
        ...         return self.hidden(inputs)
        >>> code = Code()
        >>> _ = code(x)
        >>> plain = bnfix.open_up(code)
        >>> type(plain).__name__
        'Functional'
    """
    subject = Subject.of(model)
    x = given(subject, x)
    reading = read(subject, "open_up", x=x, open="all")
    report = Report("open_up", tuple(_outcomes(reading)), ())
    if reading.opened:
        model, notes = proven(reading, Edit(), x, operation="open_up", verbose=verbose)
        report = Report("open_up", report.outcomes, notes)
    return (model, report) if return_report else model


def _outcomes(reading: Reading) -> list[Outcome]:
    opened = [Outcome(path, True, f"opened: {kind}") for path, kind in reading.opened_at()]
    closed = [Outcome(path, False, why) for path, why in reading.closed_at()]
    return [*opened, *closed]
