"""What a diagnosis found, ranked, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass

from bnfix.diagnosis.cause import Cause
from bnfix.diagnosis.data_facts import Losses
from bnfix.remedy import Mendable, Remedy
from bnfix.report import Rendered, VerbReport

#: In order of rank: predictions are wrong; they may be, or will be after the next `fit`; worth
#: knowing.
SEVERITIES = ("fault", "warning", "note")

_LISTED = 3


@dataclass(frozen=True)
class Symptom(Mendable):
    """One cause, in one or several layers.

    Attributes:
        paths: Full paths of the layers, in the model's order; empty where it is about the model.
        cause: A `Cause`, which is its name too: "baked_training", "unconverged", "shifted", ...
        severity: "fault", "warning" or "note"; notes leave a model ok.
        detail: What was seen, in numbers.
        remedy: The one call that mends it, or None.
        advice: What to do where no call does; beside a remedy, what to know about it.
    """

    paths: tuple[str, ...]
    cause: Cause
    severity: str
    detail: str
    remedy: Remedy | None = None
    advice: str = ""

    @property
    def path(self) -> str | None:
        """Of the first layer."""
        return self.paths[0] if self.paths else None


@dataclass(frozen=True)
class LayerDistance(Rendered):
    """How far the stored statistics of one layer are from those of the data.

    Attributes:
        path: Full path of the layer.
        count: Values per channel that the data gave.
        distance: Root mean square over channels, in sigma.
        initial: Fraction of the initial 0 and 1 that explains it; None if that does not.
        updates: Training steps that leave this fraction; None if the momentum does not tell.
    """

    path: str
    count: int
    distance: float
    initial: float | None
    updates: float | None


@dataclass(frozen=True)
class DiagnosisReport(VerbReport):
    """Everything found about a model's BatchNormalizations; true if nothing needs mending.

    Attributes:
        symptoms: Worst first.
        layers: Stored against actual statistics, one per layer; empty without data.
        losses: In inference mode, before and after; None without labels or compiled loss.
        batch_norms: How many BatchNormalizations the model has.
        notes: What could not be found out, and why.
    """

    symptoms: tuple[Symptom, ...]
    layers: tuple[LayerDistance, ...]
    losses: Losses | None
    batch_norms: int
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return all(symptom.severity == "note" for symptom in self.symptoms)

    def __str__(self) -> str:
        found = [line for symptom in self.symptoms for line in _shown(symptom)]
        notes = [f"  note: {note}" for note in self.notes]
        losses = [f"  {self.losses}"] if self.losses else []
        return "\n".join([self._verdict(), *found, *_table(self.layers), *losses, *notes])

    def _verdict(self) -> str:
        number = self.batch_norms
        of = f"{number} BatchNormalization{'s' * (number != 1)}"
        if self.ok:
            return f"diagnose: nothing wrong with {of}"
        faults = sum(symptom.severity == "fault" for symptom in self.symptoms)
        warnings = sum(symptom.severity == "warning" for symptom in self.symptoms)
        return f"diagnose: {_count(faults, 'fault')}, {_count(warnings, 'warning')} in {of}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _shown(symptom: Symptom) -> list[str]:
    where = ", ".join(symptom.paths[:_LISTED]) or "the model"
    left = len(symptom.paths) - _LISTED
    more = f" and {left} more" if left > 0 else ""
    lines = [f"  {symptom.severity}: {symptom.cause} in {where}{more}", f"    {symptom.detail}"]
    return [*lines, f"    fix: {symptom.fix}"] if symptom.fix else lines


def _table(layers: tuple[LayerDistance, ...]) -> list[str]:
    if not layers:
        return []
    width = max(len(layer.path) for layer in layers)
    head = f"  {'layer':<{width}}  {'values':>9}  {'off by':>11}  {'initial 0/1 left':>16}  updates"
    rows = [
        f"  {layer.path:<{width}}  {layer.count:>9,}  {layer.distance:>5.2f} sigma  "
        f"{'-' if layer.initial is None else f'{layer.initial:.1%}':>16}  {_updates(layer)}"
        for layer in layers
    ]
    return [head, *rows]


def _updates(layer: LayerDistance) -> str:
    return "-" if layer.updates is None else f"{layer.updates:>7.0f}"
