"""What to call first: find what is wrong with a model, mend it, prove it.

`repair` carries out the list that `diagnose` makes, and nothing else but what `check` still finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bnfix.adapters import state
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.reading import read
from bnfix.checks.check import CheckReport, check
from bnfix.data.batches import Batch, batches, first_rows
from bnfix.diagnosis.report import DiagnosisReport, Symptom
from bnfix.errors import DataError
from bnfix.operations.diagnose import examine
from bnfix.operations.exchange import exchange_back
from bnfix.operations.fold import fold as fold_model
from bnfix.operations.freeze import freeze
from bnfix.operations.strip_training import strip_training
from bnfix.passes.strip_training import baked_over_batch_norm
from bnfix.recalibration.recalibrate import recalibrate
from bnfix.recalibration.statistics import RecalibrationReport
from bnfix.report import Rendered, Report
from bnfix.restoring import all_or_nothing

#: Rows on which the model is checked; more would only cost time.
_CHECKED_ROWS = 8


@dataclass(frozen=True)
class RepairReport(Rendered):
    """The story of a repair; true if the model is batch-invariant at its end.

    Attributes:
        steps: What was done and why, a sentence each, in order.
        before: The check of the model as given.
        after: The check of the model returned.
        recalibration: What was re-estimated, or None.
        fold: What was folded, or None if that was not asked for.
        diagnosis: What was found wrong; the steps follow it.
        left: Symptoms that no call mends or that need a decision, a sentence each.
    """

    steps: tuple[str, ...]
    before: CheckReport
    after: CheckReport
    recalibration: RecalibrationReport | None = None
    fold: Report | None = None
    diagnosis: DiagnosisReport | None = None
    left: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.after.ok

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        steps = [f"  {number}. {step}" for number, step in enumerate(self.steps, 1)]
        left = [f"  left as it is: {sentence}" for sentence in self.left]
        verdict = "repaired" if self.ok else "NOT repaired"
        parts = [f"repair: {verdict}", *steps, *left, "before", _indented(self.before), "after"]
        return "\n".join([*parts, _indented(self.after)])


@all_or_nothing(state.everything)
def repair(
    model: Any,
    ds: Any,
    *,
    batch_size: int = 32,
    steps: int | None = None,
    fold: bool = False,
    min_count: int = 32,
    verbose: int | str = "auto",
    return_report: bool = False,
) -> Any:
    """Diagnose `model` on `ds`, carry out what that suggests, and check the result.

    A `training=True` baked into a call that reaches a BatchNormalization is stripped, which gives a
    new model; where calls cannot be rewritten, the BatchNormalizations that still follow the batch
    are frozen. Statistics that are not those of `ds` are re-estimated: all of them, or those of the
    layers that are off for a reason of their own. Where labels show that the stored statistics
    serve the model better they stay, and without labels those that were never updated do.

    Args:
        model: Keras 3 or tf_keras model. Changed in place only where nothing has to be stripped;
            the model to go on with is the one returned.
        ds: Calibration data, what `fit` takes; read once. Preprocess it exactly as for training.
            Labels help: with them, and a compiled loss, the loss decides.
        batch_size: For arrays.
        steps: Number of batches to take.
        fold: Also fold BatchNormalization into neighbouring linear layers.
        min_count: Fewest values per channel that statistics may rest on.
        verbose: "auto" shows progress on a terminal; 0 never, 1 always.
        return_report: Return `(model, report)`.

    Returns:
        The repaired model.

    Raises:
        BnfixError: As `check`, `recalibrate` and `fold` do; the given model is as before then.
    """
    adapter = adapter_of(model)
    data = list(batches(ds, batch_size=batch_size, steps=steps))
    if not data:
        raise DataError("the calibration data is empty: at least one batch is required.")
    rows = first_rows(data, _CHECKED_ROWS)
    before = check(model, rows)
    diagnosis = examine(adapter, model, data)
    mending = _Mending(model, data, min_count, verbose)
    for symptom in diagnosis.symptoms:
        mending.mend(symptom)
    mending.freeze_what_follows_the_batch(before, rows)
    mending.recalibrate()
    if not mending.story:
        mending.story.append(f"there is nothing to repair: {_found(diagnosis)}")
    folded = None
    if fold:
        mending.model, folded = fold_model(mending.model, return_report=True)
        mending.story.append(f"folded {len(folded.changed)} of {len(folded.outcomes)}")
    untouched = mending.model is model and len(mending.story) == 1 and not mending.statistics
    after = before if untouched and not fold else check(mending.model, rows)
    report = RepairReport(
        tuple(mending.story),
        before,
        after,
        mending.statistics,
        folded,
        diagnosis,
        tuple(_left(diagnosis, mending.done)),
    )
    return (mending.model, report) if return_report else mending.model


class _Mending:
    """Carries out what a diagnosis suggests, in the order in which it makes sense."""

    def __init__(self, model: Any, data: list[Batch], min_count: int, verbose: int | str) -> None:
        self.model, self.data = model, data
        self.min_count, self.verbose = min_count, verbose
        self.story: list[str] = []
        self.done: list[Symptom] = []
        self.statistics: RecalibrationReport | None = None
        self._off: dict[str, None] | None = {}  # paths to recalibrate; None for all

    def mend(self, symptom: Symptom) -> None:
        """Do what mends `symptom`; statistics wait until everything else is done."""
        code = symptom.code or ""
        if symptom.cause == "baked_training" and code:
            self._strip(symptom)
        elif symptom.cause in ("stale_compile", "baked_inference") and "freeze" in code:
            self.model = freeze(self.model, layers=symptom.paths)
            self.story.append(f"froze {_listed(symptom)}: {symptom.detail}")
        elif symptom.cause == "exchanged":
            self.story += [f"{exchange_back(self.model, symptom)}: {symptom.detail}"]
        elif "bnfix.recalibrate" in code:
            every = "layers=" not in code or self._off is None
            self._off = None if every else {**(self._off or {}), **dict.fromkeys(symptom.paths)}
        else:
            return
        self.done.append(symptom)

    def _strip(self, symptom: Symptom) -> None:
        calls = symptom.fix.partition("layers=")[2]
        self.model, report = strip_training(
            self.model, layers=_over_batch_norms(self.model), return_report=True
        )
        first = report.changed[0].path
        self.story.append(
            f"stripped training=True from {len(report.changed)} calls, the first at {first}: they "
            "normalized by the batch at hand" + (", others stay" if calls else "")
        )
        # What predict and call have left in them is of no batch in particular.
        self._off = None

    def freeze_what_follows_the_batch(self, before: CheckReport, rows: Any) -> None:
        """Where the graph shows no baked call, something inside a layer of the user's own does."""
        if before.ok:
            return
        report = before if not self.story else check(self.model, rows)
        paths = [f.path for f in report.findings if f.cause == "batch_statistics" and f.path]
        if paths:
            self.model = freeze(self.model, layers=paths)
            self.story.append(
                f"froze {len(paths)} BatchNormalizations, the first {paths[0]}: they normalize by "
                "the batch in calls that cannot be rewritten"
            )

    def recalibrate(self) -> None:
        if self._off is not None and not self._off:
            return
        why = [s for s in self.done if "bnfix.recalibrate" in (s.code or "")]
        self.model, report = recalibrate(
            self.model,
            ((batch.x, batch.y, batch.weight) for batch in self.data),
            # Without labels the diagnosis has decided what may be replaced.
            guard="auto" if all(batch.y is not None for batch in self.data) else False,
            layers=None if self._off is None else list(self._off),
            min_count=self.min_count,
            verbose=self.verbose,
            return_report=True,
        )
        self.statistics = report
        reason = f": {why[0].cause}, {why[0].detail}" if why else ""
        outcome = "" if report.kept else f"; put the old statistics back: {report.verdict}"
        self.story.append(
            f"recalibrated {len(report.layers)} BatchNormalizations on {report.batches} "
            f"batches{reason}{outcome}"
        )


def _over_batch_norms(model: Any) -> list[str]:
    return baked_over_batch_norm(read(adapter_of(model), model, "repair"))


def _listed(symptom: Symptom) -> str:
    more = f" and {len(symptom.paths) - 1} more" if len(symptom.paths) > 1 else ""
    return f"{symptom.path}{more}"


def _found(diagnosis: DiagnosisReport) -> str:
    if not diagnosis.batch_norms:
        return "the model has no BatchNormalization"
    return "no call mends what was found" if not diagnosis.ok else "no fault was found"


def _left(diagnosis: DiagnosisReport, done: list[Symptom]) -> Iterator[str]:
    for symptom in diagnosis.symptoms:
        if symptom.severity != "note" and symptom not in done:
            yield f"{symptom.cause} in {_listed(symptom)}: {symptom.detail}; {symptom.fix}"


def _indented(report: Any) -> str:
    return "\n".join(f"  {line}" for line in str(report).splitlines())
