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
    merge: bool = False,
    return_report: bool = False,
) -> Any:
    """Fold each BatchNormalization into the linear layers around it, where that is exact.

    The folded model is faster and has no moving statistics left to go wrong. Fold for inference:
    where a BatchNormalization is gone, `training=True` has lost its meaning, so `fit` and its like
    warn.

    Args:
        model: Functional or Sequential model, nested as deep as you like. Not changed.
        x: Inputs on which old and new outputs are compared; made from the input specs by default.
        strict: Raise if any BatchNormalization cannot be folded.
        lower: Turn those that cannot be folded into plain affine layers: a 1x1 depthwise
            convolution on images, Rescaling elsewhere. None is left then that training could reach.
        merge: Make one layer of convolutions (or Dense layers) that read the same and are added,
            the identity included, as in RepVGG: faster still. The smaller ones are gone then.
        return_report: Return `(model, report)`; the report says for every BatchNormalization where
            it went or why it stays.

    Returns:
        A new model; `model` itself where there is nothing to fold.

    Raises:
        UnsupportedModelError: `model` has no graph, or `strict` and something must stay.
        VerificationError: Old and new outputs differ by more than rounding. No model is returned.
    """
    adapter = adapter_of(model)
    reading = read(adapter, model, "fold")
    edit, report = fold_pass.plan(reading, lower=lower, merge=merge)
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
        folded = len(adapter.batch_norms(model)) - len(adapter.batch_norms(rebuilt.model))
        model = rebuilt.model
        if folded:
            adapter.when_trained(model, lambda: _warn(model.name, folded))
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
