"""What to call first: find what is wrong with a model, mend it, prove it.

`repair` carries out the list that `diagnose` makes, and nothing else but what `check` still finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from bnfix.adapters import state, weights
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.reading import readable
from bnfix.checks.check import CheckReport, Finding, check
from bnfix.data.batches import Batch, batches, first_rows
from bnfix.data.sizes import InBatchesOf
from bnfix.diagnosis.diagnosis_report import DiagnosisReport, Symptom
from bnfix.errors import DataError, UnsupportedModelError, VerificationError
from bnfix.operations.diagnose import examine
from bnfix.operations.fold import fold as fold_model
from bnfix.operations.freeze import freeze
from bnfix.operations.repair_report import RepairReport
from bnfix.operations.strip_augmentation import strip_augmentation
from bnfix.operations.strip_training import strip_training
from bnfix.options import whole
from bnfix.passes.strip_training import baked_over_batch_norm
from bnfix.recalibration.recalibrate import recalibrate
from bnfix.recalibration.statistics import RecalibrationReport
from bnfix.remedy import Remedy, Verb
from bnfix.restoring import all_or_nothing

#: Rows on which the model is checked; more would only cost time.
_CHECKED_ROWS = 8


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
    new model. A BatchNormalization is frozen, which ends its training, only where it follows the
    batch in calls that cannot be rewritten, or where `fit` would undo what was meant; the report
    says so. Statistics that are not those of `ds` are re-estimated: all of them, or those of the
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
    whole("min_count", min_count, at_least=1)
    read = batches(ds, batch_size=batch_size, steps=steps)
    sized = InBatchesOf(adapter.batch_size(model), read)
    data = list(sized)
    if not data:
        raise DataError("the data is empty: at least one row is required.")
    before = check(model, first_rows(data, _CHECKED_ROWS))
    diagnosis = examine(adapter, model, data, sized.notes)
    mending = _Mending(model, data, before, min_count, verbose)
    for symptom in diagnosis.symptoms:
        if symptom.severity != "note":
            mending.mend(symptom)
    mending.mend_what_is_left()
    mending.recalibrate()
    mending.mend_what_is_left()  # statistics that were NaN have hidden it until now
    folded = None
    if fold:
        mending.model, folded = fold_model(mending.model, return_report=True)
        mending.did(f"folded {len(folded.changed)} of {len(folded.outcomes)}", bool(folded))
    found = examine(adapter, mending.model, data, sized.notes) if mending.changed else diagnosis
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


class _Mending:
    """Carries out what a diagnosis suggests, in the order in which it makes sense."""

    def __init__(
        self,
        model: Any,
        data: list[Batch],
        before: CheckReport,
        min_count: int,
        verbose: int | str,
    ) -> None:
        self.model, self.data = model, data
        self._checked: CheckReport | None = before  # None where something was changed since
        self.min_count, self.verbose = min_count, verbose
        self.story: list[str] = []
        self.changed = False
        self.statistics: RecalibrationReport | None = None
        self._off: dict[str, None] | None = {}  # paths to recalibrate; None for all
        self._why: Symptom | Finding | None = (
            None  # the first for which statistics are re-estimated
        )

    def did(self, sentence: str, changed: bool = True) -> None:
        self.story.append(sentence)
        if changed:
            self.changed, self._checked = True, None

    def check(self) -> CheckReport:
        """The check of the model as it is now."""
        if self._checked is None:
            self._checked = check(self.model, first_rows(self.data, _CHECKED_ROWS))
        return self._checked

    def mend(self, found: Symptom | Finding) -> None:
        """Do what mends `found`; statistics wait until everything else is done."""
        remedy = found.remedy
        if remedy is not None and remedy.verb in self._deeds and not remedy.optional:
            self._deeds[remedy.verb](found, remedy)

    @property
    def _deeds(self) -> dict[Verb, Callable[[Any, Remedy], None]]:
        return {
            Verb.STRIP_TRAINING: self._strip,
            Verb.STRIP_AUGMENTATION: self._strip_augmentation,
            Verb.FREEZE: self._freeze,
            Verb.EXCHANGE: self._exchange,
            Verb.RECALIBRATE: self._note_statistics,
            Verb.MAKE_PREDICT: self._compile_predict,
        }

    def mend_what_is_left(self) -> None:
        """What shows in the answers: the graph does not show all calls, and one hides another."""
        for remedy, found in _together(self.check().faults).items():
            if remedy.verb is not Verb.RECALIBRATE:
                self.mend(replace(found, remedy=remedy))

    def _strip(self, found: Symptom | Finding, remedy: Remedy) -> None:
        calls = _over_batch_norms(self.model)
        if not calls:
            return
        try:
            self.model, report = strip_training(self.model, layers=calls, return_report=True)
        except (UnsupportedModelError, VerificationError) as refusal:
            self._freeze(found, Remedy(Verb.FREEZE, _paths(found)), str(refusal))
            return
        first = report.changed[0].path
        self.did(
            f"stripped training=True from {len(report.changed)} calls, the first at {first}: they "
            "normalized by the batch at hand" + (", others stay" if remedy.paths else "")
        )
        # What predict and call have left in them is of no batch in particular.
        self._off = None

    def _strip_augmentation(self, found: Symptom | Finding, remedy: Remedy) -> None:
        self.model, report = strip_augmentation(self.model, return_report=True)
        first = report.changed[0].path
        self.did(
            f"wrote training=False into {len(report.changed)} calls, the first at {first}: "
            f"{found.detail}"
        )

    def _freeze(self, found: Symptom | Finding, remedy: Remedy, why: str = "") -> None:
        norms = dict(adapter_of(self.model).batch_norms(self.model))
        paths = [path for path in remedy.paths or () if path in norms]
        ends = [path for path in paths if norms[path].trainable]
        self.model = freeze(self.model, layers=paths)
        said = f"froze {_counted(paths)}: {found.detail}"
        if ends:
            said += ". Nothing else mends that" + (f" ({why})" if why else "")
            said += f"; it ends the training of {_counted(ends)}, gamma and beta included"
        self.did(said)

    def _exchange(self, found: Symptom | Finding, remedy: Remedy) -> None:
        """In place, weights that stand in each other's."""
        layers = dict(adapter_of(self.model).batch_norms(self.model))
        for path in remedy.paths or ():
            for ours, theirs in remedy.exchanged:
                weights.exchange(layers[path], ours, theirs)
        what = ", ".join(" with ".join(pair) for pair in remedy.exchanged)
        self.did(f"exchanged {what} in {', '.join(remedy.paths or ())}: {found.detail}")

    def _compile_predict(self, found: Symptom | Finding, remedy: Remedy) -> None:
        self.model.make_predict_function(force=True)
        self.did(f"had predict compiled again: {found.detail}")

    def _note_statistics(self, found: Symptom | Finding, remedy: Remedy) -> None:
        every = remedy.paths is None or self._off is None
        self._off = None if every else {**(self._off or {}), **dict.fromkeys(remedy.paths or ())}
        self._why = self._why or found

    def recalibrate(self) -> None:
        if self._off is not None and not self._off:
            return
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
        reason = f": {self._why.cause}, {self._why.detail}" if self._why else ""
        outcome = "" if report.kept else f"; put the old statistics back: {report.verdict}"
        self.did(
            f"recalibrated {len(report.layers)} BatchNormalizations on {report.batches} "
            f"batches{reason}{outcome}",
            report.kept,
        )


