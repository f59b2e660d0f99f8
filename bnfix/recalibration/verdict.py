"""Is one loss larger than another, or is that chance?  Rows are compared in pairs.

With d the difference of the two losses of one group of rows, over n groups of nearly one size:

    mean(d) +- std(d) / sqrt(n)

What rows have in common, that some are harder than others, cancels out of d. The new loss is worse
where mean(d) is both larger than chance would have it in one of a thousand cases and large enough
to matter; from a few groups, where it is larger by what anyone would notice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnfix.numerics.moments import Floats
from bnfix.numerics.tolerance import LEAST_LOSS, MATTERS, NOTICEABLE, SIGNIFICANT
from bnfix.report import Rendered

#: Fewest groups whose scatter tells anything.
_ENOUGH = 8


@dataclass(frozen=True)
class Sample:
    """Losses of the same groups of rows, one way.

    Attributes:
        losses: (groups,), mean over the rows of each.
        rows: (groups,), how many they have.
    """

    losses: Floats
    rows: Floats

    @property
    def mean(self) -> float:
        return float(np.sum(self.losses * self.rows) / np.sum(self.rows))


@dataclass(frozen=True)
class Verdict(Rendered):
    """Loss on the calibration data with the old statistics and with the new.

    Attributes:
        before: Mean over rows.
        after: Mean over rows.
        error: Standard error of the difference, rows taken in pairs; None from too few groups.
        groups: Of rows that were compared.
    """

    before: float
    after: float
    error: float | None = None
    groups: int = 1

    @classmethod
    def of(cls, before: Sample, after: Sample) -> Verdict:
        """On the same groups of rows."""
        apart, groups = after.losses - before.losses, len(before.losses)
        if groups < _ENOUGH or not np.isfinite(apart).all():
            return cls(before.mean, after.mean, None, groups)
        spread = float(np.std(apart, ddof=1))
        return cls(before.mean, after.mean, spread / float(np.sqrt(groups)), groups)

    @property
    def worse(self) -> bool:
        """Whether the new loss is larger by more than chance and rounding, or not a number."""
        if not np.isfinite(self.before):
            return False
        if not np.isfinite(self.after):
            return True
        apart, scale = self.after - self.before, abs(self.before)
        if self.error is None:
            return apart > NOTICEABLE * scale + LEAST_LOSS
        return apart > max(SIGNIFICANT * self.error, MATTERS * scale + LEAST_LOSS)

    def __str__(self) -> str:
        said = f"loss on the calibration data {self.before:.4g} before, {self.after:.4g} after"
        if self.error is None:
            return said
        apart = self.after - self.before
        return f"{said}, {apart:+.2g} +- {self.error:.2g} a row in {self.groups} groups of rows"
