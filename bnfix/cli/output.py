"""How does a report reach the user: as text, as colours on a terminal, or as JSON?"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import click

from bnfix.data.images import ImageFolder


def show(
    report: Any, *, as_json: bool, ok: bool = True, out: Path | None = None, ds: Any = None
) -> int:
    """Print `report` on stdout; the exit status that it stands for.

    Args:
        report: A report of bnfix.
        as_json: As one JSON object and nothing else.
        ok: Whether nothing is wrong with the model.
        out: File that was written.
        ds: Data that was read; a folder of images tells what was used of it.
    """
    used = ds.used if isinstance(ds, ImageFolder) else None
    if as_json:
        more = {"out": str(out)} if out else {}
        more |= {"images": used.to_dict()} if used else {}
        told = {"ok": ok, **more, **report.to_dict()}
        click.echo(json.dumps(_strict(told), allow_nan=False))
    else:
        lines = [str(report), *([str(used)] if used else []), *([f"wrote {out}"] if out else [])]
        _print("\n".join(lines))
    return 0 if ok else 1


def _strict(value: Any) -> Any:
    """JSON has no word for what is not finite; readers take null."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
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
