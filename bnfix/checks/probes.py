"""The inputs of a check: rows among others, alone, and among replaced neighbours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bnfix.tree import map_leaves


@dataclass(frozen=True)
class Probes:
    """The inputs of a check, in the structure that the model takes.

    Attributes:
        x: `rows` rows.
        rows: How many.
        alone: Row 0 as a batch of its own, once for each of several replicas; None where the model
            takes one batch size only.
        least: Rows of the smallest batch: one for each replica.
        several: Whether smaller batches are tried beside the smallest.
    """

    x: Any
    rows: int
    alone: Any
    least: int = 1
    several: bool = True

    @property
    def replaced(self) -> Any:
        """Row 0 with copies of itself as neighbours, the like of which no statistic survives."""
        return map_leaves(lambda array: np.repeat(array[:1], self.rows, axis=0), self.x)

    @property
    def turned(self) -> Probes:
        """The last row in the place of row 0.

        What depends on a maximum over the batch does not show at the row that holds it.
        """
        turned = map_leaves(lambda array: np.roll(array, 1, axis=0), self.x)
        first = map_leaves(lambda array: np.repeat(array[:1], self.least, axis=0), turned)
        return replace(self, x=turned, alone=None if self.alone is None else first)

    @property
    def shorter(self) -> Probes:
        """One row less."""
        return self.first(self.rows - 1)

    def first(self, rows: int) -> Probes:
        """The first `rows` rows; all where the model takes one batch size only."""
        if self.alone is None or rows >= self.rows:
            return self
        return replace(self, x=map_leaves(lambda array: array[:rows], self.x), rows=rows)

    @property
    def sizes(self) -> list[int]:
        """Batches for entry points after the first, smaller ones where `several` are tried.

        Together these are less than three times all.
        """
        if not self.several:
            return [self.rows] * 3
        half = self.rows // 2
        return [max(size, self.least, 2) for size in (half, half - 1, 2)]
