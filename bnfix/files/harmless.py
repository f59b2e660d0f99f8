"""Can all of an HDF5 file be read without harm?

`Hdf5` is careful with what it is asked for; Keras, which reads every weight, is less so. So before
Keras gets a file, every object in it is looked at once, and nothing is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py

from bnfix.files.hdf5 import MAX_ATTRIBUTES, MAX_OBJECTS, Hdf5

_MAX_DEPTH = 64
#: Zeros pack well, and a fresh optimizer is full of them.
_MAX_EXPANSION = 64
_MAX_SURPLUS = 64 << 20


def check_harmless(hdf5: Hdf5) -> None:
    """Look at every object of `hdf5`, as someone who is going to read them all.

    Raises:
        FileError: Something leads out of the file or into itself, or reading all of it takes far
            more memory than the file has bytes.
    """
    limit = hdf5.size * _MAX_EXPANSION + _MAX_SURPLUS
    total, seen = 0, {_address(hdf5, hdf5.file, "/")}
    pending: list[tuple[str, Any, int]] = [("", hdf5.file, 0)]
    count = 0
    while pending:
        prefix, group, depth = pending.pop()
        if depth > _MAX_DEPTH:
            hdf5.refuse(prefix, f"groups nested deeper than {_MAX_DEPTH}")
        for path, found in _members(hdf5, group, prefix):
            count += 1
            if count > MAX_OBJECTS:
                hdf5.refuse(path, f"more than {MAX_OBJECTS:,} objects")
            _check_attributes(hdf5, found, path)
            if isinstance(found, h5py.Group):
                address = _address(hdf5, found, path)
                if address in seen:
                    hdf5.refuse(path, "a group that is found in two places")
                seen.add(address)
                pending.append((path, found, depth + 1))
            elif isinstance(found, h5py.Dataset):
                with hdf5.understood(path):
                    total += hdf5.cost(found, path)
                if total > limit:
                    hdf5.refuse(path, f"the rest of {total:,} bytes, in a file of {hdf5.size:,}")
    _check_attributes(hdf5, hdf5.file, "/")


def _members(hdf5: Hdf5, group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    with hdf5.understood(prefix or "/"):
        if len(group) > MAX_OBJECTS:
            hdf5.refuse(prefix, f"a group of {len(group):,} members")
        names = [str(name) for name in group]
    for name in names:
        path = f"{prefix}/{name}"
        with hdf5.understood(path):
            hdf5.check_link(group, name, path)
            found = group[name]
        yield path, found


def _check_attributes(hdf5: Hdf5, holder: Any, path: str) -> None:
    with hdf5.understood(path):
        if len(holder.attrs) > MAX_ATTRIBUTES:
            hdf5.refuse(path, f"{len(holder.attrs):,} attributes")
        for name in holder.attrs:
            hdf5.check_attribute(holder, name, f"{path}@{name}")


def _address(hdf5: Hdf5, group: Any, path: str) -> int:
    with hdf5.understood(path):
        return int(h5py.h5o.get_info(group.id).addr)  # pyright: ignore[reportAttributeAccessIssue]
