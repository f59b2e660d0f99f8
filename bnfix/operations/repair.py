"""What to call first: find what is wrong with a model, mend it, prove it.

`repair` carries out the list that `diagnose` makes, and nothing else but what `check` still finds.
"""

from __future__ import annotations

from typing import Any, Literal, overload

from bnfix.adapters import state
from bnfix.adapters.subject import Subject
from bnfix.checks.check import check
from bnfix.data.batches import EMPTY, batches, first_rows
from bnfix.data.sizes import InBatchesOf
from bnfix.diagnosis.cause import Cause
from bnfix.diagnosis.diagnosis_report import DiagnosisReport
from bnfix.errors import DataError
from bnfix.graph.select import Selection, select
from bnfix.operations.diagnose import examine
from bnfix.operations.fold import fold as fold_model
from bnfix.operations.mending import CHECKED_ROWS, Mending
from bnfix.operations.repair_report import RepairReport
from bnfix.progress import counted
from bnfix.recalibration.guard import Metric
from bnfix.recalibration.procedure import checked
from bnfix.restoring import all_or_nothing


@overload
def repair(
    model: Any,
    ds: Any,
    *,
    copy: bool = ...,
    layers: Selection = ...,
    batch_size: int = ...,
    steps: int | None = ...,
    fold: bool = ...,
    method: str = ...,
    min_count: int = ...,
    memory_limit: int | str | None = ...,
    guard: str | bool = ...,
    metric: Metric | None = ...,
    verbose: int | str = ...,
    return_report: Literal[False] = ...,
) -> Any: ...
@overload
def repair(
    model: Any,
    ds: Any,
    *,
    copy: bool = ...,
    layers: Selection = ...,
    batch_size: int = ...,
    steps: int | None = ...,
    fold: bool = ...,
    method: str = ...,
    min_count: int = ...,
    memory_limit: int | str | None = ...,
    guard: str | bool = ...,
    metric: Metric | None = ...,
    verbose: int | str = ...,
    return_report: Literal[True],
) -> tuple[Any, RepairReport]: ...


@all_or_nothing(state.everything)
def repair(
    model: Any,
    ds: Any,
    *,
    copy: bool = True,
    layers: Selection = None,
    batch_size: int = 32,
    steps: int | None = None,
    fold: bool = False,
    method: str = "exact",
    min_count: int = 32,
    memory_limit: int | str | None = None,
    guard: str | bool = "auto",
    metric: Metric | None = None,
    verbose: int | str = "auto",
    return_report: bool = False,
) -> Any:
    """Diagnose `model` on `ds`, carry out what that suggests, and check the result.

    A `training=True` baked into a call that reaches a BatchNormalization is stripped, which gives a
    new model. A BatchNormalization is frozen, which ends its training, only where it follows the
    batch in calls that cannot be rewritten, or where `fit` would undo what was meant; the report
    says so. Statistics that are not those of `ds` are re-estimated: all of them, or those of the
    layers that are off for a reason of their own. Where labels show that the stored statistics
    serve the model better they stay; without labels those that were never updated do, those of
    layers that are frozen, and all where the data are in other units than in training.

    Args:
        model: Built Keras 3 or tf_keras model of any kind. Not changed, unless `copy` is False.
        ds: Calibration data, what `fit` takes; read once. Preprocess it exactly as for training.
            Labels help: with them, and a compiled loss, the loss decides.
        copy: Whether `model` stays as it is. Without, what can be mended in place is, which spares
            the memory for a second model; go on with the model that is returned, in any case.
        layers: Paths (a nested model's stands for all in it) or a function of a path: the
            BatchNormalizations to mend; all by default.
        batch_size: For arrays.
        steps: Number of batches to take.
        fold: Also fold BatchNormalization into neighbouring linear layers.
        method: As for `recalibrate`, as the next four.
        min_count: Fewest values per channel that statistics may rest on.
        memory_limit: Bytes that tensors on their way through the network may take.
        guard: What is done where statistics make the compiled loss worse.
        metric: What is compared instead of the loss.
        verbose: "auto" shows progress on terminals and in notebooks; 0 never, 1 always.
        return_report: Return `(model, report)`.

    Returns:
        The repaired model; `model` itself where there is nothing to repair.

    Raises:
        BnfixError: As `check`, `recalibrate` and `fold` do; the given model is as before then.

    Examples:
        >>> repaired, report = bnfix.repair(model, (x, y), verbose=0, return_report=True)
        >>> print(report.outcome)
        repaired
    """
    subject = Subject.of(model)
    adapter = subject.adapter
    adapter.check_alone(model, "repair")
    checked(method, min_count, 0, memory_limit, guard, metric, verbose)
    options = {"method": method, "min_count": min_count, "memory_limit": memory_limit}
    options = {**options, "guard": guard, "metric": metric, "verbose": verbose}
    norms = [path for path, _ in adapter.batch_norms(model)]
    chosen = None if layers is None else select(layers, norms, what="BatchNormalization")
    read = batches(ds, batch_size=batch_size, steps=steps)
    sized = InBatchesOf(adapter.batch_size(model), read)
    data = list(counted(sized, "reading data", verbose))
    if not data:
        raise DataError(EMPTY)
    before = check(model, first_rows(data, CHECKED_ROWS), verbose=verbose)
    diagnosis = examine(subject, data, sized.notes, verbose=verbose)
    mending = Mending(model, data, before, options, chosen, copy=copy)
    for symptom in diagnosis.symptoms:
        if symptom.severity != "note":
            mending.mend(symptom)
    mending.mend_what_is_left()
    if any(found.cause is Cause.OTHER_UNITS for found in diagnosis.symptoms):
        mending.did("left all statistics as they are, since the data are in other units", False)
    else:
        mending.recalibrate()
    mending.mend_what_is_left()  # statistics that were NaN have hidden it until now
    folded = None
    if fold:
        mending.model, folded = fold_model(mending.model, verbose=verbose, return_report=True)
        mending.did(f"folded {len(folded.changed)} of {len(folded.outcomes)}", bool(folded.changed))
    found = diagnosis
    if mending.changed:
        found = examine(Subject(adapter, mending.model), data, sized.notes, verbose=verbose)
    report = RepairReport(
        tuple(mending.story) or (f"there is nothing to repair: {_found(diagnosis)}",),
        before,
        mending.check(),
        mending.statistics,
        folded,
        diagnosis,
        found,
    )
    return (mending.model, report) if return_report else mending.model


def _found(diagnosis: DiagnosisReport) -> str:
    if not diagnosis.batch_norms:
        return "the model has no BatchNormalization"
    return "no call mends what was found" if not diagnosis.ok else "no fault was found"
