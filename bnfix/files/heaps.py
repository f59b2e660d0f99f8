"""Can the heaps of an HDF5 file, in which texts of any length lie, be walked through?

A heap begins with "GCOL", its version and its size; object follows object, each with its number,
its size and its bytes (HDF5 File Format Specification, III.E). HDF5 goes from one to the next by
their sizes and believes them: one of no size keeps it there for ever. So they are walked through
here before a text is read. What names a text is the address of its heap and its number there
(ibid., IV.B), so that a list of texts takes no more than the references in the file allow.
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
        length = min(_length(read, start), size - start)
        largest, taken = max(largest, length), taken + length
        seen = _objects(read, start, length, left) if taken <= _MAX_OVERLAP * size else None
        if seen is None:
            return Heaps(largest, start)
        left -= seen
    return Heaps(largest, None)


def most_of_texts(read: Read, size: int, count: int, enough: int) -> int | None:
    """The most bytes that a list of `count` texts may take; None where that cannot be told.

    Short texts, which do not come to half of `enough` however often they are named, are counted as
    if they did. A long one, as the configuration of a large network is, counts as often as the file
    names it.
    """
    if not _is_plain(read, size):
        return None
    short = enough // (2 * count)
    named = {
        struct.pack("<QI", start, number): length
        for start in _starts(read, size)
        for number, length in _held(read, start, min(_length(read, start), size - start))
        if length > short
    }
    if len(named) > _MAX_LONG:
        return None
    times = _occurrences(read, size, list(named))
    return enough // 2 + sum(times[name] * length for name, length in named.items())


#: Long texts that are looked for; a model file has one for each of its two configurations.
_MAX_LONG = 32


def _is_plain(read: Read, size: int) -> bool:
    """Whether references lie in the file as they are: eight bytes of address, and none packed.

    h5py writes the oldest superblock (version 0). Attributes in a fractal heap may be packed.
    """
    head = read(0, 32)
    is_oldest = head[:9] == b"\x89HDF\r\n\x1a\n\x00" and head[13:14] == b"\x08"
    return is_oldest and not any(head[24:32]) and not _occurrences(read, size, [b"FRHP"])[b"FRHP"]


def _occurrences(read: Read, size: int, patterns: list[bytes]) -> dict[bytes, int]:
    """How often each of `patterns` is in the file."""
    found = dict.fromkeys(patterns, 0)
    for offset in range(0, size, _PIECE):
        for pattern in patterns:
            found[pattern] += read(offset, _PIECE + len(pattern) - 1).count(pattern)
    return found


def _length(read: Read, start: int) -> int:
    return struct.unpack("<Q", read(start + 8, 8))[0]


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
    seen = 0
    for _, held in _held(read, start, length):
        seen += 1
        if held < 0 or seen > most:
            return None
    return seen


def _held(read: Read, start: int, length: int) -> Iterator[tuple[int, int]]:
    """Number and size of each object of a heap; a size of -1, and no more, where one leads out."""
    content = read(start, length)
    at = _HEADER
    while at + _HEADER <= length:
        number, size = struct.unpack_from("<H6xQ", content, at)
        # Number 0 is what is left over, its header included.
        step = size if number == 0 else _HEADER + (size + 7) // 8 * 8
        at += step
        if step == 0 or at > length:
            yield number, -1
            return
        yield number, size
