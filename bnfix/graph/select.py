"""Which layers the user means: by path, by several paths, or by a predicate on paths."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bnfix.errors import OptionError

Selection = str | Iterable[str] | Callable[[str], bool] | None


def select(selection: Selection, paths: Iterable[str], *, what: str) -> set[str]:
    """Those of `paths` that `selection` means; all for None.

    A path also selects everything inside it, so "encoder" stands for "encoder/stage2/bn3".

    Raises:
        OptionError: Paths select nothing, or `selection` is of another kind; `what` names in the
            message what was looked for.
    """
    known = list(paths)
    if selection is None:
        return set(known)
    if callable(selection):
        return {path for path in known if selection(path)}
    wanted = [selection] if isinstance(selection, str) else _listed(selection)
    inside = {
        prefix: {path for path in known if path == prefix or path.startswith(f"{prefix}/")}
        for prefix in wanted
    }
    unknown = [prefix for prefix, found in inside.items() if not found]
    if unknown:
        raise OptionError(_nothing_at(unknown, known, what), path=unknown[0])
    return {path for found in inside.values() for path in found}


def _listed(selection: Iterable[str]) -> list[str]:
    wanted: list[Any] = list(selection) if hasattr(selection, "__iter__") else [selection]
    if not all(isinstance(path, str) for path in wanted):
        raise OptionError(f"layers: {selection!r} is no path, no paths and no function of a path.")
    return wanted


def _nothing_at(unknown: Sequence[str], known: Sequence[str], what: str) -> str:
    asked = ", ".join(map(repr, unknown))
    if not known:
        return f"layers: no {what} at {asked}; the model has none at all. Leave layers out."
    return (
        f"layers: no {what} at {asked}; {alternatives(unknown, known)}. "
        "Give paths of these, the name of a nested model, or a function of a path."
    )


def alternatives(unknown: Sequence[str], known: Sequence[str]) -> str:
    """What `known` has in place of `unknown`, said: the nearest, or what there is."""
    # The whole path of a layer whose name alone was given, or one that was misspelt.
    near = [
        path
        for prefix in unknown
        for path in dict.fromkeys(
            [
                *(path for path in known if path.rpartition("/")[2] == prefix),
                *difflib.get_close_matches(prefix, known, n=_NEAREST),
            ]
        )
    ]
    shown = list(dict.fromkeys(near)) or list(known)
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    said = "the nearest are" if near else "there are"
    return f"{said} {', '.join(shown[:_LISTED])}{more}"


_NEAREST = 3
_LISTED = 8
