"""How can a call that is not ours be stopped in the middle, and go on later?

A function that stops to hand out values is a generator, but a forward pass cannot be written as
one: the place to stop lies deep inside of Keras. So it runs in a thread of its own, of which at
most one at a time is not waiting: turns are taken in the order in which they are given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from bnfix.errors import DataError
from bnfix.restoring import put_back


class NoProgress(Exception):
    """A function neither paused nor ended in the time that it was given."""


class Released(BaseException):
    """Raised where a function has paused that is not to go on; it should not be caught."""


class Pausable:
    """A function that runs while `resume` waits for it, until it pauses or ends."""

    def __init__(self, function: Callable[[], None], *, patience: float) -> None:
        self._function = function
        self._patience = patience
        self._turn = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self._released = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="bnfix batch", daemon=True)

    def start(self) -> None:
        """Make the thread, which waits for its first turn."""
        self._thread.start()

    def resume(self) -> Any:
        """What the function pauses with next, or None if it has come to its end.

        Raises:
            NoProgress: It did neither within `patience` seconds.
            BaseException: What the function itself raised.
        """
        self._turn.release()
        if not self._stopped.acquire(timeout=self._patience):
            raise NoProgress
        if self._error is not None:
            raise self._error
        value, self._value = self._value, None
        return value

    def release(self) -> None:
        """Let the function end, if it has not, at the place where it pauses."""
        self._released = True
        self._turn.release()

    def join(self, until: float) -> None:
        """Wait for the end of a released function, to `until` on the monotonic clock at most."""
        if self._thread.ident is not None:
            self._thread.join(max(until - time.monotonic(), 0))

    def pause(self, value: Any) -> None:
        """Within the function: hand `value` to who resumed it, and wait to be resumed again."""
        if not self._released:  # or else it has caught what was to end it
            self._value = value
            self._stopped.release()
            self._turn.acquire()
        if self._released:
            raise Released

    def _run(self) -> None:
        _here.pausable = self
        self._turn.acquire()
        try:
            if not self._released:
                self._function()
        except Released:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self._stopped.release()


_here = threading.local()


def pause(value: Any) -> None:
    """Within a `Pausable`: hand `value` to who resumed it, and wait to be resumed again.

    Raises:
        RuntimeError: The thread is none that a `Pausable` has made.
    """
    pausable: Pausable | None = getattr(_here, "pausable", None)
    if pausable is None:
        raise RuntimeError("not in a thread that can be paused")
    pausable.pause(value)


@contextmanager
def paused(
    functions: Sequence[Callable[[], None]], *, patience: float
) -> Generator[list[Pausable]]:
    """One waiting `Pausable` for each of `functions`; all have ended when the block has."""
    made = [Pausable(function, patience=patience) for function in functions]
    try:
        for number, pausable in enumerate(made):
            _start(pausable, number, len(made))
        yield made
    finally:
        # All first: one may wait for a lock that another holds.
        put_back(pausable.release for pausable in made)
        until = time.monotonic() + patience
        for pausable in made:
            pausable.join(until)


def _start(pausable: Pausable, number: int, wanted: int) -> None:
    try:
        pausable.start()
    except RuntimeError as error:
        raise DataError(
            f"{wanted} batches need a thread each, and the system gave {number}. Use a larger "
            "batch_size or fewer steps."
        ) from error
