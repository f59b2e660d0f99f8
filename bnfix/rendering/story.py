"""What a report says, in the order in which it says it; whoever shows it reads this alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from bnfix.rendering.charts import Chart, Mood

T = TypeVar("T")


def shown(value: Any) -> str:
    """A value as readers expect it: nothing for None, words for truth, few digits."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(shown, value)) if isinstance(value, (tuple, list)) else str(value)


def _calm(_: Any) -> Mood:
    return Mood.PLAIN


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column of a table, and how it comes about.

    Attributes:
        name: In data frames.
        get: The value of a row: a string, number, truth value, tuple of these, or None.
        title: For readers; the name by default.
        show: A value as text.
        right: Whether it stands at the right, as numbers do.
        least: Characters that the column takes in text at least, so that two tables line up.
        mood: Of the value of a row.
        told: Whether readers see it; others stand in data frames alone, for they take it apart.
    """

    name: str
    get: Callable[[T], Any]
    title: str | None = None
    show: Callable[[Any], str] = shown
    right: bool = False
    least: int = 0
    mood: Callable[[T], Mood] = _calm
    told: bool = True

    @property
    def heading(self) -> str:
        return self.name if self.title is None else self.title


@dataclass(frozen=True)
class Entry:
    """What stands in one place of a table: the value, what is shown of it, and its mood."""

    value: Any
    text: str
    mood: Mood


@dataclass(frozen=True)
class Table:
    """Rows and columns.

    Attributes:
        name: By which a data frame of it is asked for.
        columns: From the left.
        rows: One entry a column each.
        lines: What text says in its place; None where it shows the table.
        title: Where readers would not know what the table is.
    """

    name: str
    columns: tuple[Column[Any], ...]
    rows: tuple[tuple[Entry, ...], ...]
    lines: tuple[str, ...] | None = None
    title: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        items: Iterable[T],
        columns: Sequence[Column[T]],
        lines: Iterable[str] | None = None,
        *,
        title: str = "",
    ) -> Table:
        """A row for each of `items`."""
        rows = tuple(tuple(_entry(column, item) for column in columns) for item in items)
        return cls(name, tuple(columns), rows, None if lines is None else tuple(lines), title)

    @property
    def told(self) -> tuple[int, ...]:
        """Positions of the columns that readers see."""
        return tuple(at for at, column in enumerate(self.columns) if column.told)


def _entry(column: Column[T], item: T) -> Entry:
    value = column.get(item)
    return Entry(value, column.show(value), column.mood(item))


@dataclass(frozen=True)
class Remark:
    """A sentence."""

    text: str
    mood: Mood = Mood.PLAIN


@dataclass(frozen=True)
class Section:
    """A report within a report.

    Attributes:
        title: What it is about; empty where its head says so.
        story: What it says.
        in_text: Whether text says it too, or pages alone.
    """

    title: str
    story: Story
    in_text: bool = True


Part = Table | Remark | Section


@dataclass(frozen=True)
class Story:
    """What a report says.

    Attributes:
        head: The first line, which tells what came of it.
        parts: What follows.
        mood: Of the whole.
        charts: What can be drawn of it.
    """

    head: str
    parts: tuple[Part, ...] = ()
    mood: Mood = Mood.PLAIN
    charts: tuple[Chart, ...] = ()

    def tables(self) -> Iterator[Table]:
        """Its own."""
        return (part for part in self.parts if isinstance(part, Table))

    def sections(self) -> Iterator[Section]:
        return (part for part in self.parts if isinstance(part, Section))

    def pictures(self) -> Iterator[Chart]:
        """Its own, and those of its sections under their titles."""
        yield from self.charts
        for section in self.sections():
            before = f"{section.title}: " if section.title else ""
            for chart in section.story.pictures():
                yield replace(chart, title=f"{before}{chart.title}")


def notes(sentences: Iterable[str]) -> tuple[Remark, ...]:
    return tuple(Remark(f"note: {sentence}") for sentence in sentences)


def in_sigma(value: float) -> str:
    """A distance in standard deviations, which no number of digits makes more exact where large."""
    return f"{value:.2f} sigma" if abs(value) < _FAR else f"{value:.2g} sigma"


_FAR = 1e4
