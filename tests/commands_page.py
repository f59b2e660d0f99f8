"""The page on the command line, made from its help; `docs/commands.md` is what it prints.

python tests/commands_page.py > docs/commands.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from bnfix.cli.commands import group

WIDTH = 80  # what fits beside the contents of the page
HEAD = """\
# Commands

What `bnfix --help` and `bnfix COMMAND --help` print."""


def told(command: click.Command, parent: click.Context | None = None) -> str:
    context = click.Context(
        command,
        info_name=command.name,
        parent=parent,
        terminal_width=WIDTH,
        **command.context_settings,
    )
    return command.get_help(context)


def parts() -> Iterator[str]:
    yield HEAD
    yield f"```text\n{told(group)}\n```"
    above = click.Context(group, info_name=group.name, **group.context_settings)
    for name in group.list_commands(above):
        yield f"## `{name}`\n\n```text\n{told(group.commands[name], above)}\n```"


def page() -> str:
    return "\n\n".join(parts()) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
