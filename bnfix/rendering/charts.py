"""What a picture shows, as plain data; `drawing` alone knows with what it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Mood(Enum):
    """How good or bad something is; colours tell it, and never they alone."""

    GOOD = "good"
    ACCENT = "accent"
    WARNING = "warning"
    BAD = "bad"
    PLAIN = "plain"


@dataclass(frozen=True)
class Panel:
    """One number for each row of `Bars`.

    Attributes:
        title: What the numbers are, with their unit.
        values: One a row; None where there is none.
        log: Whether the axis is logarithmic, so that 0 stands at its beginning; otherwise it
            becomes so where one row would hide all others.
        start: Where bars begin: the value that is right.
        limit: A line to hold the values against, or None.
        limit_title: What it is.
        form: Format of a value beside its bar.
    """

    title: str
    values: tuple[float | None, ...]
    log: bool = False
    start: float = 0.0
    limit: float | None = None
    limit_title: str = ""
    form: str = ".2g"


@dataclass(frozen=True)
class Bars:
    """Horizontal bars, a row for each label, in one panel or in several side by side.

    Attributes:
        title: Of the whole.
        labels: Of the rows, from above.
        panels: From the left.
        moods: One a row; empty for all alike.
        empty: What to say where there are no rows.
    """

    title: str
    labels: tuple[str, ...]
    panels: tuple[Panel, ...]
    moods: tuple[Mood, ...] = ()
    empty: str = "nothing was measured"


@dataclass(frozen=True)
class Cell:
    """One layer in a `Strip`.

    Attributes:
        label: Its path.
        kind: Its class.
        mood: What became of it.
        reason: Why it stays or what is wrong with it; empty where there is nothing to say.
    """

    label: str
    kind: str
    mood: Mood = Mood.PLAIN
    reason: str = ""


@dataclass(frozen=True)
class Strip:
    """A network as a strip of cells in the order in which its layers run.

    Attributes:
        title: Of the whole.
        cells: One a layer.
        links: Positions of two cells that belong together.
        legend: What the moods mean here.
        empty: What to say where there are no cells.
    """

    title: str
    cells: tuple[Cell, ...]
    links: tuple[tuple[int, int], ...] = ()
    legend: tuple[tuple[Mood, str], ...] = ()
    empty: str = "there is no layer to show"


Chart = Bars | Strip
