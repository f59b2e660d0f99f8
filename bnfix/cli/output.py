"""How does a report reach the user: as text, as colours on a terminal, as JSON, or as a page?"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bnfix.cli import REFUSED
from bnfix.cli.target import writable
from bnfix.data.images import ImageFolder
from bnfix.errors import BnfixError
from bnfix.rendering.page import place_of_page


@dataclass(frozen=True)
class Telling:
    """How the user wants to be told; refused before any work is done, if it cannot be.

    Attributes:
        as_json: As one JSON object and nothing else.
        html: Page to write as well, or None.
    """

    as_json: bool
    html: Path | None

    def __post_init__(self) -> None:
        if self.html is not None:
            writable(place_of_page(self.html), "--html")


def show(
    report: Any,
    telling: Telling,
    *,
    ok: bool = True,
    files: Sequence[Path | None] = (),
    out: Path | None = None,
    ds: Any = None,
) -> int:
    """Print `report` on stdout; the exit status that it stands for.

    Args:
        report: A report of bnfix.
        telling: How.
        ok: Whether nothing is wrong with the model.
        files: What was read.
        out: File that was written.
        ds: Data that was read; a folder of images tells what was used of it.
    """
    used = ds.used if isinstance(ds, ImageFolder) else None
    if telling.as_json:
        more = {"out": str(out)} if out else {}
        more |= {"images": used.to_dict()} if used else {}
        told = {"ok": ok, **more, **report.to_dict()}
        click.echo(json.dumps(strict(told), allow_nan=False))
    else:
        lines = [str(report), *([str(used)] if used else []), *([f"wrote {out}"] if out else [])]
        _print("\n".join(lines))
    status = 0 if ok else 1
    return status if telling.html is None else _page(report, telling.html, files, out) or status


def _page(report: Any, place: Path, files: Sequence[Path | None], out: Path | None) -> int:
    """Write the page; 0 if that is done."""
    try:
        report.to_html(place, files=[file for file in (*files, out) if file is not None])
    except BnfixError as refusal:
        if out is None:
            raise
        # The model is in its place, so that nobody may say that nothing was changed.
        click.echo(f"bnfix: {out} was written, its page was not: {refusal}", err=True)
        return REFUSED
    return 0


def strict(value: Any) -> Any:
    """JSON has no word for what is not finite; readers take null."""
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print(text: str) -> None:
    if not sys.stdout.isatty():
        click.echo(text)
        return
    from rich.console import Console
    from rich.text import Text

    shown = Text(text)
    for style, pattern in _STYLES.items():
        shown.highlight_regex(pattern, style)
    # The terminal wraps, so that what is copied from it has no line breaks of rich's.
    Console().print(shown, soft_wrap=True)


#: What to look at first; none of it is told by the colour alone.
_STYLES = {
    "bold": r"(?m)^\w+: .*|^wrote .*",
    "red": r"NOT \w+|\d+ faults?\b|(?m:^ +fault:)",
    "yellow": r"(?m:^ +(warning|declined|note|left)\b)|partly repaired",
    "green": r"(?m:^check: ok|^diagnose: nothing wrong|^repair: (repaired|nothing)|^ +changed )",
    "cyan": r"(?m:(?<=fix: )\S.*)",
}