def _together(faults: tuple[Finding, ...]) -> dict[Remedy, Finding]:
    """Each remedy once, those of one verb for certain layers put together, with its first cause."""
    found: dict[Verb, tuple[Remedy, Finding]] = {}
    for fault in faults:
        remedy = fault.remedy
        if remedy is None or remedy.optional:
            continue
        before = found.get(remedy.verb, (remedy, fault))
        paths = dict.fromkeys([*(before[0].paths or ()), *(remedy.paths or ())])
        joined = replace(remedy, paths=tuple(paths) if remedy.paths is not None else None)
        found[remedy.verb] = joined, before[1]
    return dict(found.values())


def _paths(found: Symptom | Finding) -> tuple[str, ...]:
    if isinstance(found, Symptom):
        return found.paths
    return () if found.path is None else (found.path,)


def _counted(paths: Sequence[str]) -> str:
    if len(paths) == 1:
        return paths[0]
    return f"{len(paths)} BatchNormalizations, the first {paths[0]}" if paths else "nothing"


def _over_batch_norms(model: Any) -> list[str]:
    reading = readable(adapter_of(model), model)
    return [] if reading is None else baked_over_batch_norm(reading)


def _found(diagnosis: DiagnosisReport) -> str:
    if not diagnosis.batch_norms:
        return "the model has no BatchNormalization"
    return "no call mends what was found" if not diagnosis.ok else "no fault was found"
