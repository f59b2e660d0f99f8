"""A network drawn as a strip of cells, wrapped like text, its reasons below."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from matplotlib.patches import FancyBboxPatch

from bnfix.rendering.charts import Mood, Strip
from bnfix.rendering.painting import INK, hue, legible

#: Cells a row, of networks small enough for names, and of others.
_NAMED, _NAMELESS = 9, 34
#: Cells up to which they have names.
_FEW = 54
#: Reasons that are told, and characters of a line of them.
_REASONS, _LINE = 12, 150


def strip_height(strip: Strip) -> float:
    """In inches."""
    per_row, tall = _shape(strip)
    rows = max(1, math.ceil(len(strip.cells) / per_row))
    return 0.75 + rows * tall + 0.19 * len(_told(strip)) + 0.25 * bool(strip.legend)


def _shape(strip: Strip) -> tuple[int, float]:
    """Cells a row, and inches that a row takes."""
    return (_NAMED, 0.62) if len(strip.cells) <= _FEW else (_NAMELESS, 0.42)


def draw_strip(part: Any, strip: Strip) -> None:
    told = _told(strip)
    per_row, tall = _shape(strip)
    rows = max(1, math.ceil(len(strip.cells) / per_row))
    below = 0.19 * len(told) + 0.25 * bool(strip.legend) + 0.05
    axes, foot = part.subplots(2, 1, height_ratios=[rows * tall, below])
    for each in (axes, foot):
        each.axis("off")
    axes.set_xlim(-0.05, per_row)
    axes.set_ylim(rows, -0.1)
    _draw_cells(axes, strip, per_row)
    if not strip.cells:
        axes.text(0.0, 0.5, strip.empty, color=INK, fontsize=10)
    _draw_foot(foot, strip, told, below)


def _draw_cells(axes: Any, strip: Strip, per_row: int) -> None:
    named = per_row == _NAMED
    numbers = _numbers(strip)
    for at, cell in enumerate(strip.cells):
        x, y = at % per_row, at // per_row
        box = FancyBboxPatch(
            (x + 0.03, y + 0.12),
            0.94 if named else 0.86,
            0.72,
            boxstyle="round,pad=0,rounding_size=0.08",
            mutation_aspect=0.62 if named else 1.0,
            facecolor=hue(cell.mood),
            alpha=0.35 if cell.mood is Mood.PLAIN else 1.0,
            linewidth=0,
        )
        axes.add_patch(box)
        ink = INK if cell.mood in (Mood.PLAIN, Mood.WARNING) else "white"
        mark = f"{numbers[cell.reason]} " if cell.reason else ""
        if named:
            style = {"ha": "center", "va": "center", "parse_math": False, "clip_on": True}
            axes.text(x + 0.5, y + 0.35, legible(cell.kind, 20), fontsize=6.5, color=ink, **style)
            label = legible(mark + cell.label, 18)
            axes.text(x + 0.5, y + 0.63, label, fontsize=6.5, color=ink, weight="bold", **style)
        elif mark:
            axes.text(x + 0.46, y + 0.5, mark, fontsize=7, color=ink, ha="center", va="center")
    for number, (one, other) in enumerate(strip.links):
        _link(axes, one, other, per_row, number % 2)


def _link(axes: Any, one: int, other: int, per_row: int, lane: int) -> None:
    """A line above the cells from one to the other; into the margin where rows end between.

    Neighbours run in two lanes, so that two which overlap can be told apart.
    """
    first, last = sorted((one, other))
    style = {"color": INK, "alpha": 0.7, "linewidth": 1.1}
    up = 0.02 + 0.06 * lane
    if first // per_row == last // per_row:
        left, right = (at % per_row + 0.5 - 0.05 * lane for at in (first, last))
        top = first // per_row + up
        base = first // per_row + 0.13
        axes.plot([left, left, right, right], [base, top, top, base], **style)
        return
    for at, end in ((first, per_row - 0.02), (last, 0.0)):
        x, row = at % per_row + 0.5, at // per_row
        axes.plot([x, x, end], [row + 0.13, row + up, row + up], linestyle=":", **style)


def _draw_foot(axes: Any, strip: Strip, told: list[str], tall: float) -> None:
    axes.set_xlim(0, 11)
    axes.set_ylim(tall, 0)
    y = 0.12
    if strip.legend:
        x = 0.08
        for mood, meaning in strip.legend:
            alpha = 0.35 if mood is Mood.PLAIN else 1.0
            axes.scatter([x], [y], marker="s", s=42, color=hue(mood), alpha=alpha, linewidths=0)
            axes.text(x + 0.12, y, meaning, fontsize=8, color=INK, va="center")
            x += 0.42 + 0.072 * len(meaning)
        y += 0.25
    for line in told:
        axes.text(0.03, y, line, fontsize=8, color=INK, va="center", parse_math=False)
        y += 0.19


def _numbers(strip: Strip) -> dict[str, int]:
    """Of each reason, in the order in which they come up."""
    reasons = dict.fromkeys(cell.reason for cell in strip.cells if cell.reason)
    return {reason: number for number, reason in enumerate(reasons, 1)}


def _told(strip: Strip) -> list[str]:
    """Lines that tell the reasons."""
    numbers = _numbers(strip)
    lines: list[str] = []
    for reason, number in list(numbers.items())[:_REASONS]:
        of = [cell.label for cell in strip.cells if cell.reason == reason]
        more = f" and {len(of) - 1} more" if len(of) > 1 else ""
        said = f"{number}  {legible(of[0], 40)}{more}: {legible(reason, 2 * _LINE - 60)}"
        lines += textwrap.wrap(said, _LINE, subsequent_indent="    ")
    left = len(numbers) - _REASONS
    return [*lines, *([f"and {left} more reasons"] if left > 0 else [])]
