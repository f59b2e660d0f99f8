"""What is measured in a check, as plain data: by way of calling the model, and layer by layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bnfix.rendering.charts import Bars, Mood, Panel
from bnfix.rendering.story import Column, Table
from bnfix.report import Rendered

#: The entry point that is what `model.export` writes.
EXPORT = "export"


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
class LayerGap(Rendered):
    """Row 0 as it comes out of one layer, among its neighbours and among others.

    Attributes:
        path: Full path of the layer.
        gap: The difference, the largest of all its calls.
    """

    path: str
    gap: Gap


@dataclass(frozen=True)
class Measurement(Rendered):
    """One way of calling the model.

    Attributes:
        entry_point: "predict", "call", "export", "training", or what compiles: "tf.function",
            "jax.jit".
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


def measurement_table(seen: tuple[Measurement, ...]) -> Table:
    return Table.of("measurements", seen, _MEASUREMENTS)


def entry_points(seen: tuple[Measurement, ...]) -> Bars:
    """Every way of calling the model, and what moves row 0 there."""
    told = {
        "alone against among others": [_alone(m) for m in seen],
        "neighbours replaced": [m.coupling.difference for m in seen],
        "called twice": [m.repeat.difference for m in seen],
    }
    bad = [m.is_coupled or m.repeat.is_real or bool(m.alone and m.alone.is_real) for m in seen]
    limit = max((m.coupling.tolerance for m in seen), default=0.0) or None
    panels = tuple(
        Panel(title, tuple(values), log=True, limit=limit, limit_title="rounding")
        for title, values in told.items()
    )
    moods = tuple(Mood.BAD if one else Mood.GOOD for one in bad)
    labels = tuple(m.entry_point for m in seen)
    return Bars("Largest difference of row 0, by way of calling", labels, panels, moods)


def _alone(measurement: Measurement) -> float | None:
    return None if measurement.alone is None else measurement.alone.difference


def _weights(changed: tuple[str, ...]) -> str:
    number = len(changed)
    return f"{number} layer{'s' * (number > 1)} changed" if changed else "unchanged"


def _digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _bad(is_so: bool) -> Mood:
    return Mood.BAD if is_so else Mood.PLAIN


_MEASUREMENTS: tuple[Column[Measurement], ...] = (
    Column("entry_point", lambda m: m.entry_point, "entry point", least=12),
    Column(
        "alone",
        _alone,
        show=_digits,
        right=True,
        least=9,
        mood=lambda m: _bad(m.alone is not None and m.alone.is_real),
    ),
    Column(
        "coupling",
        lambda m: m.coupling.difference,
        show=_digits,
        right=True,
        least=9,
        mood=lambda m: _bad(m.is_coupled),
    ),
    Column(
        "twice",
        lambda m: m.repeat.difference,
        show=_digits,
        right=True,
        least=9,
        mood=lambda m: _bad(m.repeat.is_real),
    ),
    Column("tolerance", lambda m: m.coupling.tolerance, show=_digits, right=True),
    Column(
        "changed",
        lambda m: m.changed,
        "weights",
        _weights,
        mood=lambda m: _bad(bool(m.changed)),
    ),
    Column("against_predict", lambda m: m.against_predict.difference, told=False),
    Column("noise", lambda m: m.noise, told=False),
    Column("finite", lambda m: m.finite, told=False),
)
