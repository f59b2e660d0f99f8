"""What an operation did and did not do, as immutable data that prints well."""

from __future__ import annotations

import dataclasses
import html
import math
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Word(str, Enum):
    """A word of a fixed few, equal to and printed as its text: Python 3.11's `StrEnum`."""

    def __str__(self) -> str:
        return str(self.value)


class Rendered:
    """Base of all reports: `str()` for terminals, HTML for notebooks, `to_dict()` for machines.

    Two are equal if they are of one class and say the same; equal ones have the same hash.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # What dataclasses would generate stumbles over arrays; it leaves alone what is there.
        cls.__eq__ = Rendered.__eq__
        cls.__hash__ = Rendered.__hash__

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and _content(self) == _content(other)

    def __hash__(self) -> int:
        return hash(_content(self))

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """The report as nested dicts, lists, strings and numbers."""
        return {
            field.name: _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
        }


class VerbReport(Rendered):
    """Base of what a verb returns: true where its `ok` holds; without one, neither true nor false.

    "Anything done?" and "all well?" are both near, and an `if` does not tell which is meant.
    """

    def __bool__(self) -> bool:
        ok = getattr(self, "ok", None)
        if ok is None:
            names = (field.name for field in dataclasses.fields(self))  # type: ignore[arg-type]
            raise TypeError(
                f"a {type(self).__name__} is neither true nor false. Ask for what you mean: "
                f"{', '.join(name for name in (*names, 'changed') if hasattr(self, name))}."
            )
        return bool(ok)


@dataclass(frozen=True)
class Outcome(Rendered):
    """What became of one layer.

    Attributes:
        path: Full path of the layer; nested models repeat names.
        changed: Whether the operation changed it.
        detail: What was done, or why not.
    """

    path: str
    changed: bool
    detail: str


@dataclass(frozen=True)
class Report(VerbReport):
    """What an operation did, layer by layer.

    Attributes:
        operation: Name of the bnfix function.
        outcomes: One per layer that the operation is about, in the model's order.
        notes: What else the user should know, a sentence each.
    """

    operation: str
    outcomes: tuple[Outcome, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.changed)

    @property
    def declined(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if not outcome.changed)

    def __str__(self) -> str:
        head = f"{self.operation}: {len(self.changed)} of {len(self.outcomes)} layers changed"
        rows = [
            f"  {'changed ' if outcome.changed else 'declined'}  {outcome.path}: {outcome.detail}"
            for outcome in self.outcomes
        ]
        return "\n".join([head, *rows, *(f"  note: {note}" for note in self.notes)])


def _content(value: Any) -> Any:
    """`value` as something that can be compared and hashed; what is no number equals itself."""
    if isinstance(value, Rendered):
        fields = dataclasses.fields(value)  # type: ignore[arg-type]
        return type(value), *(_content(getattr(value, field.name)) for field in fields)
    if isinstance(value, (list, tuple)):
        return tuple(_content(item) for item in value)
    if isinstance(value, dict):
        return frozenset((key, _content(item)) for key, item in value.items())
    if hasattr(value, "tobytes"):
        return value.shape, value.dtype.str, value.tobytes()
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Rendered):
        return value.to_dict()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    return value
