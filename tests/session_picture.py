"""A picture of the terminal session in `docs/first_steps.md`; `docs/session.svg` is what it prints.

python tests/session_picture.py > docs/session.svg
"""

from __future__ import annotations

import io
import re
import sys

from pages import PAGES, sessions
from rich.console import Console
from rich.text import Text

WIDTH = 108  # columns
TITLE = "model.h5 and what it was trained on"
#: Nothing is loaded from elsewhere; a reader without the font has another of the same width.
FONTS = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


def picture() -> str:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for command, shown in sessions(PAGES["docs/first_steps.md"]):
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        for line in shown.splitlines():
            console.print(Text(line, "red" if line.strip().startswith("fault") else ""))
    svg = console.export_svg(title=TITLE, unique_id="session")
    return FONTS.sub("", svg)


if __name__ == "__main__":
    sys.stdout.write(picture())
