"""Which layers the user means: by path, by several paths, or by a predicate on paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bnfix.errors import BnfixError, OptionError

Selection = str | Iterable[str] | Callable[[str], bool] | None


class SelectionError(BnfixError):
    """A path was asked for that the model does not have."""


def select(selection: Selection, paths: Iterable[str], *, what: str) -> set[str]:
    """Those of `paths` that `selection` means; all for None.

    A path also selects everything inside it, so "encoder" stands for "encoder/stage2/bn3".

    Raises:
        SelectionError: A path selects nothing; `what` names in the message what was looked for.
    """
    known = list(paths)
    if selection is None:
        return set(known)
    if callable(selection):
        return {path for path in known if selection(path)}
    if not hasattr(selection, "__iter__"):
        raise OptionError(f"layers: {selection!r} is no path, no paths and no function of a path.")
    wanted = [selection] if isinstance(selection, str) else list(selection)
    found: set[str] = set()
    for prefix in wanted:
        inside = {path for path in known if path == prefix or path.startswith(f"{prefix}/")}
        if not inside:
            raise SelectionError(
                f"layers: no {what} at {prefix!r}; the model has them at "
                f"{', '.join(known) or 'no path'}. "
                "Give one of these paths, the name of a nested model, or a function of a path.",
                path=prefix,
            )
        found |= inside
    return found
