"""What do TensorFlow, Keras and the user's own layers say that belongs to no report?"""

from __future__ import annotations

import _thread
import contextlib
import importlib.util
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import click

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
def interruptible() -> Generator[None]:
    """Ctrl-C ends the command even where it reaches code whose exceptions Python drops.

    A callback of a weak reference or a finalizer can raise nothing; Python prints what it wanted to
    raise, and goes on.
    """
    before = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # A little later: by then this hook, in which it would be dropped again, has ended.
            threading.Timer(0.01, _thread.interrupt_main).start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def working() -> Generator[None]:
    """TensorFlow is quiet; what is printed on the way to the report goes to stderr."""
    with quiet_tensorflow(), contextlib.redirect_stdout(sys.stderr):
        yield


@contextmanager
def quiet_tensorflow() -> Generator[None]:
    """Whatever imports TensorFlow meanwhile, if anything does, it says nothing of itself.

    Whoever has set its log level hears what it says.
    """
    # What it says while it is imported does not obey the level; what it says later does.
    silent = os.environ.setdefault(_LEVEL, "3") == "3"
    finder = _Quiet("tensorflow")
    if silent:
        sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        if silent:
            sys.meta_path.remove(finder)


class _Quiet(MetaPathFinder):
    """Finds the package `name` where the others do, and is deaf while it is executed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._asking = False

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != self._name or self._asking:
            return None
        self._asking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asking = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def quietly(module: ModuleType) -> None:
                with _deaf():
                    execute(module)

            spec.loader.exec_module = quietly
        return spec


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
