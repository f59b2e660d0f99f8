"""What recalibration found, per layer, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnfix.numerics.moments import Floats
from bnfix.report import Rendered


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
    """

    path: str
    count: int
    old_mean: Floats
    old_variance: Floats
    mean: Floats
    variance: Floats

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


@dataclass(frozen=True)
class RecalibrationReport(Rendered):
    """What `recalibrate` did; false if there was nothing to do.

    Attributes:
        layers: One per BatchNormalization, in the model's order.
        batches: Number of calibration batches.
        notes: What else the user should know.
    """

    layers: tuple[LayerStatistics, ...]
    batches: int
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.layers)

    def __str__(self) -> str:
        width = max((len(layer.path) for layer in self.layers), default=5)
        head = f"recalibrate: {len(self.layers)} layers from {self.batches} batches"
        columns = f"  {'layer':<{width}}  {'values':>9}  {'mean off by':>11}  {'variance was':>12}"
        rows = [
            f"  {layer.path:<{width}}  {layer.count:>9,}  {layer.mean_shift:>5.2f} sigma  "
            f"{layer.variance_ratio:>8.3g} x"
            for layer in self.layers
        ]
        return "\n".join([head, columns, *rows, *(f"  note: {note}" for note in self.notes)])
