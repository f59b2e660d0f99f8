"""What recalibration found, per layer, and how it is shown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bnfix.numerics.convergence import Convergence, convergence, distance
from bnfix.numerics.moments import Floats
from bnfix.numerics.units import other_unit, told
from bnfix.recalibration.verdict import Verdict
from bnfix.rendering.charts import Bars, Mood, Panel
from bnfix.rendering.story import Column, Remark, Story, Table, in_sigma, notes
from bnfix.report import Rendered, VerbReport

#: A channel of variance below this fraction of its squared mean is constant but for rounding.
_CONSTANT = float(np.finfo(np.float32).eps) ** 2


@dataclass(frozen=True)
class LayerStatistics(Rendered):
    """One BatchNormalization before and after.

    Attributes:
        path: Full path of the layer.
        count: Values per channel that the new statistics rest on.
        old_mean: (channels,), as stored before.
        old_variance: (channels,), as stored before.
        mean: (channels,), of the calibration data.
        variance: (channels,), of the calibration data.
        momentum: Of the layer's moving average.
        clamped: Number of channels whose statistics exceed what the layer's dtype can hold, and are
            stored as its largest number.
        epsilon: Of the layer. Its root is the least that sigma counts as, since the layer divides
            by no less, however constant a channel is.
    """

    path: str
    count: int
    old_mean: Floats
    old_variance: Floats
    mean: Floats
    variance: Floats
    momentum: float
    clamped: int = 0
    epsilon: float = 0.0

    @property
    def _least(self) -> float:
        return max(self.epsilon, float(np.finfo(np.float32).tiny))

    @property
    def mean_shift(self) -> float:
        """Root mean square over channels of old mean - mean, in standard deviations."""
        sigma = np.sqrt(np.maximum(self.variance, self._least))
        return float(np.sqrt(np.mean(np.square((self.old_mean - self.mean) / sigma))))

    @property
    def variance_ratio(self) -> float:
        """Geometric mean over channels of old variance / variance, none below epsilon."""
        old, new = (np.maximum(v, self._least) for v in (self.old_variance, self.variance))
        return float(np.exp(np.mean(np.log(old) - np.log(new))))

    @property
    def distance(self) -> float:
        """How far the old statistics were from the new, root mean square in sigma."""
        old, new = (self.old_mean, self.old_variance), (self.mean, self.variance)
        return distance(*old, *new, epsilon=self.epsilon)

    @property
    def convergence(self) -> Convergence | None:
        """How much of the initial 0 and 1 was left in the old statistics; None if that is no
        explanation of the distance.
        """
        old, new = (self.old_mean, self.old_variance), (self.mean, self.variance)
        return convergence(*old, *new, momentum=self.momentum, epsilon=self.epsilon)

    @property
    def dead(self) -> int:
        """Number of channels that are constant on the calibration data."""
        return int(np.sum(self.variance <= _CONSTANT * np.square(self.mean)))


def of_other_units(rows: Sequence[LayerStatistics]) -> tuple[str, ...]:
    """What to know where the first of all layers, whose input no other normalizes, has other units
    now than it had before.
    """
    first = rows[0] if rows else None
    if first is None or np.array_equal(first.old_variance, np.ones_like(first.old_variance)):
        return ()
    factor = other_unit(first.old_mean, first.old_variance, first.mean, first.variance)
    if factor is None:
        return ()
    return (
        f"in every channel of {first.path} the data vary {told(factor)} as the old statistics had "
        "it: if the network was trained on other units, as 0 to 1 instead of 0 to 255, it is now "
        "wrong for these. Prepare the data as for training, and recalibrate again",
    )


@dataclass(frozen=True)
class RecalibrationReport(VerbReport):
    """What `recalibrate` did; `kept` says whether the model has the new statistics.

    Attributes:
        layers: One per BatchNormalization, in the model's order.
        batches: Number of calibration batches.
        kept: Whether the new statistics are in the model now.
        engine: "exact" (by the graph), "lockstep" (without one) or "streaming".
        verdict: Loss before and after; None where nothing could be compared.
        memory: Bytes that the graph implies at most; None without a graph.
        notes: What else the user should know.
    """

    layers: tuple[LayerStatistics, ...]
    batches: int
    kept: bool = True
    engine: str = "exact"
    verdict: Verdict | None = None
    memory: int | None = None
    notes: tuple[str, ...] = ()

    def story(self) -> Story:
        state = "" if self.kept else ", NOT kept: the model is as it was"
        head = f"recalibrate: {len(self.layers)} layers from {self.batches} batches{state}"
        losses = () if self.verdict is None else (Remark(str(self.verdict)),)
        parts = (Table.of("layers", self.layers, _COLUMNS), *losses, *notes(self.notes))
        return Story(head, parts, Mood.GOOD if self.kept else Mood.BAD, tuple(self._charts()))

    def _charts(self) -> Iterator[Bars]:
        means = tuple(layer.mean_shift for layer in self.layers)
        ratios = tuple(layer.variance_ratio for layer in self.layers)
        yield Bars(
            "Stored statistics against those of the data",
            tuple(layer.path for layer in self.layers),
            (
                Panel("mean was off by, in sigma", means),
                Panel("stored variance / variance of the data", ratios, log=True, start=1.0),
            ),
            empty="no BatchNormalization was measured",
        )
        if self.verdict is not None:
            losses = (self.verdict.before, self.verdict.after)
            moods = (Mood.PLAIN, Mood.BAD if self.verdict.worse else Mood.GOOD)
            panel = Panel("mean over rows", losses, form=".4g")
            yield Bars("Loss on the calibration data", ("before", "after"), (panel,), moods)


def _updates(layer: LayerStatistics) -> float | None:
    fit = layer.convergence
    if fit is None or fit.updates is None or not math.isfinite(fit.updates):
        return None
    return fit.updates


def _initial(layer: LayerStatistics) -> float | None:
    fit = layer.convergence
    return None if fit is None else fit.fraction


def _odd(layer: LayerStatistics) -> str:
    updates = _updates(layer)
    odd = [f"about {updates:.1f} updates"] if updates is not None else []
    odd += [f"{layer.dead} channels constant"] if layer.dead else []
    odd += [f"{layer.clamped} channels clamped"] if layer.clamped else []
    return ", ".join(odd)


def _fraction(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


_COLUMNS: tuple[Column[LayerStatistics], ...] = (
    Column("path", lambda layer: layer.path, "layer"),
    Column("count", lambda layer: layer.count, "values", "{:,}".format, right=True, least=9),
    Column(
        "mean_shift",
        lambda layer: layer.mean_shift,
        "mean off by",
        in_sigma,
        right=True,
        least=11,
    ),
    Column(
        "variance_ratio",
        lambda layer: layer.variance_ratio,
        "variance was",
        "{:.3g} x".format,
        right=True,
    ),
    Column("initial", _initial, "still initial", _fraction, right=True),
    Column("remarks", _odd, ""),
    Column("updates", _updates, told=False),
    Column("distance", lambda layer: layer.distance, told=False),
    Column("constant", lambda layer: layer.dead, told=False),
    Column("clamped", lambda layer: layer.clamped, told=False),
)
