"""When is data whose end nobody knows taken for endless?

A generator tells no length, and one that loops forever looks like any other until memory is full.
So what is to be held is counted as it comes: after many batches that is said, and before memory
runs out it is refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from bnfix.errors import BnfixWarning, DataError
from bnfix.machine import free_memory
from bnfix.tree import leaves

#: Batches after which it is said that more and more are read.
SAID_AFTER = 10_000

#: Share of the memory that was free at the start which data may take; the model needs some, too.
_SHARE = 0.75

#: Bytes that a batch takes beyond its numbers, about.
_EACH = 1024


def watched(stream: Iterator[Any], what: str, *, held: bool) -> Iterator[Any]:
    """Each of `stream`, batches of unknown number.

    Args:
        stream: Of structures of arrays.
        what: Said to be read.
        held: Whether all of them are held in memory.

    Raises:
        DataError: They take more memory than there was.
    """
    room = _SHARE * free_memory() if held else float("inf")
    taken = 0
    for number, one in enumerate(stream, 1):
        taken += _EACH + sum(int(getattr(leaf, "nbytes", 0)) for leaf in leaves(one))
        if taken > room:
            raise DataError(
                f"{what} has given {number:,} batches and not ended; they take {_gib(taken)}, and "
                f"{_gib(room)} are there for them. Pass steps=, the number of batches to take, if "
                'it never ends; else smaller data, or recalibrate(..., method="streaming"), which '
                "holds one batch at a time."
            )
        if number == SAID_AFTER:
            warnings.warn(
                f"{number:,} batches were read from {what}, which does not tell where it ends, "
                "and more are to come. Pass steps=, the number of batches to take, if it never "
                "ends.",
                BnfixWarning,
                stacklevel=2,
            )
        yield one


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB"
