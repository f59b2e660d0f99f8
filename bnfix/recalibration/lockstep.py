"""Exact statistics without a graph: every batch in a forward pass of its own, all in step.

Each pass runs in a thread and waits where it comes to a BatchNormalization. When all have come to
the same call, what they bring is merged, the layer is given these statistics, and all go on. So
every BN is measured on inputs normalized by final statistics, and the result is that of one
training-mode pass over all the data as a single batch (Ioffe & Szegedy 2015, arXiv:1502.03167,
algorithm 2, without its small-batch approximation), whatever calls the layers, and in which order.

A BN with several calls pools them, but its first call needs an answer before the last is known. It
is answered by the pool of what this pass has seen and, for the calls still to come, of what the
pass before has; the model is run again until every call was normalized by what its pass pools in
the end. Let n BNs have several calls, none on a result of its own. Those that depend on no other
are right after one pass, those that depend on these only after two: n + 1 passes are enough. Where
a BN is called on a result of its own, the same rule seeks the statistics that agree with
themselves; later passes then go a part of the way only, since larger statistics make for smaller
outputs, and whole steps would swing about the solution.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

from bnfix.adapters import weights
from bnfix.adapters.subject import Subject
from bnfix.breadth_first.failing import failure, raised_in
from bnfix.errors import BnfixError, ModelError
from bnfix.numerics.moments import ChannelMoments
from bnfix.numerics.tolerance import final
from bnfix.recalibration.arrivals import Arrival, arrivals
from bnfix.recalibration.measuring import (
    check_counts,
    check_finite,
    unreached,
)
from bnfix.recalibration.meeting import Meeting
from bnfix.recalibration.pausing import NoProgress, Pausable, pause, paused
from bnfix.recalibration.pooling import Calls, apart, partway, pool

#: Passes beyond those that suffice where no BN is called on a result of its own.
_MORE_PASSES = 18


class LockstepEngine:
    """Runs a model on all batches side by side and collects the moments of every BN in `norms`.

    Args:
        subject: Built, of any kind. Its statistics are overwritten while `run` runs, and put back.
        norms: The BNs to measure, by full path; others run as they are.
        ddof: Of the variance by which measured BNs normalize.
        meeting: Where the batches of other workers are met.
        patience: Longest time in seconds that a batch may take from one BN call to the next.

    Attributes:
        moments: What was found, by path.
        notes: What else the user should know.
    """

    def __init__(
        self,
        subject: Subject,
        norms: Mapping[str, Any],
        *,
        ddof: int,
        meeting: Meeting,
        patience: float = 600.0,
    ) -> None:
        self.subject = subject
        self.norms = dict(norms)
        self.ddof = ddof
        self.meeting = meeting
        self.patience = patience
        self.moments: dict[str, ChannelMoments] = {}
        self.notes: tuple[str, ...] = ()

    def run(self, batches: Sequence[Any], advance: Callable[[], None]) -> None:
        """Measure every BN on `batches`, each in the structure that the model takes.

        `advance` is called after each BN call that all batches have come to.

        Raises:
            ModelError: The model fails, batches take different ways through it, or no batch comes
                to any of `norms`.
            StatisticsError: A BN saw too few values, or some that are not finite.
        """
        adapter, model = self.subject
        tolerance = final(adapter.coarsest_dtype(model))
        best = one = self._pass(batches, {}, advance)
        skipped = unreached(self.norms, one.calls, batches=len(batches))
        before, count, chained = one.calls, 1, ""
        enough = 1 + sum(len(calls) > 1 for calls in one.calls.values())
        while one.disagreement > tolerance and count < enough + _MORE_PASSES:
            if count == enough:
                chained = one.first_off(tolerance)
            one = self._pass(batches, before, advance)
            best = min(best, one, key=lambda of: of.disagreement)
            before = partway(before, one.calls) if chained else one.calls
            count += 1
        self.moments = {path: pool(best.calls[path]) for path in self.norms if path in best.calls}
        check_counts(self.moments, ddof=self.ddof)
        notes = (_chained(chained, count, best.disagreement, tolerance),) if chained else ()
        self.notes = (*notes, *skipped)

    def _pass(self, batches: Sequence[Any], before: Calls, advance: Callable[[], None]) -> _Pass:
        one = _Pass(self, before)
        with self._running(batches) as forward_passes:
            while not one.ended(forward_passes):
                advance()
        for path, calls in before.items():
            if len(calls) != len(one.calls.get(path, ())):
                raise _unsteady(path, len(calls), len(one.calls.get(path, ())))
        return one

    @contextmanager
    def _running(self, batches: Sequence[Any]) -> Generator[list[Pausable]]:
        """A forward pass for each batch, which pauses at each call of a BN in `norms`.

        In the end the model remembers what it did before, and its layers are as they were.
        """
        adapter, model = self.subject
        entered = adapter.inference_thread()

        def forward_pass(batch: Any) -> Callable[[], None]:
            def run() -> None:
                with entered():
                    model(batch, training=False)

            return run

        with ExitStack() as around:
            around.enter_context(adapter.untouched(model))
            around.enter_context(adapter.uncompiled())
            around.enter_context(adapter.each_step_once(model))
            around.enter_context(arrivals(adapter, self.norms, pause))
            functions = [forward_pass(batch) for batch in batches]
            yield around.enter_context(paused(functions, patience=self.patience))


class _Pass:
    """One forward pass of every batch.

    Args:
        engine: Whose model it is.
        before: What the calls were found to be in the pass before.

    Attributes:
        calls: The moments of each call so far.
        used: The moments by which each call was answered.
    """

    def __init__(self, engine: LockstepEngine, before: Calls) -> None:
        self.engine = engine
        self.before = before
        self.calls: Calls = {}
        self.used: Calls = {}

    def ended(self, forward_passes: list[Pausable]) -> bool:
        """Let every batch go on to its next BN call, and settle it; True if they have ended."""
        stops = [self._resume(number, one) for number, one in enumerate(forward_passes)]
        first = stops[0]
        brought: list[ChannelMoments] = []
        for number, stop in enumerate(stops):
            if _path(stop) != _path(first):
                raise _parted(first, stop, number)
            if stop is not None:
                check_finite(stop.moments, path=stop.path, where=f"batch {number}")
                brought.append(stop.moments)
        meeting = self.engine.meeting
        if first is None:
            meeting.merged({}, at="the end of a pass")
            return True
        found = meeting.merged({first.path: pool(brought)}, at=first.path)
        self._settle(first.path, found[first.path])
        return False

    @cached_property
    def disagreement(self) -> float:
        """How far any statistics used are from those pooled in the end, in sigmas."""
        return max((self._off(path) for path in self.calls), default=0.0)

    def first_off(self, tolerance: float) -> str:
        """The first BN, in the order of their calls, for which that is above `tolerance`."""
        return next(path for path in self.calls if self._off(path) > tolerance)

    def _off(self, path: str) -> float:
        final, epsilon = pool(self.calls[path]), float(self.engine.norms[path].epsilon)
        return max(apart(used, final, epsilon) for used in self.used[path])

    def _resume(self, number: int, forward_pass: Pausable) -> Arrival | None:
        try:
            return forward_pass.resume()
        except NoProgress:
            raise self._stuck(number) from None
        except BnfixError:
            raise
        except Exception as error:
            path = raised_in(self.engine.subject, error)
            raise failure(error, path=path, where=f"batch {number}") from error

    def _settle(self, path: str, found: ChannelMoments) -> None:
        """Answer a call by the calls so far and, of those to come, by the pass before."""
        calls = self.calls.setdefault(path, [])
        calls.append(found)
        used = pool([*calls, *self.before.get(path, [])[len(calls) :]])
        self.used.setdefault(path, []).append(used)
        if used.count:  # all of a call may be masked; its answer is then of no account
            ddof = self.engine.ddof if used.count > self.engine.ddof else 0
            variance = used.variance(ddof=ddof)
            weights.write_statistics(self.engine.norms[path], used.mean, variance)

    def _stuck(self, number: int) -> ModelError:
        last = next(reversed(self.calls), None)
        since = "the start" if last is None else last
        return ModelError(
            f"batch {number} came neither to a BatchNormalization nor to its end within "
            f"{self.engine.patience:g} seconds after {since}. The model may wait for something "
            "that another batch holds, or be slow: smaller batches take less time.",
            path=last,
        )


def _path(stop: Arrival | None) -> str | None:
    return None if stop is None else stop.path


def _parted(first: Arrival | None, other: Arrival | None, number: int) -> ModelError:
    ways = ["ended" if stop is None else f"came to {stop.path}" for stop in (first, other)]
    return ModelError(
        f"batch 0 {ways[0]} where batch {number} {ways[1]}. Statistics of all batches together "
        "need every batch to call the same BatchNormalizations in the same order. Pass data that "
        "takes the same way through the model, or leave the layer out with layers=.",
        path=_path(first) or _path(other),
    )


def _unsteady(path: str, calls: int, later: int) -> ModelError:
    return ModelError(
        f"{path} is called {calls} times when the model runs on the calibration data, and {later} "
        "times when it runs on the same data again. Its way through its layers has to stay the "
        "same; leave the layer out with layers=.",
        path=path,
    )


def _chained(path: str, passes: int, disagreement: float, tolerance: float) -> str:
    """What more passes than are enough without it say of a BN called on a result of its own."""
    if disagreement <= tolerance:
        outcome = f"{passes} passes over the data made its statistics agree with themselves"
    else:
        outcome = (
            f"its calls were pooled, and after {passes} passes over the data its statistics still "
            f"differ from those of what reaches it by {disagreement:.2g} sigma"
        )
    return f"{path} is called on a result of its own; {outcome}"
