"""Fold BatchNormalization into neighbouring linear layers, and prove that nothing else changed."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, Literal, overload

from bnfix.adapters import state
from bnfix.adapters.reading import Reading, read
from bnfix.adapters.subject import Subject
from bnfix.breadth_first.loading import given
from bnfix.errors import BnfixWarning, UnsupportedModelError
from bnfix.graph.edit import Edit
from bnfix.operations.comparison import MiscompiledError
from bnfix.operations.proven import proven
from bnfix.outcomes import Report
from bnfix.passes import fold as fold_pass
from bnfix.restoring import all_or_nothing


@overload
def fold(
    model: Any,
    *,
    x: Any = ...,
    strict: bool = ...,
    lower: bool = ...,
    merge: bool = ...,
    open: str = ...,
    verbose: int | str = ...,
    return_report: Literal[False] = ...,
) -> Any: ...
@overload
def fold(
    model: Any,
    *,
    x: Any = ...,
    strict: bool = ...,
    lower: bool = ...,
    merge: bool = ...,
    open: str = ...,
    verbose: int | str = ...,
    return_report: Literal[True],
) -> tuple[Any, Report]: ...


@all_or_nothing(state.settings)
def fold(
    model: Any,
    *,
    x: Any = None,
    strict: bool = False,
    lower: bool = False,
    merge: bool = False,
    open: str = "auto",
    verbose: int | str = "auto",
    return_report: bool = False,
) -> Any:
    """Fold each BatchNormalization into the linear layers around it, where that is exact.

    The folded model is faster and has no moving statistics left to go wrong. Fold for inference:
    where a BatchNormalization is gone, `training=True` has lost its meaning, so `fit` and its like
    warn.

    Args:
        model: Built model of either Keras. A subclassed one, and layers made of layers, are opened
            as far as there is anything to fold; what is opened comes back as a Functional model.
            Not changed.
        x: Inputs on which old and new outputs are compared; made from the input specs by default.
        strict: Raise if any BatchNormalization of the model cannot be folded.
        lower: Turn those that cannot be folded into plain affine layers: a 1x1 depthwise
            convolution on images, Rescaling elsewhere. What these would not compute the same of
            stays, with the reason: masks, 16 bits, several axes, `training=True`, closed code.
        merge: Make one layer of convolutions (or Dense layers) that read the same and are added,
            the identity included, as in RepVGG: faster still. The smaller ones are gone then.
        open: What may become a part of the graph where a model or layer has none of its own:
            "auto" what holds a BatchNormalization and is to be changed, "all" everything that can
            be, "never" nothing. Code that goes another way for other values stays closed.
        verbose: "auto" shows progress on terminals and in notebooks; 0 never, 1 always.
        return_report: Return `(model, report)`; the report says for every BatchNormalization where
            it went or why it stays.

    Returns:
        A new model; `model` itself where there is nothing to fold.

    Raises:
        UnsupportedModelError: `model` is not built or cannot be opened, or `strict` and something
            must stay.
        VerificationError: Old and new outputs differ by more than rounding, in uncompiled code, in
            `predict` or in compiled code. No model is returned.

    Examples:
        >>> folded, report = bnfix.fold(model, return_report=True)
        >>> [outcome.path for outcome in report.changed]
        ['bn']
    """
    subject = Subject.of(model)
    x = given(subject, x)
    reading = read(subject, "fold", x=x, open=open)
    try:
        edit, report = _planned(reading, lower, merge, strict, careful=False)
        made, notes = _proven(reading, edit, x, verbose)
    except MiscompiledError:  # by code that nothing is known of, so that it has to be kept apart
        edit, report = _planned(reading, lower, merge, strict, careful=True)
        made, notes = _proven(reading, edit, x, verbose)
    if made is not None:
        adapter = reading.adapter
        folded = len(adapter.batch_norms(model)) - len(adapter.batch_norms(made))
        model, report = made, dataclasses.replace(report, notes=(*report.notes, *notes))
        if folded:
            adapter.when_trained(made, lambda: _warn(made.name, folded))
    return (model, report) if return_report else model


def _planned(
    reading: Reading, lower: bool, merge: bool, strict: bool, *, careful: bool
) -> tuple[Edit, Report]:
    """What folds; refused if something does not and `strict` is asked for."""
    edit, report = fold_pass.plan(reading, lower=lower, merge=merge, careful=careful)
    if strict and report.declined:
        listed = "\n".join(f"  {outcome.path}: {outcome.detail}" for outcome in report.declined)
        raise UnsupportedModelError(
            f"fold(strict=True): {len(report.declined)} of {len(report.outcomes)} "
            f"BatchNormalizations of {reading.model.name} must stay:\n{listed}\n"
            "Leave strict out to fold the rest.",
            path=report.declined[0].path,
        )
    return edit, report


def _proven(
    reading: Reading, edit: Edit, x: Any, verbose: int | str
) -> tuple[Any, tuple[str, ...]]:
    """The folded model, or None where nothing folds, and what to tell of it."""
    return proven(reading, edit, x, operation="fold", verbose=verbose) if edit else (None, ())


def _warn(name: str, folded: int) -> None:
    warnings.warn(
        f"{name} was folded: {folded} of its BatchNormalizations are plain weights now and do not "
        "normalize by the batch in training. Train the model it was made from, and fold that.",
        BnfixWarning,
        stacklevel=5,
    )
