"""Where the taps of a convolution's kernel lie on its input.

At output position i, tap t of a kernel sees the input at

    strides * i + dilation * t - before

where `before` is what is padded in front. So a kernel of the same strides can stand within a larger
one wherever all its taps see what taps of the larger one see; an identity is a kernel of one tap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """The geometry of a kernel, a number for each axis of positions.

    Attributes:
        size: Taps.
        strides: Steps on the input from one output to the next.
        dilation: Steps on the input from one tap to the next.
        padding: "valid", "same" or "causal", as in Keras.
    """

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str

    def before(self, lengths: Sequence[int | None]) -> tuple[int, ...] | None:
        """What is padded in front of inputs of `lengths`; None if that is not known."""
        found: list[int] = []
        each = zip(self.size, self.strides, self.dilation, lengths, strict=True)
        for size, step, dilation, length in each:
            reach = (size - 1) * dilation
            if self.padding == "same" and step > 1:
                if length is None:
                    return None
                outputs = -(-length // step)
                reach = max((outputs - 1) * step + reach + 1 - length, 0)
            found.append({"same": reach // 2, "causal": reach}.get(self.padding, 0))
        return tuple(found)

    def places(
        self, other: Window, lengths: Sequence[int | None]
    ) -> tuple[tuple[int, ...], ...] | None:
        """Along each axis, at which taps of this kernel those of `other` would lie; None if not.

        Both are on inputs of `lengths` and make outputs of one shape.
        """
        ours, theirs = self.before(lengths), other.before(lengths)
        if ours is None or theirs is None or self.strides != other.strides:
            return None
        found: list[tuple[int, ...]] = []
        for axis, (here, there) in enumerate(zip(ours, theirs, strict=True)):
            steps = [tap * other.dilation[axis] - there + here for tap in range(other.size[axis])]
            taps = tuple(step // self.dilation[axis] for step in steps)
            exact = all(step % self.dilation[axis] == 0 for step in steps)
            if not exact or min(taps) < 0 or max(taps) >= self.size[axis]:
                return None
            found.append(taps)
        return tuple(found)


def identity(axes: int) -> Window:
    """The window of what hands on its input as it is."""
    ones = (1,) * axes
    return Window(ones, ones, ones, "valid")
