"""Progress of long work: on the terminal's error stream, or in the cell of a notebook."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")

#: Seconds between two updates of a notebook, each of which is a message to the browser.
_PAUSE = 0.1


@contextmanager
def progress(
    total: int | None, description: str, verbose: int | str
) -> Generator[Callable[..., None]]:
    """A function to call after each of `total` steps, or with a number of steps.

    Args:
        total: Number of steps; None where it is not known.
        description: What is being done.
        verbose: As in Keras: "auto" shows a bar on a terminal and in a notebook only, 0 never, 1
            always.
    """
    if verbose in (0, False):
        yield _ignore
        return
    from rich.console import Console

    console = Console(stderr=True, force_terminal=None if verbose == "auto" else True)
    if console.is_jupyter:
        shown = _in_notebook(total, description)
    elif console.is_terminal:
        shown = _on_terminal(console, total, description)
    else:
        yield _ignore
        return
    with shown as advance:
        yield advance


def counted(items: Iterable[Item], description: str, verbose: int | str) -> Generator[Item]:
    """`items`, each of which is a step, of a number that is not known."""
    with progress(None, description, verbose) as advance:
        for item in items:
            yield item
            advance()


def _ignore(steps: int = 1) -> None: ...


@contextmanager
def _on_terminal(
    console: Any, total: int | None, description: str
) -> Generator[Callable[..., None]]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda steps=1: bar.advance(task, steps)


@contextmanager
def _in_notebook(total: int | None, description: str) -> Generator[Callable[..., None]]:
    """By nothing but HTML: the widgets that rich would want are rarely installed."""
    from IPython.display import HTML, display  # pyright: ignore[reportMissingImports]

    done, started, told = 0, time.monotonic(), 0.0

    def bar() -> Any:
        share = "" if total is None else f' max="{total}" value="{min(done, total)}"'
        steps = f"{done}" if total is None else f"{done} / {total}"
        seconds = time.monotonic() - started
        said = f"{html.escape(description)} <progress{share}></progress> {steps}, {seconds:.0f} s"
        return HTML(f"<span>{said}</span>")

    def advance(steps: int = 1) -> None:
        nonlocal done, told
        done += steps
        if time.monotonic() - told >= _PAUSE:
            told = time.monotonic()
            handle.update(bar())

    handle: Any = display(bar(), display_id=True)
    try:
        yield advance
    finally:
        handle.update(HTML(""))
