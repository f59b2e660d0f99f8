"""Rows of calibration data that outweigh all others, told as they pass by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bnfix.breadth_first.loading import Loaded
from bnfix.numerics.outliers import Outliers

_LISTED = 3


class Watch:
    """Looks at batches of inputs for rows that outweigh the others in a channel."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self._found: dict[int, Outliers] = {}

    def over(self, batches: Iterator[Loaded]) -> Iterator[Loaded]:
        """Pass `batches` on."""
        for one in batches:
            for position, leaf in enumerate(one.flat):
                array = _numbers(leaf)
                if array is not None:
                    self._found.setdefault(position, Outliers()).update(array)
            yield one

    def notes(self) -> tuple[str, ...]:
        """A sentence for each row that makes most of the variance of some channels."""
        said: list[str] = []
        for position, outliers in self._found.items():
            name = self.names[position] if position < len(self.names) else str(position)
            rows: dict[int, list[Any]] = {}
            for found in outliers.found():
                rows.setdefault(found.row, []).append(found)
            for row, found in list(rows.items())[:_LISTED]:
                worst = max(found, key=lambda each: each.share)
                channels = ", ".join(str(each.channel) for each in found[:_LISTED])
                more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
                said.append(
                    f"row {row} of input {name} alone makes {worst.share:.1%} of the variance of "
                    f"channel {channels}{more}, with a value of {worst.value:.3g}: the statistics "
                    "are as good as its own. Look at it, or leave it out"
                )
        return tuple(said)


def _numbers(leaf: Any) -> Any:
    if leaf is None or "float" not in str(getattr(leaf, "dtype", "")):
        return None
    try:
        array = np.asarray(leaf)
    except Exception:  # ragged, which has no axis of channels to go by
        return None
    return array if array.dtype.kind == "f" and array.ndim else None
