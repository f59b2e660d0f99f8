"""Nested Python structures, of data and of the arguments of a call, mapped and read leaf by leaf.

Dicts, lists, tuples (named ones too) and slices are structure; so is None, which holds a place and
stands for something left out. Everything else is a leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def map_leaves(fn: Callable[..., Any], structure: Any, *others: Any) -> Any:
    """`structure` with `fn` applied to its leaves; `others`, which are like it, go along."""
    if structure is None:
        return None
    if isinstance(structure, Mapping):
        return {
            key: map_leaves(fn, part, *(other[key] for other in others))
            for key, part in structure.items()
        }
    if isinstance(structure, (list, tuple)):
        parts = [map_leaves(fn, *row) for row in zip(structure, *others, strict=True)]
        if isinstance(structure, list):
            return parts
        kind: Any = type(structure)
        return kind._make(parts) if is_named(structure) else tuple(parts)
    if isinstance(structure, slice):
        return slice(*map_leaves(fn, *(_parts(each) for each in (structure, *others))))
    return fn(structure, *others)


def leaves(structure: Any) -> Iterator[Any]:
    """The leaves of `structure` in the order in which they are written."""
    found: list[Any] = []
    map_leaves(found.append, structure)
    return iter(found)


def is_named(structure: Any) -> bool:
    """Whether `structure` is a tuple whose parts have names, so that it is inputs, not (x, y)."""
    return isinstance(structure, tuple) and hasattr(structure, "_fields")


def _parts(piece: slice) -> tuple[Any, Any, Any]:
    return piece.start, piece.stop, piece.step
