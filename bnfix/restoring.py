"""What ends a call of bnfix by an error finds everything as it was before, and the error says so.

One decorator stands around each public function. It notes down what the function could change, and
puts that back whatever ends the call: a refusal of bnfix, an error of Keras, Ctrl-C, a lack of
memory. Only when that is done, a `BnfixError` gets the sentence that tells of it; nobody else may
write it.
"""

from __future__ import annotations

import functools
import inspect
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from bnfix.errors import BnfixError

NOTHING_CHANGED = "Nothing was changed."

#: Puts something back; more than once does no harm.
Undo = Callable[[], None]

#: Notes down a part of what the first argument of a function is or has.
Part = Callable[[Any], Undo]

P = ParamSpec("P")
T = TypeVar("T")

_within: ContextVar[bool] = ContextVar("within", default=False)


def all_or_nothing(*parts: Part) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A decorator for public functions: all that they do is done, or `parts` are as before.

    Without parts it is for functions that change nothing, or one file in a single last step.
    """

    def around(verb: Callable[P, T]) -> Callable[P, T]:
        name = next(iter(inspect.signature(verb).parameters), "")

        @functools.wraps(verb)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            first = args[0] if args else kwargs.get(name)
            with _restoring([functools.partial(part, first) for part in parts]):
                return verb(*args, **kwargs)

        return guarded

    return around


@contextmanager
def _restoring(parts: Iterable[Callable[[], Undo]]) -> Generator[None]:
    outermost = not _within.get()
    token = _within.set(True)
    undos: list[Undo] = []
    try:
        undos.extend(part() for part in parts)
        yield
    except BaseException as error:
        put_back(undos)
        # A function within another cannot speak for that one.
        if outermost and isinstance(error, BnfixError):
            error.args = (f"{error} {NOTHING_CHANGED}", *error.args[1:])
        raise
    finally:
        _within.reset(token)


@contextmanager
def put_back_after(*undos: Undo) -> Generator[None]:
    """When the block ends, however it ends, everything is undone."""
    try:
        yield
    finally:
        put_back(undos)


def put_back(undos: Iterable[Undo]) -> None:
    """Undo everything, the last first, even if some of it fails; Ctrl-C waits so long."""
    with _undisturbed(), ExitStack() as stack:
        for undo in undos:
            stack.callback(undo)


@contextmanager
def _undisturbed() -> Generator[None]:
    """While the block runs Ctrl-C is only noted, and answered after it."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield  # signals reach Python in the main thread only, and here none interrupts it
        return
    waiting: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: waiting.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    for number, frame in waiting[:1]:
        before(number, frame)
