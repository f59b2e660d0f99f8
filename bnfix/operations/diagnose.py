"""Every BatchNormalization of a model examined: what is wrong, why, and which call mends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bnfix.adapters import state
from bnfix.adapters.reading import readable
from bnfix.adapters.subject import Subject
from bnfix.data.batches import EMPTY, Batch, batches
from bnfix.data.sizes import InBatchesOf
from bnfix.diagnosis.cause import Cause
from bnfix.diagnosis.data_facts import DataFacts
from bnfix.diagnosis.diagnosis_report import SEVERITIES, DiagnosisReport, Symptom
from bnfix.diagnosis.measured import (
    before_spreading,
    behind_what_stays,
    distances,
    measured_symptoms,
    relieved,
)
from bnfix.diagnosis.model_facts import ModelFacts, facts_of
from bnfix.diagnosis.static import merged, static_symptoms
from bnfix.diagnosis.updates import by_momentum
from bnfix.errors import BnfixError, DataError, UnsupportedModelError, WorkerError, gist
from bnfix.operations.population import data_facts_of, statistics_of
from bnfix.passes import fold as fold_pass
from bnfix.progress import counted
from bnfix.recalibration.meeting import Meeting
from bnfix.recalibration.together import on_every_worker
from bnfix.restoring import all_or_nothing

__all__ = ["DiagnosisReport", "Symptom", "diagnose", "examine"]


@all_or_nothing(state.settings)
def diagnose(
    model: Any,
    ds: Any = None,
    *,
    batch_size: int = 32,
    steps: int | None = None,
    verbose: int | str = "auto",
) -> DiagnosisReport:
    """What is wrong with each BatchNormalization, why, and the one call that mends it, if one does.

    Without data: `training=` baked into calls, flags that compiled code does not know of,
    statistics that were never updated, are not finite, negative, zero or all alike, a foreign
    channel axis, momentum too slow for the steps trained, statistics of renormalization out of
    step. With data: how far the stored statistics are from the actual ones, whether too few updates
    explain that or other data, exchanged weights, deviations stored for variances, another layer's
    statistics, layers shared over different inputs. With labels and a compiled loss: whether
    recalibrating would help or harm.

    Args:
        model: Built Keras 3 or tf_keras model of any kind. Not changed.
        ds: None, or what `fit` takes; read once and kept in memory. Preprocess it as for training.
        batch_size: For arrays.
        steps: Number of batches to take.
        verbose: "auto" shows progress on terminals and in notebooks; 0 never, 1 always.

    Returns:
        The report, worst first. Notes alone leave it `ok`.

    Raises:
        UnsupportedModelError: `model` is not a Keras model, or not built.
        DataError: `ds` is empty, endless, not finite, or does not fit the model.

    Examples:
        >>> report = bnfix.diagnose(model, (x, y), verbose=0)
        >>> print(report.symptoms[0].cause, report.symptoms[0].path)
        unconverged bn
    """
    subject = Subject.of(model)
    if ds is None:
        return examine(subject, None, verbose=verbose)

    def examined(own: Subject, stream: Iterator[Batch], meeting: Meeting) -> DiagnosisReport:
        sized = InBatchesOf(subject.adapter.batch_size(model), stream)
        data = list(counted(sized, "reading data", verbose))
        return examine(own, data, sized.notes, verbose=verbose, meeting=meeting)

    workers = subject.adapter.workers(model, None)

    def read() -> Iterator[Batch]:
        return batches(workers.own_part(ds), batch_size=batch_size, steps=steps)

    if workers.size == 1:
        return examined(subject, read(), Meeting())
    return on_every_worker(subject, workers, read, examined, {"call": "diagnose"})


def examine(
    subject: Subject,
    data: list[Batch] | None,
    left: tuple[str, ...] = (),
    *,
    verbose: int | str = 0,
    meeting: Meeting | None = None,
) -> DiagnosisReport:
    """As `diagnose`, on batches that have been read, with notes on what was left out of them."""
    adapter, model = subject
    if not model.built:
        raise UnsupportedModelError(
            f"diagnose needs a built model; {model.name} ({type(model).__name__}) has never seen "
            "an input shape. Call it once on a batch, or give it an Input."
        )
    meeting = meeting or Meeting()
    if data is not None and not data and meeting.size == 1:
        raise DataError(EMPTY)
    facts = facts_of(subject)
    of_data, notes = _data_facts(subject, facts, data, verbose, meeting)
    known = static_symptoms(facts)
    stay, more = _stays(subject)
    found = [*known, *stay]
    if of_data is not None:
        spoilt = {p for s in known if s.severity == "fault" for p in s.paths if s.cause.spoils}
        clear = before_spreading([norm.path for norm in facts.norms], known)
        norms = tuple(n for n in facts.norms if n.path not in spoilt and n.path in clear)
        sound = replace(facts, norms=norms)
        known = [relieved(symptom, of_data.losses) for symptom in found]
        found = _settled(known, measured_symptoms(sound, of_data))
    found = merged([by_momentum(symptom, facts) for symptom in found])
    return DiagnosisReport(
        symptoms=tuple(sorted(found, key=_order)),
        layers=distances(facts, of_data) if of_data else (),
        losses=of_data.losses if of_data else None,
        batch_norms=len(facts.norms),
        notes=(*left, *notes, *more, *adapter.out_of_reach(model)),
    )


def _data_facts(
    subject: Subject,
    facts: ModelFacts,
    data: list[Batch] | None,
    verbose: int | str,
    meeting: Meeting,
) -> tuple[DataFacts | None, tuple[str, ...]]:
    """What the data tell, and why not, where they do not."""
    adapter, model = subject
    if data is None or not facts.norms:
        return None, ()
    try:
        measured = statistics_of(subject, data, verbose, meeting)
    except (DataError, WorkerError):
        raise
    except BnfixError as refusal:
        if meeting.size > 1:  # the others wait where this one would have gone on
            raise
        return None, (f"stored statistics were not compared with those of the data: {refusal}",)
    of_data = data_facts_of(subject, facts, measured.layers, data, verbose, meeting)
    if moving := behind_what_stays(facts, of_data):
        again = statistics_of(subject, data, verbose, meeting, moving)
        of_data = of_data.but_for((row.path, row.mean, row.variance) for row in again.layers)
    has_labels = all(batch.y is not None for batch in data)
    why = None
    if has_labels and not adapter.is_compiled(model):
        why = "is not compiled, so it has no loss"
    elif of_data.unused is not None:
        why = f"gives no loss ({of_data.unused})"
    if why is None:
        return of_data, measured.notes
    note = (
        f"the labels were not used: {model.name} {why}. Compile it with one that takes them, or "
        "pass them as fit takes them, one-hot or integers, to have both compared"
    )
    return of_data, (*measured.notes, note)


def _settled(known: list[Symptom], measured: list[Symptom]) -> list[Symptom]:
    """Both together, without what data have decided in another way."""
    decided: dict[str, set[str]] = {}
    for symptom in measured:
        decided.setdefault(symptom.cause, set()).update(symptom.paths)
    kept: list[Symptom] = []
    for symptom in known:
        gone = {path for cause in symptom.cause.decided_by for path in decided.get(cause, ())}
        paths = tuple(path for path in symptom.paths if path not in gone)
        if paths and symptom.cause is not Cause.UNCONVERGED:  # which data always decide
            kept.append(replace(symptom, paths=paths))
    return merged([*kept, *measured])


def _stays(subject: Subject) -> tuple[list[Symptom], tuple[str, ...]]:
    """BatchNormalizations that `fold` would leave, and why; and why not, where that is unknown."""
    try:
        reading = readable(subject)
        if reading is None:
            return [], ()
        _, report = fold_pass.plan(reading)
    except Exception as error:  # these are notes: a bug in them must not hide faults
        return [], (f"what fold would leave could not be found out: {gist(error)}",)
    stay = [
        Symptom((outcome.path,), Cause.STAYS_UNFOLDED, "note", outcome.detail)
        for outcome in report.declined
    ]
    return stay, ()


def _order(symptom: Symptom) -> tuple[int, int]:
    return SEVERITIES.index(symptom.severity), symptom.cause.rank
