"""What a diagnosis found, ranked, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bnfix.diagnosis.cause import Cause
from bnfix.diagnosis.data_facts import Losses
from bnfix.remedy import Mendable, Remedy
from bnfix.rendering.charts import Bars, Mood, Panel
from bnfix.rendering.story import Column, Remark, Story, Table, in_sigma, notes
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

    def story(self) -> Story:
        told = [line for symptom in self.symptoms for line in _shown(symptom)]
        losses = (Remark(str(self.losses)),) if self.losses else ()
        parts = (
            Table.of("symptoms", self.symptoms, _SYMPTOMS, told),
            Table.of("layers", self.layers, _LAYERS),
            *losses,
            *notes(self.notes),
        )
        worst = min(
            (_MOODS[symptom.severity] for symptom in self.symptoms),
            default=Mood.GOOD,
            key=list(_MOODS.values()).index,
        )
        return Story(self._verdict(), parts, Mood.GOOD if self.ok else worst, tuple(self._charts()))

    def _charts(self) -> Iterator[Bars]:
        ill = {path for s in self.symptoms if s.severity != "note" for path in s.paths}
        if self.layers:
            yield Bars(
                "How far the stored statistics are from those of the data",
                tuple(layer.path for layer in self.layers),
                (
                    Panel("off by, in sigma", tuple(layer.distance for layer in self.layers)),
                    Panel(
                        "share of the initial 0 and 1 left",
                        tuple(layer.initial for layer in self.layers),
                        form=".1%",
                    ),
                ),
                tuple(Mood.BAD if one.path in ill else Mood.ACCENT for one in self.layers),
            )
        if self.losses:
            values = self.losses.stored, self.losses.of_data
            panel = Panel("mean over rows", values, form=".4g")
            labels = ("with the statistics stored", "with those of the data")
            yield Bars("Loss", labels, (panel,))
        if not (self.layers or self.losses):
            number = tuple(float(len(symptom.paths) or 1) for symptom in self.symptoms)
            yield Bars(
                "What was found, without data",
                tuple(f"{s.severity}: {s.cause}" for s in self.symptoms),
                (Panel("layers", number, form=".0f"),),
                tuple(_MOODS[symptom.severity] for symptom in self.symptoms),
                empty="nothing was found, and nothing measured, for there were no data",
            )

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
    where = _listed(symptom.paths)
    lines = [f"{symptom.severity}: {symptom.cause} in {where}", f"  {symptom.detail}"]
    return [*lines, f"  fix: {symptom.fix}"] if symptom.fix else lines


def _listed(paths: tuple[str, ...]) -> str:
    left = len(paths) - _LISTED
    more = f" and {left} more" if left > 0 else ""
    return (", ".join(paths[:_LISTED]) or "the model") + more


_MOODS = {"fault": Mood.BAD, "warning": Mood.WARNING, "note": Mood.PLAIN}

_SYMPTOMS: tuple[Column[Symptom], ...] = (
    Column("severity", lambda s: s.severity, mood=lambda s: _MOODS[s.severity]),
    Column("cause", lambda s: str(s.cause), mood=lambda s: _MOODS[s.severity]),
    Column("paths", lambda s: s.paths, "layers", lambda paths: _listed(paths)),
    Column("detail", lambda s: s.detail, "what was seen"),
    Column("fix", lambda s: s.fix, "what to do"),
)


def _or_dash(form: str) -> Callable[[float | None], str]:
    return lambda value: "-" if value is None else format(value, form)


_LAYERS: tuple[Column[LayerDistance], ...] = (
    Column("path", lambda layer: layer.path, "layer"),
    Column("count", lambda layer: layer.count, "values", "{:,}".format, right=True, least=9),
    Column(
        "distance",
        lambda layer: layer.distance,
        "off by",
        in_sigma,
        right=True,
        least=11,
    ),
    Column("initial", lambda layer: layer.initial, "initial 0/1 left", _or_dash(".1%"), right=True),
    Column("updates", lambda layer: layer.updates, show=_or_dash(".0f"), right=True),
)
