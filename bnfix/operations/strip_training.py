"""Take baked `training=` out of a model's calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, overload

from bnfix.adapters import state
from bnfix.adapters.overruling import baked
from bnfix.adapters.reading import read
from bnfix.adapters.subject import Subject
from bnfix.breadth_first.loading import given
from bnfix.graph.select import Selection
from bnfix.operations.proven import proven
from bnfix.outcomes import Report
from bnfix.passes import strip_training as strip_pass
from bnfix.restoring import all_or_nothing


@overload
def strip_training(
    model: Any,
    *,
    layers: Selection = ...,
    x: Any = ...,
    open: str = ...,
    verbose: int | str = ...,
    return_report: Literal[False] = ...,
) -> Any: ...
@overload
def strip_training(
    model: Any,
    *,
    layers: Selection = ...,
    x: Any = ...,
    open: str = ...,
    verbose: int | str = ...,
    return_report: Literal[True],
) -> tuple[Any, Report]: ...


@all_or_nothing(state.settings)
def strip_training(
    model: Any,
    *,
    layers: Selection = None,
    x: Any = None,
    open: str = "auto",
    verbose: int | str = "auto",
    return_report: bool = False,
) -> Any:
    """Remove every `training=` that was written into a call when the model was made.

    Such a call overrules what the model is asked for: `BatchNormalization()(x, training=True)` uses
    the batch's own statistics in `model(x)` and in exported models, in tf_keras in `predict` as
    well, and overwrites the moving statistics each time.

    Args:
        model: Built model of either Keras. A subclassed one, and layers made of layers, are opened
            where a `training=` is written in their code and a BatchNormalization is in them, with
            `open="all"` wherever one is written; what is opened comes back as a Functional model.
            Not changed.
        layers: Paths of calls (a nested model's stands for all in it too) or a function of a path;
            all calls with a baked `training=` by default.
        x: Inputs on which the new model is compared with the old one's layers, called without what
            is removed; made from the input specs by default. They also tell what a subclassed model
            takes, where it does not know.
        open: What may become a part of the graph where a model or layer has none of its own:
            "auto" what holds a BatchNormalization and is to be changed, "all" everything that can
            be, "never" nothing. Code that goes another way for other values stays closed.
        verbose: "auto" shows progress on terminals and in notebooks; 0 never, 1 always.
        return_report: Return `(model, report)`.

    Returns:
        A new model with the same names, weights, flags and compilation; `model` itself where there
        is nothing to remove.

    Raises:
        UnsupportedModelError: `model` is not built or cannot be opened; bnfix.freeze works on it.
        VerificationError: The new model does not compute what it should in every entry point. No
            model is returned.
        OptionError: `layers` names a path with nothing baked. Nothing is changed then.

    Examples:
        >>> inputs = keras.Input((4,))
        >>> outputs = keras.layers.BatchNormalization(name="bn")(inputs, training=True)
        >>> model = keras.Model(inputs, outputs)
        >>> stripped, report = bnfix.strip_training(model, return_report=True)
        >>> [outcome.path for outcome in report.changed]
        ['bn']
    """
    subject = Subject.of(model)
    x = given(subject, x)
    reading = read(subject, "strip_training", x=x, open=open)
    edit, report = strip_pass.plan(reading, layers)
    if edit:
        model, notes = proven(
            reading,
            edit,
            x,
            operation="strip_training",
            verbose=verbose,
            calm=replace(edit, untrain=edit.untrain | baked(reading)),
        )
        report = replace(report, notes=(*report.notes, *notes))
    return (model, report) if return_report else model
