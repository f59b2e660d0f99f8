"""What a repair did, and what came of it: judged by what is found afterwards, as before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bnfix.checks.check import CheckReport
from bnfix.diagnosis.diagnosis_report import DiagnosisReport, Symptom
from bnfix.outcomes import Report
from bnfix.recalibration.statistics import RecalibrationReport
from bnfix.rendering.charts import Mood
from bnfix.rendering.story import Part, Remark, Section, Story, notes
from bnfix.report import VerbReport, Word


class RepairOutcome(Word):
    """What came of a repair."""

    NOTHING_TO_DO = "nothing to do"
    REPAIRED = "repaired"
    PARTLY = "partly repaired"
    NOT = "NOT repaired"


@dataclass(frozen=True)
class RepairReport(VerbReport):
    """The story of a repair; true if nothing is left that needs mending.

    Attributes:
        steps: What was done and why, a sentence each, in order.
        before: The check of the model as given.
        after: The check of the model returned.
        recalibration: What was re-estimated, or None.
        fold: What was folded, or None if that was not asked for.
        diagnosis: What was found wrong; the steps follow it.
        found: What is found wrong with the model returned.
    """

    derived: ClassVar[tuple[str, ...]] = ("outcome", "left")

    steps: tuple[str, ...]
    before: CheckReport
    after: CheckReport
    recalibration: RecalibrationReport | None
    fold: Report | None
    diagnosis: DiagnosisReport
    found: DiagnosisReport

    @property
    def outcome(self) -> RepairOutcome:
        """By what was wrong before and is afterwards."""
        before, after = _wrong(self.before, self.diagnosis), _wrong(self.after, self.found)
        if not after:
            return RepairOutcome.REPAIRED if before else RepairOutcome.NOTHING_TO_DO
        return RepairOutcome.PARTLY if before - after else RepairOutcome.NOT

    @property
    def left(self) -> tuple[str, ...]:
        """What is wrong with the model returned, a sentence each."""
        return tuple(_left(self.after, self.found))

    @property
    def ok(self) -> bool:
        return self.outcome in (RepairOutcome.NOTHING_TO_DO, RepairOutcome.REPAIRED)

    def story(self) -> Story:
        steps = [Remark(f"{number}. {step}") for number, step in enumerate(self.steps, 1)]
        left = [Remark(f"left: {sentence}", Mood.BAD) for sentence in self.left]
        parts: list[Part] = [*steps, *left, *notes(self.diagnosis.notes)]
        parts += [Section("before", self.before.story()), Section("after", self.after.story())]
        told = (self.diagnosis, self.recalibration, self.fold)
        parts += [Section("", one.story(), in_text=False) for one in told if one is not None]
        return Story(self._verdict(), tuple(parts), _MOODS[self.outcome])

    def _verdict(self) -> str:
        causes = dict.fromkeys(cause for cause, _ in sorted(_wrong(self.after, self.found)))
        left = f": {', '.join(causes)} left" if self.outcome is RepairOutcome.PARTLY else ""
        return f"repair: {self.outcome}{left}"


_MOODS = {
    RepairOutcome.NOTHING_TO_DO: Mood.GOOD,
    RepairOutcome.REPAIRED: Mood.GOOD,
    RepairOutcome.PARTLY: Mood.WARNING,
    RepairOutcome.NOT: Mood.BAD,
}


def needs_mending(diagnosis: DiagnosisReport) -> list[Symptom]:
    """All but notes."""
    return [symptom for symptom in diagnosis.symptoms if symptom.severity != "note"]


def listed(symptom: Symptom) -> str:
    more = f" and {len(symptom.paths) - 1} more" if len(symptom.paths) > 1 else ""
    return f"{symptom.path}{more}"


def _wrong(check: CheckReport, diagnosis: DiagnosisReport) -> set[tuple[str, str]]:
    """Cause and path of everything that is wrong."""
    seen: set[tuple[str, str]] = {(f.cause, f.path or "") for f in check.faults}
    return seen | {
        (symptom.cause, path)
        for symptom in needs_mending(diagnosis)
        for path in symptom.paths or ("",)
    }


def _left(check: CheckReport, diagnosis: DiagnosisReport) -> Iterator[str]:
    for symptom in needs_mending(diagnosis):
        yield f"{symptom.cause} in {listed(symptom)}: {symptom.detail}; {symptom.fix}"
    for finding in check.faults:
        where = finding.path or "the model"
        yield f"{finding.cause} in {where}: {finding.detail}; {finding.fix}"
