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
from typing import Any, Generic, ParamSpec, TypeVar

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


def within() -> bool:
    """Whether a public function of bnfix is at work, rather than code of the user alone."""
    return _within.get()


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


class Setting(Generic[T]):
    """A setting of the whole process, which threads may want to be otherwise at one time.

    It is as it was when the last of them has ended. If each put back what it had found, one that
    began within another and outlived it would leave the setting as the other had made it.

    Args:
        read: Tells the setting.
        write: Sets it.
    """

    def __init__(self, read: Callable[[], T], write: Callable[[T], object]) -> None:
        self._read, self._write = read, write
        self._lock = threading.Lock()
        self._before: list[T] = []
        self._holders: set[object] = set()

    @contextmanager
    def held(self, value: T) -> Generator[None]:
        """While the block runs the setting is `value`."""
        holder = object()
        with put_back_after(lambda: self._leave(holder)):
            with self._lock:
                if not self._holders:
                    self._before = [self._read()]
                self._holders.add(holder)
                self._write(value)
            yield

    def _leave(self, holder: object) -> None:
        with self._lock:
            if holder in self._holders:
                self._holders.remove(holder)
                if not self._holders:
                    self._write(*self._before)


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
