"""What a benchmark is: a question, options, rows of measured numbers, and targets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Options = TypeVar("Options")

#: The units of numbers, and how a table writes them.
UNITS = {
    "s": "{:.3g}",
    "ms": "{:.1f}",
    "KiB": "{:.0f}",
    "MiB": "{:.0f}",
    "GiB": "{:.2f}",
    "x": "{:.2f}",
    "%": "{:.1f}",
    "count": "{:.0f}",
    "sigma": "{:.1e}",
    "of the largest": "{:.1e}",
    "of a probability": "{:.1e}",
    "relative": "{:.1e}",
}


@dataclass(frozen=True)
class Measured:
    """A number, once for each round: ratios and differences are those of the same round.

    Attributes:
        unit: One of `UNITS`; `x` is a ratio.
        repeats: One value a round, in the order in which they were measured.
    """

    unit: str
    repeats: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.unit not in UNITS or not self.repeats:
            raise ValueError(f"needs a unit out of {[*UNITS]} and a value; got {self}")

    @property
    def median(self) -> float:
        return statistics.median(self.repeats)

    def __add__(self, other: Measured) -> Measured:
        return Measured(self.unit, tuple(a + b for a, b in self._rounds(other)))

    def __sub__(self, other: Measured) -> Measured:
        return Measured(self.unit, tuple(a - b for a, b in self._rounds(other)))

    def __truediv__(self, other: Measured) -> Measured:
        return Measured("x", tuple(a / b for a, b in self._rounds(other)))

    def _rounds(self, other: Measured) -> Iterator[tuple[float, float]]:
        if self.unit != other.unit:
            raise ValueError(f"{self.unit} and {other.unit} do not compare")
        return zip(self.repeats, other.repeats, strict=True)


def once(unit: str, value: float) -> Measured:
    """A number that was measured once, or that does not vary."""
    return Measured(unit, (float(value),))


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        labels: What was measured, by the head of a column.
        numbers: What came of it, likewise.
        notes: What there is to say in words, likewise, behind the numbers.
        table: Its title, where a benchmark has several.
        at: Where on a curve the row lies, as a number.
    """

    labels: Mapping[str, str]
    numbers: Mapping[str, Measured]
    notes: Mapping[str, str] = field(default_factory=dict[str, str])
    table: str = ""
    at: float | None = None


@dataclass(frozen=True)
class Skipped:
    """What was not measured, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class Target:
    """What a number is to be at most: the median, in each row whose labels `where` names.

    Attributes:
        what: In words.
        number: The head of its column.
        most: In the unit of that column.
        where: Labels that rows must have; the row with the largest median counts.
        bounds: The heads of columns that say what bounds it, where any do.
    """

    what: str
    number: str
    most: float
    where: Mapping[str, str] = field(default_factory=dict[str, str])
    bounds: tuple[str, ...] = ()

    def row(self, rows: Iterable[Row]) -> Row | None:
        """The one that counts; None where none was measured."""
        found = [
            row
            for row in rows
            if self.number in row.numbers and self.where.items() <= row.labels.items()
        ]
        return max(found, key=lambda row: row.numbers[self.number].median, default=None)


@dataclass(frozen=True)
class Benchmark(Generic[Options]):
    """A benchmark, as its module describes it.

    Attributes:
        name: That of its module.
        about: The module's docstring: the question, then what the columns mean.
        measure: Yields rows, and what it has to leave out.
        full: Options, a dataclass of numbers, strings and tuples of these: sizes and `repeats` that
            the targets are for.
        quick: Sizes that show that it runs, in some seconds; no target is judged by them.
        targets: What its numbers are to be.
        requires: Packages without which there is nothing to measure.
    """

    name: str
    about: str | None
    measure: Callable[[Options], Iterable[Row | Skipped]]
    full: Options
    quick: Options
    targets: tuple[Target, ...] = ()
    requires: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        return (self.about or "").strip().partition("\n")[0]


#: Whatever its options are.
AnyBenchmark = Benchmark[Any]
