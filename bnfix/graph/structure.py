"""Nested Python structures (arguments of a call), mapped and searched leaf by leaf."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def map_leaves(fn: Callable[[Any], Any], structure: Any) -> Any:
    """`structure` with `fn` applied to each leaf; dicts, lists, tuples and slices are none."""
    if isinstance(structure, Mapping):
        return {key: map_leaves(fn, value) for key, value in structure.items()}
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(map_leaves(fn, value) for value in structure))
    if isinstance(structure, tuple):
        return tuple(map_leaves(fn, value) for value in structure)
    if isinstance(structure, list):
        return [map_leaves(fn, value) for value in structure]
    if isinstance(structure, slice):
        parts = (structure.start, structure.stop, structure.step)
        return slice(*(map_leaves(fn, part) for part in parts))
    return fn(structure)


def leaves(structure: Any) -> Iterator[Any]:
    """The leaves of `structure` in the order in which they are written."""
    found: list[Any] = []
    map_leaves(found.append, structure)
    return iter(found)
