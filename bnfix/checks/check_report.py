"""What a check measured and what it found, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bnfix.checks.cause import Cause
from bnfix.checks.measurement import LayerGap, Measurement, entry_points, measurement_table
from bnfix.remedy import Mendable, Remedy
from bnfix.rendering.charts import Bars, Mood, Panel
from bnfix.rendering.story import Column, Story, Table, notes
from bnfix.report import VerbReport

#: Findings of one cause that are listed before the rest is counted.
_LISTED = 3


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
        max_difference: Largest difference of row 0 as a batch of its own, or in a shorter one,
            against row 0 among others.
        coupling: Largest difference of row 0, or of the last row, when its neighbours are replaced
            at the same batch size.
        tolerance: What rounding explains of the difference that is largest in units of it.
        findings: One per layer and cause: a stale `predict` first, then the layers that make rows
            depend on each other, in the order in which they run; notes last.
        consequences: What was seen as well, and goes when the findings are mended.
        layers: How far row 0 is moved within the model, in the order in which the layers run; empty
            where no measurement gave reason to look.
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
    layers: tuple[LayerGap, ...] = ()

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that are no notes."""
        return tuple(finding for finding in self.findings if finding.severity != "note")

    @property
    def culprit(self) -> str | None:
        """Path of the first finding's layer."""
        return self.findings[0].path if self.findings else None

    def story(self) -> Story:
        head = self._calm if self.ok else "check: NOT ok, " + _headline(self.findings[0])
        found = [line for cause in _grouped(self.findings) for line in _shown(cause)]
        more = [line for cause in _grouped(self.consequences) for line in _followed(cause)]
        parts = (
            measurement_table(self.measurements),
            Table.of("findings", self.findings, _FINDINGS, found),
            Table.of(
                "consequences",
                self.consequences,
                _FINDINGS[:-1],
                more,
                title="what follows from that",
            ),
            *notes(self.notes),
        )
        charts = (*([self._map()] if self.layers else []), entry_points(self.measurements))
        return Story(head, parts, Mood.GOOD if self.ok else Mood.BAD, charts)

    def _map(self) -> Bars:
        """Layer by layer, how far row 0 is moved by its neighbours; the layers to blame marked."""
        blamed = {finding.path for finding in self.faults}
        return Bars(
            "How far its neighbours move row 0, layer by layer in the order in which they run",
            tuple(layer.path for layer in self.layers),
            (
                Panel(
                    "largest difference / what rounding explains",
                    tuple(layer.gap.ratio for layer in self.layers),
                    log=True,
                    limit=1.0,
                    limit_title="rounding",
                ),
            ),
            tuple(
                Mood.BAD
                if one.path == self.culprit
                else Mood.WARNING
                if one.path in blamed
                else Mood.PLAIN
                for one in self.layers
            ),
        )

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


_GRADES = {"fault": Mood.BAD, "note": Mood.PLAIN}

_FINDINGS: tuple[Column[Finding], ...] = (
    Column("severity", lambda f: f.severity, mood=lambda f: _GRADES[f.severity]),
    Column("cause", lambda f: str(f.cause), mood=lambda f: _GRADES[f.severity]),
    Column("path", lambda f: f.path, "layer", lambda path: path or "the model"),
    Column("entry_point", lambda f: f.entry_point, "seen in"),
    Column("outputs", lambda f: f.outputs, told=False),
    Column("detail", lambda f: f.detail, "what was seen"),
    Column("fix", lambda f: f.fix, "what to do"),
)


def _grouped(findings: tuple[Finding, ...]) -> list[list[Finding]]:
    causes = dict.fromkeys((finding.cause, finding.entry_point) for finding in findings)
    return [[f for f in findings if (f.cause, f.entry_point) == cause] for cause in causes]


def _shown(findings: list[Finding]) -> list[str]:
    fix = _of_all(findings).fix
    return [_titled(findings), f"  {findings[0].detail}", *([f"  fix: {fix}"] if fix else [])]


def _of_all(findings: list[Finding]) -> Finding:
    """The first, with a remedy for the layers of all where each has the same for its own."""
    first, remedies = findings[0], [f.remedy for f in findings if f.remedy and f.remedy.paths]
    if first.remedy is None or len(remedies) < len(findings):
        return first
    if any(remedy.verb is not first.remedy.verb for remedy in remedies):
        return first
    paths = dict.fromkeys(path for remedy in remedies for path in remedy.paths or ())
    return replace(first, remedy=replace(first.remedy, paths=tuple(paths)))


def _followed(findings: list[Finding]) -> list[str]:
    return [f"follows from that: {_titled(findings)}", f"  {findings[0].detail}"]


def _titled(findings: list[Finding]) -> str:
    first = findings[0]
    paths = [finding.path or "the model" for finding in findings]
    where = ", ".join(paths[:_LISTED])
    more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
    seen = f", outputs {', '.join(first.outputs)}" if first.outputs else ""
    return f"{first.cause} ({first.entry_point}{seen}): {where}{more}"
