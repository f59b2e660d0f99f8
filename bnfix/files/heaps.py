"""Can the heaps of an HDF5 file, in which texts of any length lie, be walked through?

A heap begins with "GCOL", its version and its size; object follows object, each with its number,
its size and its bytes (HDF5 File Format Specification, III.E). HDF5 goes from one to the next by
their sizes and believes them: one of no size keeps it there for ever. So they are walked through
here before a text is read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

#: Reads so many bytes at an offset; fewer where the file ends.
Read = Callable[[int, int], bytes]

_PIECE = 4 << 20
_SIGNATURE = b"GCOL\x01\x00\x00\x00"
_HEADER = 16
#: Objects that are looked at in all; Keras writes one a text.
_MAX_OBJECTS = 2_000_000
#: Times the size of the file that heaps may take in all; those that HDF5 writes lie side by side.
_MAX_OVERLAP = 2


@dataclass(frozen=True)
class Heaps:
    """What there is to know of the heaps of a file.

    Attributes:
        largest: Bytes of the largest, which no text exceeds.
        broken: Where in the file one begins that cannot be walked through; None if all can.
    """

    largest: int
    broken: int | None


def heaps_of(read: Read, size: int) -> Heaps:
    """Look at every heap of a file of `size` bytes."""
    largest, taken, left = 0, 0, _MAX_OBJECTS
    for start in _starts(read, size):
        length = min(struct.unpack("<Q", read(start + 8, 8))[0], size - start)
        largest, taken = max(largest, length), taken + length
        seen = _objects(read, start, length, left) if taken <= _MAX_OVERLAP * size else None
        if seen is None:
            return Heaps(largest, start)
        left -= seen
    return Heaps(largest, None)


def _starts(read: Read, size: int) -> Iterator[int]:
    overlap = _HEADER - 1
    for offset in range(0, size, _PIECE):
        piece = read(offset, _PIECE + overlap)
        found = piece.find(_SIGNATURE)
        while 0 <= found < _PIECE and found + _HEADER <= len(piece):
            yield offset + found
            found = piece.find(_SIGNATURE, found + 1)


def _objects(read: Read, start: int, length: int, most: int) -> int | None:
    """How many objects a heap holds; None if they do not lie one behind the other within it."""
    content = read(start, length)
    at, seen = _HEADER, 0
    while at + _HEADER <= length:
        number, size = struct.unpack_from("<H6xQ", content, at)
        # Number 0 is what is left over, its header included.
        step = size if number == 0 else _HEADER + (size + 7) // 8 * 8
        at, seen = at + step, seen + 1
        if step == 0 or at > length or seen > most:
            return None
    return seen
