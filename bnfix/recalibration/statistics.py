"""What recalibration found, per layer, and how it is shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bnfix.numerics.convergence import Convergence, convergence, distance
from bnfix.numerics.moments import Floats
from bnfix.recalibration.verdict import Verdict
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
    """

    path: str
    count: int
    old_mean: Floats
    old_variance: Floats
    mean: Floats
    variance: Floats
    momentum: float
    clamped: int = 0

    @property
    def mean_shift(self) -> float:
        """Root mean square over channels of old mean - mean, in standard deviations."""
        sigma = np.sqrt(np.maximum(self.variance, np.finfo(np.float32).tiny))
        return float(np.sqrt(np.mean(np.square((self.old_mean - self.mean) / sigma))))

    @property
    def variance_ratio(self) -> float:
        """Geometric mean over channels of old variance / variance."""
        tiny = np.finfo(np.float32).tiny
        old, new = np.maximum(self.old_variance, tiny), np.maximum(self.variance, tiny)
        return float(np.exp(np.mean(np.log(old) - np.log(new))))

    @property
    def distance(self) -> float:
        """How far the old statistics were from the new, root mean square in sigma."""
        return distance(self.old_mean, self.old_variance, self.mean, self.variance)

    @property
    def convergence(self) -> Convergence | None:
        """How much of the initial 0 and 1 was left in the old statistics; None if that is no
        explanation of the distance.
        """
        new = self.mean, self.variance
        return convergence(self.old_mean, self.old_variance, *new, momentum=self.momentum)

    @property
    def dead(self) -> int:
        """Number of channels that are constant on the calibration data."""
        return int(np.sum(self.variance <= _CONSTANT * np.square(self.mean)))


@dataclass(frozen=True)
class RecalibrationReport(VerbReport):
    """What `recalibrate` did; false if the model is as it was.

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

    def __str__(self) -> str:
        width = max((len(layer.path) for layer in self.layers), default=5)
        state = "" if self.kept else ", NOT kept: the model is as it was"
        columns = (
            f"  {'layer':<{width}}  {'values':>9}  {'mean off by':>11}  {'variance was':>12}"
            f"  {'still initial':>13}"
        )
        return "\n".join(
            [
                f"recalibrate: {len(self.layers)} layers from {self.batches} batches{state}",
                columns,
                *(self._row(layer, width) for layer in self.layers),
                *([] if self.verdict is None else [f"  {self.verdict}"]),
                *(f"  note: {note}" for note in self.notes),
            ]
        )

    def _row(self, layer: LayerStatistics, width: int) -> str:
        fit = layer.convergence
        initial = "" if fit is None else f"{fit.fraction:.1%}"
        odd = [f"{layer.dead} channels constant"] if layer.dead else []
        odd += [f"{layer.clamped} channels clamped"] if layer.clamped else []
        if fit is not None and fit.updates is not None and math.isfinite(fit.updates):
            odd.insert(0, f"about {fit.updates:.1f} updates")
        return (
            f"  {layer.path:<{width}}  {layer.count:>9,}  {layer.mean_shift:>5.2f} sigma  "
            f"{layer.variance_ratio:>10.3g} x  {initial:>13}  {', '.join(odd)}"
        ).rstrip()
