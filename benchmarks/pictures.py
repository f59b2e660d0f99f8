"""What was measured, as a picture: curves where rows lie on some, else ratios as bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .benchmark import AnyBenchmark, Row
from .results import Entry

COLUMNS = 3
COLOURS = ("#0072B2", "#D55E00", "#009E73")


def picture(benchmark: AnyBenchmark, entry: Entry) -> Any:
    """A matplotlib figure; None where there is nothing to draw."""
    if any(row.at is not None for row in entry.rows):
        return _curves(benchmark, [row for row in entry.rows if row.at is not None])
    bars = [
        (", ".join([*row.labels.values(), name]), number)
        for row in entry.rows
        for name, number in row.numbers.items()
        if number.unit == "x"
    ]
    return _bars(benchmark, bars) if bars else None


def _bars(benchmark: AnyBenchmark, bars: Sequence[tuple[str, Any]]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.8 + 0.28 * len(bars)), layout="constrained")
    axes = figure.subplots()
    for place, (_, number) in enumerate(bars):
        axes.barh(place, number.median, color=COLOURS[0], height=0.7)
        axes.plot([min(number.repeats), max(number.repeats)], [place, place], color="black")
    axes.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=8)
    axes.axvline(1.0, color="grey", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_title(benchmark.question, fontsize=9)
    axes.set_xlabel("ratio: median, smallest and largest of the rounds", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _curves(benchmark: AnyBenchmark, rows: Sequence[Row]) -> Any:
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row.table for row in rows))
    height = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 3 * height), layout="constrained")
    grid = figure.subplots(height, COLUMNS, squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        points = [(row.at, row) for row in rows if row.table == name and row.at is not None]
        names_of_numbers = dict.fromkeys(key for _, row in points for key in row.numbers)
        for colour, key in zip(COLOURS, names_of_numbers, strict=False):
            found = [(at, row.numbers[key]) for at, row in points if key in row.numbers]
            unit = found[0][1].unit
            for at, each in found:
                axes.plot([at] * len(each.repeats), each.repeats, ".", color=colour, alpha=0.4)
            medians = [each.median for _, each in found]
            line = {"color": colour, "marker": "o", "clip_on": False, "label": f"{key}, {unit}"}
            axes.plot([at for at, _ in found], medians, **line)
            if unit == "s":
                axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=7)
        axes.set_title(name, fontsize=9)
        axes.set_xlim(left=0)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(grid.flat)[len(names) :]:
        axes.set_axis_off()
    figure.suptitle(benchmark.question, fontsize=10)
    return figure
