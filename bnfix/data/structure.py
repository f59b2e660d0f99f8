"""Nested lists, tuples and dicts of arrays, as data comes in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def leaves(structure: Any) -> Iterator[Any]:
    """The arrays in `structure`, in order."""
    if isinstance(structure, Mapping):
        structure = list(structure.values())
    if isinstance(structure, (list, tuple)):
        for part in structure:
            yield from leaves(part)
    else:
        yield structure


def map_arrays(fn: Callable[..., Any], structure: Any, *others: Any) -> Any:
    """`structure` with `fn` applied to its arrays, None left as it is; `others` go along."""
    if isinstance(structure, Mapping):
        return {
            key: map_arrays(fn, part, *(other[key] for other in others))
            for key, part in structure.items()
        }
    if isinstance(structure, (list, tuple)):
        rows = zip(structure, *others, strict=True)
        parts = [map_arrays(fn, *row) for row in rows]
        if is_named(structure):
            return type(structure)(*parts)
        return parts if isinstance(structure, list) else tuple(parts)
    return None if structure is None else fn(structure, *others)


def is_named(structure: Any) -> bool:
    """Whether `structure` is a tuple whose parts have names, so that it is inputs, not (x, y)."""
    return isinstance(structure, tuple) and hasattr(structure, "_fields")
