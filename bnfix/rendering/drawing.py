"""Charts drawn with matplotlib, readable on light and on dark ground.

Nothing goes through pyplot, which would choose a display for the caller's whole process, and no
setting of matplotlib's is touched.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from bnfix.rendering.charts import Bars, Chart, Mood, Panel
from bnfix.rendering.painting import INK, MINOR, hue, is_number, legible, patched, sized, tidied
from bnfix.rendering.strips import draw_strip, strip_height

#: Rows up to which each has a value beside its bar.
_VALUED = 30
#: Inches that a row takes if there is room, and all of a chart at most.
_ROW, _TALLEST = 0.22, 9.0
#: A row this many times longer than the median one would hide the others.
_HIDES = 40.0
#: Whose names come first where not all can be read.
_RANK = {Mood.BAD: 0, Mood.WARNING: 1}


class Picture(Figure):
    """A matplotlib Figure that notebooks show without pyplot."""

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.savefig(out, format="png", dpi=110)
        return out.getvalue()


def drawn(charts: Sequence[Chart], *, ground: str | None = "white") -> Picture:
    """The charts below each other; on `ground`, or on none."""
    heights = [_height(chart) for chart in charts]
    figure = Picture(figsize=(11.0, sum(heights)), layout="constrained")
    figure.patch.set_facecolor(ground or "none")
    parts: Any = figure.subfigures(len(charts), 1, height_ratios=heights, squeeze=False)
    for part, chart in zip(parts[:, 0], charts, strict=True):
        part.patch.set_facecolor("none")
        if isinstance(chart, Bars):
            _draw_bars(part, chart)
        else:
            draw_strip(part, chart)
        part.suptitle(chart.title, x=0.01, ha="left", fontsize=11, color=INK, weight="bold")
    return figure


def _height(chart: Chart) -> float:
    if not isinstance(chart, Bars):
        return strip_height(chart)
    rows = len(chart.labels)
    return 1.3 + min(rows * _ROW, _TALLEST)


def _draw_bars(part: Any, chart: Bars) -> None:
    if not chart.labels:
        axes = part.subplots()
        axes.axis("off")
        axes.text(0.0, 0.5, chart.empty, color=INK, fontsize=10, transform=axes.transAxes)
        return
    found = part.subplots(1, len(chart.panels), squeeze=False)[0]
    moods = chart.moods or (Mood.ACCENT,) * len(chart.labels)
    for at, (axes, panel) in enumerate(zip(found, chart.panels, strict=True)):
        _draw_panel(axes, panel, moods)
        _label(axes, chart if at == 0 else None, moods)


def _label(axes: Any, chart: Bars | None, moods: Sequence[Mood]) -> None:
    """Names of as many rows as can be read, those that stand out before all others."""
    rows = len(moods)
    axes.set_ylim(rows - 0.4, -0.6)
    if chart is None:
        axes.set_yticks([])
        return
    per_row = (_height(chart) - 1.3) / rows
    step = max(1, math.ceil(0.15 / per_row))
    named: list[int] = []
    for at in sorted(range(rows), key=lambda at: (_RANK.get(moods[at], len(_RANK)), at)):
        if all(abs(at - other) >= step for other in named):
            named.append(at)
    axes.set_yticks(named)
    axes.set_yticklabels(
        [legible(chart.labels[at], 44) for at in named], fontsize=8, parse_math=False
    )
    for tick, at in zip(axes.get_yticklabels(), named, strict=True):
        if moods[at] is Mood.BAD:
            tick.set_color(hue(Mood.BAD))
            tick.set_weight("bold")


def _draw_panel(axes: Any, panel: Panel, moods: Sequence[Mood]) -> None:
    tidied(axes)
    values = [value if is_number(value) else None for value in panel.values]
    log = panel.log or _one_hides_the_others(values)
    start, low, high = _span(panel, values, log)
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(low, high)
    for at, value in enumerate(values):
        told = panel.values[at]
        if told is None:
            continue
        end = high if value is None else min(max(value, low), high)
        patched(axes, start, end, at, moods[at], broken=value is None)
        if len(values) <= _VALUED:
            said = "not finite" if value is None else format(value, panel.form)
            _beside(axes, said, start, end, at, (low, high), log)
    if panel.limit is not None and low <= panel.limit <= high:
        axes.axvline(panel.limit, color=MINOR, linestyle="--", linewidth=1)
    said = f"  (dashed: {panel.limit_title})" if panel.limit_title else ""
    axes.set_xlabel(f"{panel.title}{said}", fontsize=9, color=INK)


def _beside(
    axes: Any, said: str, start: float, end: float, at: int, span: tuple[float, float], log: bool
) -> None:
    """The value at the outer end of its bar, or within where the axis ends there."""
    low, high = (math.log10(one) if log else one for one in span)
    here = math.log10(end) if log else end
    outward = end >= start
    room = (high - here if outward else here - low) / (high - low)
    inside = room < 0.14
    right = outward != inside
    axes.annotate(
        said,
        (end, at),
        xytext=(3 if right else -3, 0),
        textcoords="offset points",
        ha="left" if right else "right",
        va="center",
        fontsize=7.5,
        color="white" if inside else INK,
    )


def _span(panel: Panel, values: Sequence[float | None], log: bool) -> tuple[float, float, float]:
    """Where bars start, and both ends of the axis."""
    told = [value for value in values if value is not None]
    marks = [*told, *([] if panel.limit is None else [panel.limit])]
    if not log:
        low, high = min([panel.start, *marks]), max([panel.start, *marks])
        wide = (high - low) or 1.0
        return panel.start, low - (0.15 * wide if low < panel.start else 0.0), high + 0.18 * wide
    marks = [mark for mark in marks if mark > 0] or [1.0]
    if panel.start > 0:
        low, high = min(panel.start, *marks), max(panel.start, *marks)
        reach = (high / low) ** 0.25 * 1.2
        return panel.start, low / reach, high * reach
    low = min(marks) / 3
    high = max(*marks, 30 * low)
    return low, low, high * (high / low) ** 0.2


def _one_hides_the_others(values: Sequence[float | None]) -> bool:
    told = sorted(abs(value) for value in values if value)
    return (
        len(told) > 2
        and told[-1] > _HIDES * told[len(told) // 2]
        and all(value >= 0 for value in values if value is not None)
    )


def svg(chart: Chart) -> str:
    """The picture as an SVG element that takes the colour of the text around it."""
    out = io.StringIO()
    drawn([chart], ground=None).savefig(out, format="svg")
    return sized(out.getvalue())
