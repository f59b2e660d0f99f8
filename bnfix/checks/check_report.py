"""What a check measured and what it found, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from bnfix.checks.cause import Cause
from bnfix.remedy import Mendable, Remedy
from bnfix.report import Rendered, VerbReport

#: Findings of one cause that are listed before the rest is counted.
_LISTED = 3


@dataclass(frozen=True)
class Gap(Rendered):
    """Largest difference between two sets of outputs, and what rounding explains of it.

    Attributes:
        difference: In units of the outputs.
        tolerance: What rounding explains, in the same.
    """

    difference: float
    tolerance: float

    @property
    def ratio(self) -> float:
        return self.difference / self.tolerance

    @property
    def is_real(self) -> bool:
        """Whether it is more than rounding."""
        return not self.difference <= self.tolerance  # NaN is a gap too


def worst(gaps: Iterable[Gap]) -> Gap:
    """The gap that is largest in units of what rounding explains."""
    return max(gaps, key=lambda found: found.ratio, default=Gap(0.0, 0.0))


@dataclass(frozen=True)
class Measurement(Rendered):
    """One way of calling the model.

    Attributes:
        entry_point: "predict", "call", "tf.function" or "export".
        alone: Row 0 as a batch of its own, or in another shorter batch where that moves it more,
            against row 0 among all; None for a fixed batch size, and where another entry point was
            enough.
        coupling: Row 0 with its neighbours replaced, at the same batch size; the last row, where
            that moves more.
        at_last_row: Whether it does.
        repeat: The same call twice, weights and recurrent states put back in between; where
            nothing is wrong, of the row whose neighbours were replaced meanwhile.
        noise: What is left of that when seeds are put back too.
        against_predict: All rows against what `predict` gives.
        changed: Paths of the layers whose weights the call changed.
        carried: Paths of the recurrent layers whose state the call leaves for the next one.
        finite: Whether all outputs are.
        goes_on: Whether a second call gives something else because the first changed a weight.
        moved: Names of the outputs that other rows move, where the model has several.
    """

    entry_point: str
    alone: Gap | None
    coupling: Gap
    repeat: Gap
    against_predict: Gap
    changed: tuple[str, ...]
    carried: tuple[str, ...]
    finite: bool
    at_last_row: bool = False
    noise: float = 0.0
    goes_on: bool = False
    moved: tuple[str, ...] = ()

    @property
    def is_coupled(self) -> bool:
        """Whether the rows of a batch move each other, by more than rounding or noise explain."""
        return self.coupling.is_real and not self.coupling.difference <= self.noise

    @property
    def is_suspicious(self) -> bool:
        """Whether it is worth looking for a layer to blame.

        At equal shapes calm models agree bit for bit, so the least difference is reason enough.
        """
        gaps = (self.repeat, *([self.alone] if self.alone else []))
        return (
            not self.coupling.difference <= self.noise
            or any(found.is_real for found in gaps)
            or bool(self.changed or self.carried)
            or not self.finite
        )

    @property
    def tells(self) -> bool:
        """Whether anything is seen here, in one layer or between ways of calling."""
        return self.is_suspicious or self.against_predict.is_real


@dataclass(frozen=True)
class Finding(Mendable):
    """One cause in one layer.

    Attributes:
        path: Full path of the layer; None where no layer is to blame.
        cause: A `Cause`, which is its name too: "batch_statistics", "randomness", ...
        entry_point: Where it shows, several joined by commas.
        detail: What was seen.
        remedy: The one call that mends it, or None.
        advice: What to do where no call does; beside a remedy, what to know about it.
        severity: "fault" or "note"; notes leave a model ok.
        outputs: Names of the outputs in which it shows, where the model has several.
    """

    path: str | None
    cause: Cause
    entry_point: str
    detail: str
    remedy: Remedy | None = None
    advice: str = ""
    severity: str = "fault"
    outputs: tuple[str, ...] = ()

    def as_note(self) -> Finding:
        """The same where it does no harm."""
        return replace(self, severity="note")


@dataclass(frozen=True)
class CheckReport(VerbReport):
    """Whether a model is batch-invariant; true if it is.

    Attributes:
        ok: No finding but notes: `predict` is right, and so is what is called as it is meant to be.
        max_difference: Largest difference of row 0 as a batch of its own against row 0 among
            others.
        coupling: Largest difference of row 0, or of the last row, when its neighbours are replaced
            at the same batch size.
        tolerance: What rounding explains of the difference that is largest in units of it.
        findings: One per layer and cause: first the layers that make rows depend on each other, in
            the order in which they run; notes last.
        consequences: What was seen as well, and goes when the findings are mended.
        measurements: One per entry point.
        rows: Batch size of the check.
        notes: What could not be checked.
    """

    ok: bool
    max_difference: float
    coupling: float
    tolerance: float
    findings: tuple[Finding, ...]
    measurements: tuple[Measurement, ...]
    rows: int
    notes: tuple[str, ...] = ()
    consequences: tuple[Finding, ...] = ()

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that are no notes."""
        return tuple(finding for finding in self.findings if finding.severity != "note")

    @property
    def culprit(self) -> str | None:
        """Path of the first finding's layer."""
        return self.findings[0].path if self.findings else None

    def __str__(self) -> str:
        verdict = "check: NOT ok, " + _headline(self.findings[0]) if not self.ok else self._calm
        titles = (f"{title:>9}" for title in ("alone", "coupling", "twice", "tolerance"))
        head = f"  {'entry point':<12} {' '.join(titles)}  weights"
        rows = [_row(measurement) for measurement in self.measurements]
        found = [line for cause in _grouped(self.findings) for line in _shown(cause)]
        more = [line for cause in _grouped(self.consequences) for line in _followed(cause)]
        notes = [f"  note: {note}" for note in self.notes]
        return "\n".join([verdict, head, *rows, *found, *more, *notes])

    @property
    def _calm(self) -> str:
        if self.rows == 1:
            return "check: ok, as far as can be told from one row at a time"
        told = [finding for finding in self.findings if finding.cause.is_fault]
        if told:
            where = told[0].entry_point
            return f"check: ok in predict; in {where} {_headline(told[0])}"
        return f"check: ok, row 0 does not depend on its {self.rows - 1} neighbours"


