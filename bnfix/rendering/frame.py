"""A table of a story as a pandas data frame."""

from __future__ import annotations

from typing import Any

from bnfix.errors import BnfixError, OptionError
from bnfix.rendering.story import Story, Table


def frame(story: Story, name: str | None) -> Any:
    """The table called `name`, by default the first that holds anything.

    Raises:
        OptionError: There is no such table.
        BnfixError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise BnfixError(
            "a data frame needs pandas, which is not installed: pip install pandas."
        ) from error
    table = _asked(story, name)
    columns = [column.name for column in table.columns]
    rows = [[entry.value for entry in row] for row in table.rows]
    return pandas.DataFrame(rows, columns=columns)


def _asked(story: Story, name: str | None) -> Table:
    found = list(story.tables())
    if not found:
        within = [section.title for section in story.sections() if section.title]
        raise OptionError(
            "this report has no table of its own. Ask one of its parts"
            + (f": {', '.join(within)}." if within else ".")
        )
    if name is None:
        return next((table for table in found if table.rows), found[0])
    for table in found:
        if table.name == name:
            return table
    names = ", ".join(f'"{table.name}"' for table in found)
    raise OptionError(f"table is {name!r}; this report has {names}.")
