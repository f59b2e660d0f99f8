"""A story as HTML: tables that line up, causes in colour. Nothing of it is trusted."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator

from bnfix.rendering.charts import Chart, Mood
from bnfix.rendering.story import Entry, Remark, Story, Table
from bnfix.rendering.text import printable

#: Solid labels with white letters can be read in a notebook of any colour; all else takes the
#: colour of the text around it.
STYLE = """
.bnfix{font:14px/1.45 system-ui,sans-serif}
.bnfix p{margin:.25em 0;max-width:75em;overflow-wrap:anywhere}
.bnfix .head{font-weight:600;border-left:4px solid #8a8d91;padding-left:.6em}
.bnfix .head.good{border-color:#00805d}.bnfix .head.warning{border-color:#9a6700}
.bnfix .head.bad{border-color:#c2410c}
.bnfix table{border-collapse:collapse;margin:.6em 0;font-size:13px}
.bnfix th,.bnfix td{padding:.25em .8em;border-bottom:1px solid rgba(128,128,128,.35);
text-align:left;vertical-align:top;background:none}
.bnfix td{max-width:40em;overflow-wrap:break-word}
.bnfix td.long{min-width:15.5em;overflow-wrap:anywhere}
.bnfix th{border-bottom-width:2px;white-space:nowrap}
.bnfix td.right,.bnfix th.right{text-align:right;font-variant-numeric:tabular-nums;
white-space:nowrap}
.bnfix caption{text-align:left;font-weight:600;padding:.3em .8em}
.bnfix .wide{overflow-x:auto}
.bnfix .label{color:#fff;border-radius:.6em;padding:.05em .6em;white-space:nowrap}
.bnfix .label.good{background:#00805d}.bnfix .label.warning{background:#9a6700}
.bnfix .label.bad{background:#c2410c}.bnfix .label.accent{background:#2b6cb0}
.bnfix section{margin:.8em 0 .8em .2em;padding-left:1em;border-left:1px solid rgba(128,128,128,.35)}
.bnfix section>h2{font-size:15px;margin:.2em 0}
"""

#: Characters of a text that may take several lines.
_LONG = 40


def fragment(story: Story) -> str:
    """For a notebook."""
    return f'<div class="bnfix"><style>{STYLE}</style>{"".join(body(story))}</div>'


def body(story: Story, picture: Callable[[Chart], str] | None = None) -> Iterator[str]:
    """Its elements; after what is told stand the pictures, made by `picture`."""
    yield f'<p class="head {story.mood.value}">{escaped(story.head)}</p>'
    for part in story.parts:
        if isinstance(part, Remark):
            yield f"<p>{_remark(part)}</p>"
        elif isinstance(part, Table):
            yield _table(part) if part.rows else ""
        else:
            title = f"<h2>{escaped(part.title)}</h2>" if part.title else ""
            yield f"<section>{title}{''.join(body(part.story, picture))}</section>"
    if picture is not None:
        yield from (f'<div class="wide">{picture(chart)}</div>' for chart in story.charts)


def escaped(text: str) -> str:
    return html.escape(printable(text))


def _remark(remark: Remark) -> str:
    """Its first word as a label, where it has a colour."""
    word, colon, rest = remark.text.partition(": ")
    if remark.mood is Mood.PLAIN or not colon:
        return escaped(remark.text)
    return f"{_label(word, remark.mood)} {escaped(rest)}"


def _label(text: str, mood: Mood) -> str:
    return f'<span class="label {mood.value}">{escaped(text)}</span>'


def _table(table: Table) -> str:
    columns = [(at, table.columns[at]) for at in table.told]
    side = {at: _side(table, at) for at, _ in columns}
    titles = "".join(f"<th{side[at]}>{escaped(column.heading)}</th>" for at, column in columns)
    rows = "".join(
        "<tr>"
        + "".join(f"<td{side[at]}{_key(row[at])}>{_cell(row[at])}</td>" for at, _ in columns)
        + "</tr>"
        for row in table.rows
    )
    caption = f"<caption>{escaped(table.title)}</caption>" if table.title else ""
    head = f"<thead><tr>{titles}</tr></thead>" if any(each.heading for _, each in columns) else ""
    return f'<div class="wide"><table>{caption}{head}<tbody>{rows}</tbody></table></div>'


def _side(table: Table, at: int) -> str:
    """Where a column stands; one of long texts is neither squeezed nor wider than the page."""
    if table.columns[at].right:
        return ' class="right"'
    return ' class="long"' if any(len(row[at].text) > _LONG for row in table.rows) else ""


def _key(entry: Entry) -> str:
    """The number by which a table is sorted."""
    value = entry.value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        return ""
    return f' data-key="{float(value)!r}"'


def _cell(entry: Entry) -> str:
    if entry.mood is Mood.PLAIN or not entry.text:
        return escaped(entry.text)
    return _label(entry.text, entry.mood)
