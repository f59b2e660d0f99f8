"""What do TensorFlow, Keras and the user's own layers say that belongs to no report?"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import click

from bnfix.adapters import backends
from bnfix.errors import BnfixWarning

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


@contextmanager
def only_our_warnings() -> Generator[None]:
    """What bnfix warns of becomes a line on stderr; what Keras and TensorFlow say is left out."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", BnfixWarning)
            warnings.showwarning = _shown_once()
            yield
    finally:
        logging.disable(before)


def _shown_once() -> Callable[..., None]:
    """A command may load a model twice, to look at it and to work on it."""
    said: set[str] = set()

    def show(message: Warning | str, *_: Any) -> None:
        if str(message) not in said:
            said.add(str(message))
            click.echo(f"bnfix: warning: {message}", err=True)

    return show


@contextmanager
def working() -> Generator[None]:
    """With TensorFlow; what is printed on the way to the report goes to stderr."""
    import_quietly()
    with contextlib.redirect_stdout(sys.stderr):
        yield


def import_quietly() -> None:
    """Import TensorFlow, unless it is there; whoever has set its log level hears what it says."""
    if "tensorflow" in sys.modules:
        return
    # What it says while it is imported does not obey the level; what it says later does.
    silent = os.environ.setdefault(_LEVEL, "3") == "3"
    with _deaf() if silent else contextlib.nullcontext():
        backends.preload("tensorflow")


@contextmanager
def _deaf() -> Generator[None]:
    """What C++ writes to stderr is lost meanwhile; Python's exceptions are not."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
