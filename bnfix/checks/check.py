"""Is a model batch-invariant; and if not, which layer is to blame, why, and what mends it?

Batch size 1 against N alone cannot tell: other batch sizes run through other kernels, whose
rounding differs. With the neighbours of a row replaced at the same batch size, shapes and kernels
are the same, so any difference in that row is real.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from bnfix.adapters import state
from bnfix.adapters.subject import Subject
from bnfix.checks.check_report import CheckReport, Finding
from bnfix.checks.findings import Blame
from bnfix.checks.inputs import probes_from
from bnfix.checks.measure import EntryPoints, measure
from bnfix.checks.measurement import EXPORT, worst
from bnfix.checks.stale import compiled_anew
from bnfix.checks.training import entry_point, faults, without_chance
from bnfix.errors import BatchDependenceError, OptionError, UnsupportedModelError, gist
from bnfix.progress import progress
from bnfix.restoring import all_or_nothing
from bnfix.tree import map_leaves

__all__ = ["CheckReport", "Finding", "assert_batch_invariant", "check"]


@all_or_nothing(state.settings)
def check(
    model: Any,
    x: Any,
    *,
    rows: int = 8,
    export: bool | str = False,
    training: bool = False,
    verbose: int | str = "auto",
) -> CheckReport:
    """Whether the answer for a row depends on the rows next to it, and on how the model is called.

    `predict(x)`, `model(x)` and compiled code (`tf.function(model)(x)`; on JAX
    `jax.jit(model.stateless_call)`, whose caller goes on with the state that it returns) are each
    tried on a row among replaced neighbours, in smaller batches, twice, and against each other; the
    weights are compared before and after. Where nothing is wrong that costs three passes over the
    rows at most (of five rows or more; five on JAX, where all batches but one are of one length,
    since each length has to be compiled for); only where something is, everything is measured and
    the layer searched. What TensorFlow compiled of a model is kept while the model lives, so that
    the next check of it has nothing to compile. Weights, seeds, recurrent states and compiled
    functions are as before when it ends, however it ends.

    Args:
        model: Built Keras 3 or tf_keras model of any kind, with BatchNormalization or without.
        x: Inputs as `fit` takes them (targets are ignored), leaves `(batch, ...)`; the first `rows`
            rows are used. Real data: on constant inputs a dependence can stay hidden.
        rows: Batch size of the check, 2 or more; a model with a batch size of its own gets that.
        export: Also try what `model.export` writes, in a temporary folder: a SavedModel, which on
            JAX takes TensorFlow besides, or on PyTorch the `.pt2` program of `torch.export`.
            "onnx" tries the ONNX file that Keras 3 writes, in ONNX Runtime.
        training: Instead of all this, whether rows are coupled in `model(x, training=True)`, with
            dropout and the like left out. Every BatchNormalization that is not frozen couples them.
        verbose: "auto" shows progress on terminals and in notebooks; 0 never, 1 always.

    Returns:
        The report. Rounding alone leaves it `ok`.

    Raises:
        UnsupportedModelError: `model` is not a Keras model, or not built.
        DataError: `x` does not fit the model, is not finite, or has fewer than two rows.
        OptionError: `export` is something else, or `rows` no number of rows.
        ModelError: The model cannot be run on `x`.

    Examples:
        >>> report = bnfix.check(model, x)
        >>> report.ok
        True
    """
    subject = Subject.of(model)
    adapter = subject.adapter
    if export not in (True, False, "onnx"):
        raise OptionError(f"export is {export!r}; it may be True, False or 'onnx'.")
    if not model.built:
        raise UnsupportedModelError(
            f"check needs a built model; {model.name} ({type(model).__name__}) has never seen an "
            "input shape. Call it once on a batch, or give it an Input."
        )
    probes, notes = probes_from(subject, x, rows)
    with ExitStack() as undo:
        undo.enter_context(adapter.functions_kept(model))
        undo.enter_context(adapter.untouched(model))
        if training:
            undo.enter_context(without_chance(subject))
        points, failed = _entry_points(subject, probes.x, undo, export=export, training=training)
        was_predicting = "predict" in points and "predict_function" in adapter.compiled_functions(
            model
        )
        advance = undo.enter_context(progress(None, f"checking {model.name}", verbose))
        apart = points if training else {**points, **adapter.entry_points(model, apart=True)}
        measurements = looked_at = measure(subject, probes, points, apart, advance)
        stale: tuple[Finding, ...] = ()
        if was_predicting and any(point.tells for point in measurements):
            looked_at, stale = compiled_anew(subject, probes, apart, measurements)
        blame = Blame(subject, probes, apart, looked_at)
        findings = stale + (faults(blame.findings()) if training else blame.findings())
        consequences = () if training else blame.consequences
        layers = blame.layers()
    alone = [point.alone for point in measurements if point.alone is not None]
    coupling = [point.coupling for point in measurements]
    return CheckReport(
        ok=all(finding.severity == "note" for finding in findings),
        max_difference=worst(alone).difference,
        coupling=worst(coupling).difference,
        tolerance=worst(alone + coupling).tolerance,
        findings=findings,
        measurements=measurements,
        rows=probes.rows,
        notes=(*notes, *failed, *dict.fromkeys(blame.notes)),
        consequences=consequences,
        layers=layers,
    )


def assert_batch_invariant(
    model: Any,
    x: Any,
    *,
    rows: int = 8,
    export: bool | str = False,
    training: bool = False,
    verbose: int | str = "auto",
) -> None:
    """For tests: `check`, and an error that shows its report where a row depends on others.

    Args:
        model: As for `check`.
        x: As for `check`.
        rows: As for `check`.
        export: As for `check`.
        training: As for `check`.
        verbose: As for `check`.

    Raises:
        BatchDependenceError: The check has findings other than rounding; its message is the report,
            which it holds as `.report` as well. It is an AssertionError too.
        BnfixError: As `check` does.

    Examples:
        >>> bnfix.assert_batch_invariant(model, x)
    """
    report = check(model, x, rows=rows, export=export, training=training, verbose=verbose)
    if not report.ok:
        raise BatchDependenceError(str(report), report=report, path=report.culprit)


def _entry_points(
    subject: Subject, x: Any, undo: ExitStack, *, export: bool | str, training: bool
) -> tuple[EntryPoints, tuple[str, ...]]:
    """All ways of calling the model, and notes on those that cannot be had."""
    adapter, model = subject
    if training:
        return entry_point(subject), ()
    points = dict(adapter.entry_points(model))
    if not export:
        return points, ()
    try:
        # Keras 3 exports no ONNX file of a model that was never called.
        adapter.infer(model, map_leaves(adapter.fed, x))
        points[EXPORT] = undo.enter_context(adapter.exported(model, onnx=export == "onnx"))
    except Exception as error:  # whatever it is, the other ways stand without it
        return points, (f"the model could not be exported, so that was not tried: {gist(error)}",)
    return points, ()
