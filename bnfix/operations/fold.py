"""Fold BatchNormalization into neighbouring linear layers, and prove that nothing else changed."""

from __future__ import annotations

import warnings
from typing import Any

from bnfix.adapters.choose import adapter_of
from bnfix.adapters.reading import read
from bnfix.adapters.rebuilding import rebuild
from bnfix.errors import BnfixWarning, UnsupportedModelError
from bnfix.operations.verify import verify
from bnfix.passes import fold as fold_pass
from bnfix.report import Report


def fold(
    model: Any,
    *,
    x: Any = None,
    strict: bool = False,
    lower: bool = False,
    open: str = "auto",
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
            convolution on images, Rescaling elsewhere. None is left then that training could reach.
        open: What may become a part of the graph where a model or layer has none of its own:
            "auto" what holds a BatchNormalization and is to be changed, "all" everything that can
            be, "never" nothing. Code that goes another way for other values stays closed.
        return_report: Return `(model, report)`; the report says for every BatchNormalization where
            it went or why it stays.

    Returns:
        A new model; `model` itself where there is nothing to fold.

    Raises:
        UnsupportedModelError: `model` is not built or cannot be opened, or `strict` and something
            must stay.
        VerificationError: Old and new outputs differ by more than rounding. No model is returned.
    """
    adapter = adapter_of(model)
    reading = read(adapter, model, "fold", x=x, open=open)
    edit, report = fold_pass.plan(reading, lower=lower)
    if strict and report.declined:
        listed = "\n".join(f"  {outcome.path}: {outcome.detail}" for outcome in report.declined)
        raise UnsupportedModelError(
            f"fold(strict=True): {len(report.declined)} of {len(report.outcomes)} "
            "BatchNormalizations "
            f"of {model.name} must stay:\n{listed}\nLeave strict out to fold the rest. "
            "Nothing was changed.",
            path=report.declined[0].path,
        )
    if edit:
        rebuilt = rebuild(reading, edit)
        agreement = verify(reading, edit, rebuilt.model, x, operation="fold")
        model = rebuilt.model
        adapter.when_trained(model, lambda: _warn(model.name, len(report.changed)))
        notes = (*report.notes, *rebuilt.lost, str(agreement))
        report = Report(report.operation, report.outcomes, notes)
    return (model, report) if return_report else model


def _warn(name: str, folded: int) -> None:
    warnings.warn(
        f"{name} was folded: {folded} of its BatchNormalizations are plain weights now and do not "
        "normalize by the batch in training. Train the model it was made from, and fold that.",
        BnfixWarning,
        stacklevel=5,
    )