def _headline(finding: Finding) -> str:
    return f"{finding.cause} in {finding.path}" if finding.path else finding.cause


def _row(measurement: Measurement) -> str:
    m = measurement
    alone = "-" if m.alone is None else f"{m.alone.difference:.2g}"
    number = len(m.changed)
    changed = f"{number} layer{'s' * (number > 1)} changed" if m.changed else "unchanged"
    return (
        f"  {m.entry_point:<12} {alone:>9} {m.coupling.difference:>9.2g} "
        f"{m.repeat.difference:>9.2g} "
        f"{m.coupling.tolerance:>9.2g}  {changed}"
    )


def _grouped(findings: tuple[Finding, ...]) -> list[list[Finding]]:
    causes = dict.fromkeys((finding.cause, finding.entry_point) for finding in findings)
    return [[f for f in findings if (f.cause, f.entry_point) == cause] for cause in causes]


def _shown(findings: list[Finding]) -> list[str]:
    first = findings[0]
    fix = [f"    fix: {first.fix}"] if first.fix else []
    return [f"  {_titled(findings)}", f"    {first.detail}", *fix]


def _followed(findings: list[Finding]) -> list[str]:
    return [f"  follows from that: {_titled(findings)}", f"    {findings[0].detail}"]


def _titled(findings: list[Finding]) -> str:
    first = findings[0]
    paths = [finding.path or "the model" for finding in findings]
    where = ", ".join(paths[:_LISTED])
    more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
    seen = f", outputs {', '.join(first.outputs)}" if first.outputs else ""
    return f"{first.cause} ({first.entry_point}{seen}): {where}{more}"
