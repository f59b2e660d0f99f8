"""The base of all reports: immutable data that prints well, and is shown in many ways."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable
from enum import Enum
from typing import Any, ClassVar

from bnfix.errors import BnfixError
from bnfix.rendering.frame import frame
from bnfix.rendering.html import fragment
from bnfix.rendering.page import write_page
from bnfix.rendering.story import Column, Story, Table
from bnfix.rendering.text import text

#: Items of a tuple of reports that a console shows.
_SHORT = 6


class Word(str, Enum):
    """A word of a fixed few, equal to and printed as its text: Python 3.11's `StrEnum`."""

    def __str__(self) -> str:
        return str(self.value)


class Rows(tuple[Any, ...]):
    """A tuple of reports that does not flood a console."""

    def __repr__(self) -> str:
        if len(self) <= _SHORT:
            return super().__repr__()
        shown = ",\n ".join(map(repr, self[:_SHORT]))
        return f"({shown},\n ... and {len(self) - _SHORT} more)"


class Rendered:
    """Base of all reports: `str()` for terminals, HTML for notebooks, `to_dict()` for machines.

    Two are equal if they are of one class and say the same; equal ones have the same hash.

    Attributes:
        derived: Names of properties that `to_dict()` tells beside the fields.
    """

    derived: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, tuple) and value and isinstance(value[0], Rendered):
                object.__setattr__(self, field.name, Rows(value))

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # What dataclasses would generate stumbles over arrays; it leaves alone what is there.
        cls.__eq__ = Rendered.__eq__
        cls.__hash__ = Rendered.__hash__
        cls.__repr__ = Rendered.__repr__

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and _content(self) == _content(other)

    def __hash__(self) -> int:
        return hash(_content(self))

    def __repr__(self) -> str:
        """As a dataclass's own, without what was left as it is and without long arrays."""
        told = [
            f"{field.name}={_brief(getattr(self, field.name))}"
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if not _is_default(field, getattr(self, field.name))
        ]
        return f"{type(self).__name__}({', '.join(told)})"

    def story(self) -> Story:
        """What is told, for whoever shows it: here the fields."""
        fields = {
            field.name: _brief(getattr(self, field.name))
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
        }
        columns = [Column[Any]("field", lambda f: f[0]), Column[Any]("value", lambda f: f[1])]
        return Story(type(self).__name__, (Table.of("fields", fields.items(), columns),))

    def _repr_html_(self) -> str:
        return fragment(self.story())

    def to_dict(self) -> dict[str, Any]:
        """The report as nested dicts, lists, strings and numbers.

        `reports.schema.json` in the package says what is in it.
        """
        fields = (field.name for field in dataclasses.fields(self))  # type: ignore[arg-type]
        return {name: _plain(getattr(self, name)) for name in (*fields, *self.derived)}


class VerbReport(Rendered):
    """Base of what a verb returns: true where its `ok` holds; without one, neither true nor false.

    "Anything done?" and "all well?" are both near, and an `if` does not tell which is meant.
    """

    def __str__(self) -> str:
        return text(self.story())

    def plot(self) -> Any:
        """The report as a matplotlib `Figure`, which is neither shown nor saved.

        Raises:
            BnfixError: matplotlib is not installed.

        Examples:
            >>> bnfix.check(model, x).plot().savefig("check.png")
        """
        try:
            from bnfix.rendering.drawing import drawn
        except ImportError as error:
            raise BnfixError('pictures need matplotlib: pip install "bnfix[plot]".') from error
        return drawn(list(self.story().pictures()))

    def to_html(
        self, path: str | os.PathLike[str], *, files: Iterable[str | os.PathLike[str]] = ()
    ) -> None:
        """Write the report as a page that stands by itself, to be filed with the model.

        It has everything that the text says, pictures where matplotlib is installed, and the
        versions that it was made with. It loads nothing, and nothing of it runs but the few lines
        that sort its tables. It is written whole or not at all, and replaces a page that is there.

        Args:
            path: Ends in `.html`.
            files: Files and folders that the report is about, such as those of the model and the
                data. Each is told with its size and its SHA-256, as `sha256sum` prints it.

        Raises:
            FileError: `path` is no name for a page or cannot be written to, or one of `files`
                cannot be read.
            ResourceError: The disk is full.

        Examples:
            >>> bnfix.diagnose(model, x).to_html("diagnosis.html")
        """
        write_page(self.story(), path, files)

    def to_dataframe(self, table: str | None = None) -> Any:
        """A table of the report as a pandas `DataFrame`, derived columns included.

        Args:
            table: Its name; by default the first that holds anything.

        Raises:
            OptionError: The report has no such table; the message names those that it has.
            BnfixError: pandas is not installed.

        Examples:
            >>> bnfix.diagnose(model, x).to_dataframe("layers")["path"].tolist()
            ['bn']
        """
        return frame(self.story(), table)

    def __bool__(self) -> bool:
        ok = getattr(self, "ok", None)
        if ok is None:
            names = (field.name for field in dataclasses.fields(self))  # type: ignore[arg-type]
            raise TypeError(
                f"a {type(self).__name__} is neither true nor false. Ask for what you mean: "
                f"{', '.join(name for name in (*names, 'changed') if hasattr(self, name))}."
            )
        return bool(ok)


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
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, Rendered):
        return value.to_dict()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def _brief(value: Any) -> str:
    if hasattr(value, "tobytes") and getattr(value, "size", 0) > 4:
        return f"<{value.size} numbers, {value.min():.3g} to {value.max():.3g}>"
    return str(value) if isinstance(value, Word) else repr(value)


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    return field.default is not dataclasses.MISSING and _content(field.default) == _content(value)
