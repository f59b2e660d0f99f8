"""An affine map of every row of a tensor, entry by entry.

    y = scale * x + shift

Both arrays have the rank of a row (a tensor's without its batch axis) and length 1 along every axis
on which nothing depends: so "one number per channel" is something that can be seen, and followed
through layers that move axes about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnfix.numerics.moments import Floats


@dataclass(frozen=True)
class Affine:
    """`scale * row + shift`, by broadcasting.

    Attributes:
        scale: float64, of the rank of a row.
        shift: As `scale`.
    """

    scale: Floats
    shift: Floats

    @property
    def rank(self) -> int:
        return self.scale.ndim

    @property
    def varies(self) -> frozenset[int]:
        """The axes of a row along which something depends on the position."""
        sizes = zip(self.scale.shape, self.shift.shape, strict=True)
        return frozenset(axis for axis, pair in enumerate(sizes) if max(pair) > 1)

    @property
    def only_scales(self) -> bool:
        return not self.shift.any()

    @property
    def keeps_order(self) -> bool:
        """Whether larger entries stay larger."""
        return bool(np.all(self.scale > 0))

    def along(self, axis: int, size: int) -> tuple[Floats, Floats]:
        """`(scale, shift)`, each (size,), where nothing depends on any other axis of a row."""
        return tuple(
            np.broadcast_to(part.reshape(-1), (size,)) if part.size in (1, size) else part
            for part in (self.scale, self.shift)
        )  # pyright: ignore[reportReturnType]

    def reshaped(self, old: Sequence[int], new: Sequence[int]) -> Affine:
        """For rows that are reshaped from `old` to `new`, entries staying in their order."""
        return compact(*(np.broadcast_to(p, old).reshape(new) for p in (self.scale, self.shift)))

    def transposed(self, order: Sequence[int]) -> Affine:
        """For rows whose axes are put into `order`."""
        return Affine(self.scale.transpose(order), self.shift.transpose(order))

    def part(self, axis: int, start: int, stop: int) -> Affine:
        """For the entries from `start` to `stop` along `axis`."""
        return compact(
            *(
                part.take(range(start, stop), axis) if part.shape[axis] > 1 else part
                for part in (self.scale, self.shift)
            )
        )

    def embedded(self, axis: int, start: int, stop: int, size: int) -> Affine:
        """For rows of length `size` along `axis`, of which the entries beside the part stay."""
        scale, shift = (
            np.full((*part.shape[:axis], size, *part.shape[axis + 1 :]), beside)
            for part, beside in ((self.scale, 1.0), (self.shift, 0.0))
        )
        at = (slice(None),) * axis + (slice(start, stop),)
        scale[at], shift[at] = self.scale, self.shift
        return Affine(scale, shift)

    def taken(self, index: Sequence[Any]) -> Affine:
        """For `row[index]`: a slice, a position or a new axis (None) for every axis."""
        parts = np.broadcast_arrays(self.scale, self.shift)
        axes = iter(range(self.rank))
        at = [
            entry
            if entry is None or next(axes) in self.varies
            else (slice(None) if isinstance(entry, slice) else 0)
            for entry in index
        ]
        return compact(*(part[tuple(at)] for part in parts))

    def placed(self, index: Sequence[Any], row: Sequence[int], *, alone: bool) -> Affine | None:
        """For rows of the sizes `row`, if this one is for `row[index]`.

        Args:
            index: As for `taken`.
            row: -1 where a size is not known; None is returned if it has to be.
            alone: Whether the other entries are of no account. Then the map goes on over them along
                every axis on which it does not depend; else they stay as they are.
        """
        parts: list[Floats] = []
        for part, beside in ((self.scale, 1.0), (self.shift, 0.0)):
            sizes, at, kept = list[int](), list[Any](), list[Any]()
            for entry in index:
                if entry is None:
                    kept.append(0)
                    continue
                axis, size = len(kept), row[len(sizes)]
                if isinstance(entry, slice):
                    free = entry == slice(None) or (alone and axis not in self.varies)
                    sizes.append(part.shape[axis] if free else size)
                    at.append(slice(None) if free else entry)
                    kept.append(slice(None))
                else:
                    sizes.append(1 if alone else size)
                    at.append(0 if alone else entry)
            if -1 in sizes:
                return None
            whole = np.full(sizes, beside)
            whole[tuple(at)] = part[tuple(kept)]
            parts.append(whole)
        return compact(*parts)

    def unshifted(self) -> Affine:
        return Affine(self.scale, np.zeros_like(self.shift))


def per_channel(scale: Floats, shift: Floats, axis: int, rank: int) -> Affine:
    """`scale` and `shift`, each (channels,), along `axis` of a row of `rank` dimensions."""
    shape = [-1 if each == axis else 1 for each in range(rank)]
    return Affine(scale.reshape(shape), shift.reshape(shape))


def compact(scale: Floats, shift: Floats) -> Affine:
    """The same map with length 1 along every axis on which nothing depends."""
    parts: list[Floats] = []
    for part in (scale, shift):
        for axis in range(part.ndim):
            first = part.take([0], axis)
            if part.shape[axis] > 1 and np.array_equal(np.broadcast_to(first, part.shape), part):
                part = first
        parts.append(part)
    return Affine(*parts)
