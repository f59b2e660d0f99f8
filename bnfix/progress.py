"""Progress of long work, on the terminal's error stream."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def progress(
    total: int | None, description: str, verbose: int | str
) -> Generator[Callable[..., None]]:
    """A function to call after each of `total` steps, or with a number of steps.

    Args:
        total: Number of steps; None where it is not known.
        description: What is being done.
        verbose: As in Keras: "auto" shows a bar on a terminal only, 0 never, 1 always.
    """
    if verbose in (0, False):
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, force_terminal=None if verbose == "auto" else True)
    if not console.is_terminal:
        yield _ignore
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda steps=1: bar.advance(task, steps)


def _ignore(steps: int = 1) -> None: ...
