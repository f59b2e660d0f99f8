"""A story as text, aligned for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from bnfix.rendering.story import Remark, Story, Table


def text(story: Story) -> str:
    return "\n".join(printable(line) for line in _lines(story))


def printable(line: str) -> str:
    """Names come from files, and terminals obey some characters."""
    return "".join(mark if mark.isprintable() else "?" for mark in line)


def _lines(story: Story) -> Iterator[str]:
    yield story.head
    for part in story.parts:
        if isinstance(part, Remark):
            yield f"  {part.text}"
        elif isinstance(part, Table):
            yield from (f"  {line}" for line in _told(part))
        elif part.in_text:
            yield from [part.title] if part.title else []
            yield from (f"  {line}" for line in _lines(part.story))


def _told(table: Table) -> Iterator[str]:
    if table.lines is not None:
        yield from table.lines
        return
    if not table.rows:
        return
    columns = [table.columns[at] for at in table.told]
    titles = [column.heading for column in columns]
    body = [[row[at].text for at in table.told] for row in table.rows]
    widths = [
        max(column.least, len(title), *(len(row[at]) for row in body))
        for at, (column, title) in enumerate(zip(columns, titles, strict=True))
    ]
    for row in (titles, *body):
        cells = zip(row, columns, widths, strict=True)
        yield "  ".join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, column, width in cells
        ).rstrip()
