"""Nested Python structures, of data and of the arguments of a call, mapped and read leaf by leaf.

Dicts, lists, tuples (named ones too) and slices are structure; so is None, which holds a place and
stands for something left out. Everything else is a leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def map_leaves(
    fn: Callable[..., Any],
    structure: Any,
    *others: Any,
    is_leaf: Callable[[Any], bool] | None = None,
) -> Any:
    """`structure` with `fn` applied to its leaves; `others`, which are like it, go along.

    What `is_leaf` says so of is a leaf, too.
    """
    if structure is None:
        return None
    if is_leaf is not None and is_leaf(structure):
        return fn(structure, *others)
    if isinstance(structure, Mapping):
        return {
            key: map_leaves(fn, part, *(other[key] for other in others), is_leaf=is_leaf)
            for key, part in structure.items()
        }
    if isinstance(structure, (list, tuple)):
        rows = zip(structure, *others, strict=True)
        parts = [map_leaves(fn, *row, is_leaf=is_leaf) for row in rows]
        if isinstance(structure, list):
            return parts
        kind: Any = type(structure)
        return kind._make(parts) if is_named(structure) else tuple(parts)
    if isinstance(structure, slice):
        parts = (_parts(each) for each in (structure, *others))
        return slice(*map_leaves(fn, *parts, is_leaf=is_leaf))
    return fn(structure, *others)


def leaves(structure: Any, *, is_leaf: Callable[[Any], bool] | None = None) -> Iterator[Any]:
    """The leaves of `structure` in the order in which they are written."""
    found: list[Any] = []
    map_leaves(found.append, structure, is_leaf=is_leaf)
    return iter(found)


def is_named(structure: Any) -> bool:
    """Whether `structure` is a tuple whose parts have names, so that it is inputs, not (x, y)."""
    return isinstance(structure, tuple) and hasattr(structure, "_fields")


def _parts(piece: slice) -> tuple[Any, Any, Any]:
    return piece.start, piece.stop, piece.step
