"""Is a model batch-invariant; and if not, which layer is to blame, why, and what mends it?

Batch size 1 against N alone cannot tell: other batch sizes run through other kernels, whose
rounding differs. With the neighbours of a row replaced at the same batch size, shapes and kernels
are the same, so any difference in that row is real.
"""

from __future__ import annotations

from typing import Any

from bnfix.adapters.choose import adapter_of
from bnfix.checks.findings import Blame
from bnfix.checks.inputs import probes_from
from bnfix.checks.probes import measure
from bnfix.checks.report import CheckReport, Finding, worst
from bnfix.errors import UnsupportedModelError

__all__ = ["CheckReport", "Finding", "check"]


def check(model: Any, x: Any, *, rows: int = 8) -> CheckReport:
    """Whether the answer for a row depends on the rows next to it, and on how the model is called.

    `predict(x)`, `model(x)` and `tf.function(model)(x)` are each tried with row 0 alone, among
    others, and among replaced neighbours; twice; and the weights are compared before and after.
    Weights, seeds, recurrent states and compiled functions are as before when it ends, however it
    ends.

    Args:
        model: Built Keras 3 or tf_keras model of any kind, with BatchNormalization or without.
        x: Inputs as `fit` takes them (targets are ignored), leaves `(batch, ...)`; the first `rows`
            rows are used. Real data: on constant inputs a dependence can stay hidden.
        rows: Batch size of the check, 2 or more; a model with a batch size of its own gets that.

    Returns:
        The report. Rounding alone leaves it `ok`.

    Raises:
        UnsupportedModelError: `model` is not a Keras model, or not built.
        DataError: `x` does not fit the model, is not finite, or has fewer than two rows.
        ModelError: The model cannot be run on `x`.
    """
    adapter = adapter_of(model)
    if not model.built:
        raise UnsupportedModelError(
            f"check needs a built model; {model.name} ({type(model).__name__}) has never seen an "
            "input shape. Call it once on a batch, or give it an Input. Nothing was changed."
        )
    probes, notes = probes_from(adapter, model, x, rows)
    with adapter.functions_kept(model), adapter.untouched(model):
        measurements = tuple(measure(adapter, model, probes))
        blame = Blame(adapter, model, probes, measurements)
        findings = blame.findings()
    alone = [point.alone for point in measurements if point.alone is not None]
    coupling = [point.coupling for point in measurements]
    return CheckReport(
        ok=all(finding.cause == "rounding" for finding in findings),
        max_difference=worst(alone).difference,
        coupling=worst(coupling).difference,
        tolerance=worst(alone + coupling).tolerance,
        findings=findings,
        measurements=measurements,
        rows=probes.rows,
        notes=(*notes, *dict.fromkeys(blame.notes)),
    )
