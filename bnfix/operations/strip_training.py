"""Take baked `training=` out of a model's calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bnfix.adapters import state
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.reading import Reading, read
from bnfix.adapters.rebuilding import rebuild
from bnfix.breadth_first.loading import given
from bnfix.graph.edit import Edit
from bnfix.graph.select import Selection
from bnfix.operations.agreement import Agreement
from bnfix.operations.reference import baked
from bnfix.operations.verify import opened_as, verify
from bnfix.passes import strip_training as strip_pass
from bnfix.report import Report
from bnfix.restoring import all_or_nothing


@all_or_nothing(state.settings)
def strip_training(
    model: Any,
    *,
    layers: Selection = None,
    x: Any = None,
    open: str = "auto",
    return_report: bool = False,
) -> Any:
    """Remove every `training=` that was written into a call when the model was made.

    Such a call overrules what the model is asked for: `BatchNormalization()(x, training=True)` uses
    the batch's own statistics in `model(x)` and in exported models, in tf_keras in `predict` as
    well, and overwrites the moving statistics each time.

    Args:
        model: Built model of either Keras. A subclassed one, and layers made of layers, are opened
            where a `training=` is written in their code; what is opened comes back as a Functional
            model. Not changed.
        layers: Paths of calls (a nested model's stands for all in it too) or a function of a path;
            all calls with a baked `training=` by default.
        x: Inputs on which the new model is compared with the old one's layers, called without what
            is removed; made from the input specs by default. They also tell what a subclassed model
            takes, where it does not know.
        open: What may become a part of the graph where a model or layer has none of its own:
            "auto" what holds a BatchNormalization and is to be changed, "all" everything that can
            be, "never" nothing. Code that goes another way for other values stays closed.
        return_report: Return `(model, report)`.

    Returns:
        A new model with the same names, weights, flags and compilation; `model` itself where there
        is nothing to remove.

    Raises:
        UnsupportedModelError: `model` is not built or cannot be opened; bnfix.freeze works on it.
        VerificationError: The new model does not compute what it should in every entry point. No
            model is returned.
        SelectionError: `layers` names a path with nothing baked. Nothing is changed then.
    """
    adapter = adapter_of(model)
    x = given(adapter, model, x)
    reading = read(adapter, model, "strip_training", x=x, open=open)
    edit, report = strip_pass.plan(reading, layers)
    if edit:
        proof = opened_as(reading, x, operation="strip_training")
        rebuilt = rebuild(reading, edit)
        agreement = _verified(reading, edit, rebuilt.model, x)
        model = rebuilt.model
        notes = (*report.notes, *rebuilt.lost, *proof, *agreement.notes)
        report = Report(report.operation, report.outcomes, notes)
    return (model, report) if return_report else model


def _verified(reading: Reading, edit: Edit, made: Any, x: Any) -> Agreement:
    """Where other calls keep a `training=`, which may be random, a model without any is proven."""
    every = baked(reading)
    if every <= edit.untrain:
        return verify(reading, edit, made, x, operation="strip_training")
    calm = replace(edit, untrain=every)
    return verify(reading, calm, rebuild(reading, calm).model, x, operation="strip_training")
