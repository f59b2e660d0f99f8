"""A story as one page that stands by itself: pictures, sortable tables, and what it is about."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from bnfix.errors import FileError
from bnfix.rendering.charts import Chart
from bnfix.rendering.environment import Fingerprint, environment, fingerprints
from bnfix.rendering.html import STYLE, body, escaped
from bnfix.rendering.story import Column, Story, Table
from bnfix.replacing import replacing

_SUFFIXES = (".html", ".htm")

_SCRIPT = """
for (const th of document.querySelectorAll(".bnfix th")) {
  const button = document.createElement("button");
  button.append(...th.childNodes);
  th.append(button);
  button.onclick = () => {
    const up = th.getAttribute("aria-sort") !== "ascending";
    for (const other of th.parentNode.cells) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = th.closest("table").tBodies[0], at = th.cellIndex;
    const order = (a, b) => {
      const [x, y] = [a, b].map((row) => row.cells[at]);
      if ("key" in x.dataset && "key" in y.dataset) return x.dataset.key - y.dataset.key;
      return x.textContent.localeCompare(y.textContent, "en", {numeric: true});
    };
    body.append(...[...body.rows].sort((a, b) => (up ? order(a, b) : order(b, a))));
  };
}
"""

_STYLE = f"""{STYLE}
:root{{color-scheme:light dark}}
body{{margin:2em auto;max-width:76em;padding:0 1.5em;background:#fff;color:#202124}}
.bnfix hr{{border:0;border-top:1px solid rgba(128,128,128,.35);margin:2em 0 1em}}
.bnfix .head{{font-size:16px}}
.bnfix section .head{{font-size:14px}}
.bnfix th button{{all:unset;cursor:pointer}}
.bnfix th button:focus-visible{{outline:2px solid #3b88c3}}
.bnfix th[aria-sort=ascending] button::after{{content:" \\2191"}}
.bnfix th[aria-sort=descending] button::after{{content:" \\2193"}}
.bnfix .picture{{width:100%;min-width:48em;height:auto;margin:.6em 0}}
.bnfix code{{overflow-wrap:anywhere;font-size:12px}}
@media (max-width:40em){{body{{margin:1em auto;padding:0 1em}}.bnfix section{{padding-left:.5em}}}}
@media (prefers-color-scheme:dark){{body{{background:#17191d;color:#e3e5e8}}}}
@media print{{body{{margin:0;max-width:none}}.bnfix .picture{{min-width:0}}}}
"""

#: Of the script above alone; whatever else might get into a page does not run, and nothing loads.
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_HASH}'"


def place_of_page(path: str | os.PathLike[str]) -> Path:
    """`path`, if its name is that of a page, so that no model is replaced by one.

    Raises:
        FileError: It is not.
    """
    place = Path(path)
    if place.suffix.lower() not in _SUFFIXES:
        raise FileError(f"{place} is no name for a page; one that ends in .html is required.")
    return place


def write_page(
    story: Story, path: str | os.PathLike[str], files: Iterable[str | os.PathLike[str]]
) -> None:
    """Write the page, whole or not at all; a page that is there is replaced."""
    place = place_of_page(path)
    text = page(story, fingerprints(files))
    with replacing(place) as draft:
        draft.write_text(text, "utf-8")


def page(story: Story, about: tuple[Fingerprint, ...]) -> str:
    title = escaped(story.head)
    pictures = _artist() if any(story.pictures()) else None
    missing = () if pictures or not any(story.pictures()) else (_NO_PICTURES,)
    content = "".join([*body(story, pictures), *missing, *_provenance(about)])
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>bnfix {title}</title><style>{_STYLE}</style></head>"
        f'<body class="bnfix">{content}<script>{_SCRIPT}</script></body></html>\n'
    )


_NO_PICTURES = '<p>Pictures are left out: they need pip install "bnfix[plot]".</p>'


def _artist() -> Callable[[Chart], str] | None:
    try:
        from bnfix.rendering.drawing import svg
    except ImportError:
        return None
    return svg


def _provenance(about: tuple[Fingerprint, ...]) -> list[str]:
    """What the report is about, and with what it was made."""
    files = Table.of(
        "files",
        about,
        [
            Column("file", lambda one: one.path),
            Column("bytes", lambda one: one.size, show="{:,}".format, right=True),
            Column("sha256", lambda one: one.sha256, "SHA-256"),
        ],
        title="The files that it is about",
    )
    versions = Table.of(
        "environment",
        environment().items(),
        [Column("what", lambda one: one[0], ""), Column("version", lambda one: one[1], "")],
        title="Made with",
    )
    parts = (*([files] if about else []), versions)
    return ["<hr>", *list(body(Story("", parts)))[1:]]
