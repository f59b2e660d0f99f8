"""What data tell about a model's BatchNormalizations, as plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from bnfix.numerics.moments import Floats
from bnfix.numerics.tolerance import LEAST_LOSS, NOTICEABLE
from bnfix.report import Rendered


@dataclass(frozen=True)
class Population:
    """Statistics of what reaches one layer, over all of the data.

    Attributes:
        path: Full path of the layer.
        count: Values per channel.
        mean: (channels,).
        variance: (channels,), of the population.
        between: Share of the variance that lies between the layer's calls, mean over channels; 0
            for a layer that is called once.
    """

    path: str
    count: int
    mean: Floats
    variance: Floats
    between: float = 0.0


@dataclass(frozen=True)
class Losses(Rendered):
    """Loss in inference mode with the statistics stored, and with those of the data.

    The second is what training mode computes, without its noise: no dropout, and the statistics of
    all data where a batch has its own.

    Attributes:
        stored: Mean over all rows, with the statistics stored.
        of_data: With those of the data.
    """

    stored: float
    of_data: float

    @property
    def better(self) -> bool:
        """Whether the data's statistics serve the model better than those it has stored."""
        stored = self.stored if np.isfinite(self.stored) else np.inf
        return self.of_data < stored * (1 - NOTICEABLE) - LEAST_LOSS

    @property
    def worse(self) -> bool:
        return self.of_data > self.stored * (1 + NOTICEABLE) + LEAST_LOSS

    def __str__(self) -> str:
        return f"loss {self.stored:.3g} as stored, {self.of_data:.3g} with statistics of the data"


@dataclass(frozen=True)
class DataFacts:
    """All that was measured.

    Attributes:
        layers: By path.
        rows: Length of the data.
        losses: None where there are no labels, or no compiled loss.
        unused: Why labels could not be used, although the model is compiled; None if they were.
    """

    layers: dict[str, Population]
    rows: int
    losses: Losses | None = None
    unused: str | None = None

    def but_for(self, found: Iterable[tuple[str, Floats, Floats]]) -> DataFacts:
        """The same with other means and variances, by path."""
        new = {
            path: replace(self.layers[path], mean=mean, variance=variance)
            for path, mean, variance in found
        }
        return replace(self, layers={**self.layers, **new})
