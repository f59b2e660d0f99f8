"""Is one loss larger than another, or is that chance?  Rows are compared in pairs.

With d the difference of the two losses of one group of rows, over n groups of nearly one size:

    mean(d) +- std(d) / sqrt(n)

What rows have in common, that some are harder than others, cancels out of d. The new loss is worse
where mean(d) is both larger than chance would have it in one of a thousand cases and large enough
to matter; from a few groups, where it is larger by what anyone would notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bnfix.numerics.moments import ChannelMoments, Floats
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


def compared(before: Sample | None, after: Sample | None) -> Floats:
    """What samples of the same groups of rows say together, in numbers that can be told to others.

    Rows, sums of both losses over them, groups with finite losses; then number, mean and variance
    of the differences.
    """
    if before is None or after is None:
        return np.zeros(7)
    apart = after.losses - before.losses
    sums = [float(np.sum(sample.losses * before.rows)) for sample in (before, after)]
    with np.errstate(invalid="ignore"):  # some may be infinite
        moments = [float(len(apart)), float(np.mean(apart)), float(np.var(apart))]
    return np.array([float(before.rows.sum()), *sums, float(np.isfinite(apart).sum()), *moments])


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
    def pooled(cls, parts: Sequence[Floats]) -> Verdict | None:
        """Of what `compared` gives for each part of the data; None if all are empty."""
        rows, before, after, finite = np.sum([part[:4] for part in parts], axis=0)
        apart = ChannelMoments(1)
        for part in parts:
            apart.merge(*part[4:])
        groups = int(apart.counts[0])
        if not groups:
            return None
        before, after = float(before / rows), float(after / rows)
        if groups < _ENOUGH or finite < groups:
            return cls(before, after, None, groups)
        spread = float(np.sqrt(apart.variance(ddof=1)[0]))
        return cls(before, after, spread / float(np.sqrt(groups)), groups)

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
