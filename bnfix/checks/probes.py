"""The inputs of a check: rows among others, alone, and among replaced neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bnfix.tree import map_leaves


@dataclass(frozen=True)
class Probes:
    """The inputs of a check, in the structure that the model takes.

    Attributes:
        x: `rows` rows.
        rows: How many.
        alone: Row 0 as a batch of its own; None where the model takes one batch size only.
    """

    x: Any
    rows: int
    alone: Any

    @property
    def replaced(self) -> Any:
        """Row 0 with copies of itself as neighbours, the like of which no statistic survives."""
        return map_leaves(lambda array: np.repeat(array[:1], self.rows, axis=0), self.x)

    @property
    def turned(self) -> Probes:
        """The last row in the place of row 0.

        What depends on a maximum over the batch does not show at the row that holds it.
        """
        alone = None if self.alone is None else map_leaves(lambda array: array[-1:], self.x)
        return Probes(map_leaves(lambda a: np.roll(a, 1, axis=0), self.x), self.rows, alone)

    @property
    def shorter(self) -> Probes:
        """One row less."""
        return self.first(self.rows - 1)

    def first(self, rows: int) -> Probes:
        """The first `rows` rows; all where the model takes one batch size only."""
        if self.alone is None or rows >= self.rows:
            return self
        return Probes(map_leaves(lambda array: array[:rows], self.x), rows, self.alone)
