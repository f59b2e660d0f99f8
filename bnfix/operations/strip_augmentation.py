"""Have `model(x)` leave augmentation out, as `predict` does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, overload

from bnfix.adapters import state
from bnfix.adapters.base import Adapter
from bnfix.adapters.overruling import baked
from bnfix.adapters.reading import read
from bnfix.adapters.subject import Subject
from bnfix.breadth_first.loading import given
from bnfix.graph.select import Selection
from bnfix.operations.proven import proven
from bnfix.outcomes import Report
from bnfix.passes import strip_augmentation as augmentation_pass
from bnfix.restoring import all_or_nothing


@overload
def strip_augmentation(
    model: Any,
    *,
    layers: Selection = ...,
    x: Any = ...,
    open: str = ...,
    verbose: int | str = ...,
    return_report: Literal[False] = ...,
) -> Any: ...
@overload
def strip_augmentation(
    model: Any,
    *,
    layers: Selection = ...,
    x: Any = ...,
    open: str = ...,
    verbose: int | str = ...,
    return_report: Literal[True],
) -> tuple[Any, Report]: ...


@all_or_nothing(state.settings)
def strip_augmentation(
    model: Any,
    *,
    layers: Selection = None,
    x: Any = None,
    open: str = "auto",
    verbose: int | str = "auto",
    return_report: bool = False,
) -> Any:
    """Turn off, outside of `fit`, layers that are in training mode unless told otherwise.

    `RandomFlip` and its like, in Keras 3 `Resizing` and `CenterCrop` too, have `training=True` as
    the default of their `call`. `predict` overrules it; `model(x)`, compiled calls and the exported
    model do not: they augment, and in Keras 3 every BatchNormalization behind such a layer
    normalizes by the batch at hand. The new model has `training=False` written into these calls. In
    Keras 3 `fit` overrules that, so that it augments as before; in tf_keras nothing does, so that
    the new model is one for serving.

        serving = bnfix.strip_augmentation(model)

    Args:
        model: Built model of either Keras, as for `strip_training`. Not changed.
        layers: Paths of such calls or a function of a path; all by default.
        x: Inputs on which `model(x)` of the new model is compared with the inference of the old
            one; made from the input specs by default.
        open: As for `strip_training`.
        verbose: "auto" shows progress on terminals and in notebooks; 0 never, 1 always.
        return_report: Return `(model, report)`.

    Returns:
        A new model with the same names, weights, flags and compilation; `model` itself where there
        is no such layer.

    Raises:
        UnsupportedModelError: `model` is not built or cannot be opened; `model(x, training=False)`
            does without.
        VerificationError: The new model does not compute what it should. None is returned then.
        OptionError: `layers` names a path that is no such layer.

    Examples:
        >>> inputs = keras.Input((8, 8, 3))
        >>> flipped = keras.layers.RandomFlip(name="flip")(inputs)
        >>> serving = bnfix.strip_augmentation(keras.Model(inputs, flipped))
        >>> bnfix.check(serving, np.random.rand(8, 8, 8, 3)).ok
        True
    """
    subject = Subject.of(model)
    x = given(subject, x)
    reading = read(subject, "strip_augmentation", x=x, open=open)
    edit, report = augmentation_pass.plan(reading, layers)
    if edit:
        # A training=True that stays elsewhere may be random: a model without any is proven.
        calm = replace(
            edit,
            untrain=baked(reading),
            infer=frozenset(augmentation_pass.by_default(reading.definitions)),
        )
        model, notes = proven(
            reading, edit, x, operation="strip_augmentation", verbose=verbose, calm=calm
        )
        report = replace(report, notes=(*report.notes, *notes, *_kept_from_fit(reading.adapter)))
    return (model, report) if return_report else model


def _kept_from_fit(adapter: Adapter) -> tuple[str, ...]:
    if adapter.predict_overrules_training:
        return ()
    return ("fit does not augment any more: in this Keras nothing overrules training=False",)
