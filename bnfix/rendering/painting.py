"""Colours, short names and clean axes: what all charts have in common."""

from __future__ import annotations

import math
import re
from typing import Any

from bnfix.rendering.charts import Mood
from bnfix.rendering.text import printable

#: Text and lines. On pages it gives way to the colour of the text around the picture, so it is one
#: that nothing else is drawn in.
INK = "#202124"
MINOR = "#8a8d91"

#: Okabe and Ito's palette, which colour-blind readers can tell apart, on light and on dark ground.
_HUES = {
    Mood.GOOD: "#009e73",
    Mood.ACCENT: "#3b88c3",
    Mood.WARNING: "#e69f00",
    Mood.BAD: "#d55e00",
    Mood.PLAIN: "#a3a6aa",
}


def hue(mood: Mood) -> str:
    return _HUES[mood]


def is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def legible(name: str, most: int) -> str:
    """`name` without its middle where it is longer than `most`."""
    name = printable(name)
    if len(name) <= most:
        return name
    front = (most - 1) // 2
    return f"{name[:front]}…{name[len(name) - (most - 1 - front) :]}"


def tidied(axes: Any) -> None:
    axes.patch.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MINOR)
    axes.tick_params(colors=INK, labelsize=8, length=3)
    axes.grid(True, axis="x", color=MINOR, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def patched(axes: Any, start: float, end: float, at: int, mood: Mood, *, broken: bool) -> None:
    """A bar from `start` to `end` in row `at`; hatched where there is no end to it."""
    axes.barh(
        at,
        end - start,
        left=start,
        height=0.72,
        color=hue(mood),
        hatch="///" if broken else None,
        edgecolor="white" if broken else "none",
        linewidth=0,
    )


def sized(picture: str) -> str:
    """An SVG file of matplotlib's as an element of a page.

    Without what only files need, without identifiers that would be there twice on a page with two
    pictures, and as wide as there is room.
    """
    element = picture[picture.index("<svg") :]
    element = re.sub(r"\s*<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r"<!--.*?-->", "", element, flags=re.DOTALL)
    element = re.sub(r'<g id="[a-zA-Z]+[\d.]*_\d+">', "<g>", element)
    element = re.sub(r' (width|height)="[\d.]+pt"', "", element, count=2)
    return element.replace(INK, "currentColor").replace("<svg ", '<svg class="picture" ', 1)
