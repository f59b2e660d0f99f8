"""What a diagnosis suggests, carried out in the order in which it makes sense."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bnfix.adapters import weights
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.copied import copied, share_norms
from bnfix.adapters.reading import readable
from bnfix.adapters.subject import Subject
from bnfix.checks.check import CheckReport, Finding, check
from bnfix.data.batches import Batch, first_rows
from bnfix.diagnosis.diagnosis_report import Symptom
from bnfix.errors import UnsupportedModelError, VerificationError
from bnfix.graph.source import baked_over_batch_norm
from bnfix.operations.freeze import freeze
from bnfix.operations.strip_augmentation import strip_augmentation
from bnfix.operations.strip_training import strip_training
from bnfix.recalibration.recalibrate import recalibrate
from bnfix.recalibration.statistics import RecalibrationReport
from bnfix.remedy import Remedy, Verb
from bnfix.tree import map_leaves

#: What is done to calls, which have paths of their own, or to the model as a whole.
_OF_CALLS = (Verb.STRIP_TRAINING, Verb.STRIP_AUGMENTATION, Verb.MAKE_PREDICT)

#: Rows on which the model is checked; more would only cost time.
CHECKED_ROWS = 8


class Mending:
    """Carries out what a diagnosis suggests, in the order in which it makes sense."""

    def __init__(
        self,
        model: Any,
        data: list[Batch],
        before: CheckReport,
        options: Mapping[str, Any],
        chosen: set[str] | None,
        *,
        copy: bool,
    ) -> None:
        self.model, self.data = model, data
        self._labelled = all(batch.y is not None for batch in data)
        self.options, self.chosen = options, chosen
        self._given = model if copy else None  # what must stay as it is
        self._checked: CheckReport | None = before  # None where something was changed since
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
            rows = first_rows(self.data, CHECKED_ROWS)
            self._checked = check(self.model, rows, verbose=self.options["verbose"])
        return self._checked

    def mend(self, found: Symptom | Finding) -> None:
        """Do what mends `found`; statistics wait until everything else is done."""
        remedy = found.remedy
        if remedy is None or remedy.optional or remedy.verb not in self._deeds:
            return
        meant = self._meant(remedy)
        if meant is not None:
            self._deeds[remedy.verb](found, meant)

    def _meant(self, remedy: Remedy) -> Remedy | None:
        """The same for the layers that were chosen; None where it is for none of them."""
        if self.chosen is None or remedy.verb in _OF_CALLS:
            return remedy
        paths = tuple(
            path
            for path in (sorted(self.chosen) if remedy.paths is None else remedy.paths)
            if path in self.chosen
        )
        return replace(remedy, paths=paths) if paths else None

    def own(self) -> Any:
        """The model, one that may be changed in place."""
        subject, given = Subject.of(self.model), self._given
        # A model made anew may go on with layers of the one given.
        if self.model is given or (given and share_norms(subject, given)):
            x = map_leaves(subject.adapter.fed, self.data[0].x)
            made = copied(subject, "repair", x=x)
            self.model = made.model
            self.story += made.lost
        return self.model

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
        if self.chosen is not None:
            calls = [call for call in calls if any(_reaches(call, path) for path in self.chosen)]
        if not calls:
            return
        verbose = self.options["verbose"]
        try:
            self.model, report = strip_training(
                self.model, layers=calls, verbose=verbose, return_report=True
            )
        except (UnsupportedModelError, VerificationError) as refusal:
            self._freeze(found, Remedy(Verb.FREEZE, _paths(found)), str(refusal))
            return
        first = report.changed[0].path
        self.did(
            f"stripped training=True from {len(report.changed)} calls, the first at {first}: they "
            "normalized by the batch at hand" + (", others stay" if remedy.paths else "")
        )
        # What predict and call have left in them is of no batch in particular; in those that are
        # frozen they have left nothing, and what follows has learned with them as they are.
        if not self._labelled and self._off is not None:
            norms = adapter_of(self.model).batch_norms(self.model)
            moving = [path for path, layer in norms if layer.trainable]
            self._off |= dict.fromkeys(p for p in moving if self.chosen is None or p in self.chosen)
        else:
            self._off = None

    def _strip_augmentation(self, found: Symptom | Finding, remedy: Remedy) -> None:
        self.model, report = strip_augmentation(
            self.model, verbose=self.options["verbose"], return_report=True
        )
        first = report.changed[0].path
        self.did(
            f"wrote training=False into {len(report.changed)} calls, the first at {first}: "
            f"{found.detail}"
        )

    def _freeze(self, found: Symptom | Finding, remedy: Remedy, why: str = "") -> None:
        norms = dict(adapter_of(self.model).batch_norms(self.own()))
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
        layers = dict(adapter_of(self.model).batch_norms(self.own()))
        for path in remedy.paths or ():
            for ours, theirs in remedy.exchanged:
                weights.exchange(layers[path], ours, theirs)
        what = ", ".join(" with ".join(pair) for pair in remedy.exchanged)
        self.did(f"exchanged {what} in {', '.join(remedy.paths or ())}: {found.detail}")

    def _compile_predict(self, found: Symptom | Finding, remedy: Remedy) -> None:
        self.own().make_predict_function(force=True)
        self.did(f"had predict compiled again: {found.detail}")

    def _note_statistics(self, found: Symptom | Finding, remedy: Remedy) -> None:
        every = remedy.paths is None or self._off is None
        self._off = None if every else {**(self._off or {}), **dict.fromkeys(remedy.paths or ())}
        self._why = self._why or found

    def recalibrate(self) -> None:
        if self._off is not None and not self._off:
            return
        # Without labels the diagnosis has decided what may be replaced.
        options: dict[str, Any] = {**self.options}
        if not self._labelled:
            options["guard"] = False
        self.model, report = recalibrate(
            self.own(),
            ((batch.x, batch.y, batch.weight) for batch in self.data),
            layers=self.chosen if self._off is None else list(self._off),
            **options,
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


def _reaches(call: str, path: str) -> bool:
    """Whether the call at `call` is one of the layer at `path`, or of what holds it."""
    return f"{path}/".startswith(f"{call}/")


def _paths(found: Symptom | Finding) -> tuple[str, ...]:
    if isinstance(found, Symptom):
        return found.paths
    return () if found.path is None else (found.path,)


def _counted(paths: Sequence[str]) -> str:
    if len(paths) == 1:
        return paths[0]
    return f"{len(paths)} BatchNormalizations, the first {paths[0]}" if paths else "nothing"


def _over_batch_norms(model: Any) -> list[str]:
    reading = readable(Subject.of(model))
    return [] if reading is None else baked_over_batch_norm(reading)
