"""One forward pass, run layer by layer instead of batch by batch.

All rows go through one stage of the network before any goes into the next. What is found out at the
end of a stage rests on all of them, and decides how the calls there go on.

The model is only read here: calls that are settled run by what was found out, not by what their
layers hold.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Any

from bnfix.adapters.backends.base import Place
from bnfix.breadth_first.failing import telling
from bnfix.breadth_first.memory import RowBytes, Store
from bnfix.breadth_first.network import Network, Stop
from bnfix.breadth_first.pieces import Piece, grouped, joined
from bnfix.breadth_first.schedule import Schedule, Stage
from bnfix.breadth_first.sizing import at_once
from bnfix.graph.definition import TensorSpec
from bnfix.graph.graph import Call, Value
from bnfix.graph.steps import rows_per_row
from bnfix.numerics.tolerance import width
from bnfix.tree import map_leaves

#: A tensor and the mask that travels with it; masks are lost at the border of compiled code.
_Masked = tuple[Any, Any]

#: What a stage reads of a piece, and what each of its calls is given for the rows of it.
_Given = tuple[list[_Masked], list[Any]]


class Engine:
    """Takes pieces of the data through a schedule.

    Args:
        network: What runs.
        plan: Its stages.
        stop: What is done at the end of each.
        store: Where tensors wait.
    """

    def __init__(self, network: Network, plan: Schedule, stop: Stop, store: Store) -> None:
        self.network, self.adapter, self.plan = network, network.subject.adapter, plan
        self.stop, self.store = stop, store
        self._at_once = at_once(network)
        self._used = {value for stage in plan.stages for value in stage.reads}
        self._masks: dict[tuple[int, Value], Any] = {}
        self._settled: dict[int, Callable[..., Any]] = {}  # by index of the call

    def enter(self, number: int, piece: Piece) -> Piece:
        """Store what the plan reads of the `number`-th piece; returns it without its inputs."""
        for value, array in zip(self.network.graph.inputs, piece.inputs, strict=True):
            if value in self._used:
                self.store.put((number, value), array)
        return replace(piece, inputs=[])

    def run(
        self,
        pieces: Sequence[Piece],
        advance: Callable[[int], None],
        *,
        rows: Sequence[int | None],
        compiled: bool,
    ) -> None:
        """Take `pieces`, all of which have entered, through all stages.

        Args:
            pieces: In the order in which they have entered.
            advance: Called with the number of rows that have passed a stage.
            rows: At each stage, up to how many rows of `pieces` are joined; None for no joining.
            compiled: Whether stages are compiled; pays for all but small jobs.
        """
        # A batch size that is written into the model has to stay visible.
        any_rows = all(value.shape[:1] == (None,) for value in self.network.graph.inputs)
        with ThreadPoolExecutor(max_workers=self._at_once) as pool:
            for stage, most in zip(self.plan.stages, rows, strict=True):
                pieces = self._joined(pieces, most)
                step = self._step(stage)
                if compiled:
                    step = self.adapter.compiled(step, any_rows=any_rows)
                self._run(stage, step, pieces, pool.submit if compiled else _now, advance)
                self._settled.update(self.stop.settle(stage.measures))

    def _joined(self, pieces: Sequence[Piece], rows: int | None) -> Sequence[Piece]:
        """Neighbours among `pieces` put together, with everything that waits of them."""
        groups = grouped(pieces, rows)
        if len(groups) == len(pieces):
            return pieces
        waiting = [value for number, value in self.store if number == 0]
        old = iter(range(len(pieces)))
        for new, group in enumerate(groups):
            numbers = list(islice(old, len(group)))
            for value in waiting:
                self.store.join([(number, value) for number in numbers], (new, value))
                masks = [self._masks.pop((number, value), None) for number in numbers]
                if masks[0] is not None:
                    self._masks[new, value] = self.store.joined(masks)
        return [joined(group) for group in groups]

    def _run(
        self,
        stage: Stage,
        step: Callable[[_Given], Any],
        pieces: Sequence[Piece],
        submit: Callable[..., Future[Any]],
        advance: Callable[[int], None],
    ) -> None:
        """Take all pieces through `stage`, a few at a time, and merge what they bring in order."""
        under_way: deque[Future[Any]] = deque()
        done = row = 0
        for number, piece in enumerate(pieces):
            rows = slice(row, row := row + piece.rows)
            given = (
                [self._taken(number, value) for value in stage.reads],
                [self.stop.rows_of(call, rows) for call in stage.calls],
            )
            place = self.network.places[number % len(self.network.places)]
            # The first on each device goes alone: there a stage is traced when it is first called.
            start = submit if number >= len(self.network.places) else _now
            work = start(self._through, stage, step, given, str(piece), place)
            under_way.append(work)
            while len(under_way) >= self._at_once or (under_way and number + 1 == len(pieces)):
                self._finish(stage, done, *under_way.popleft().result())
                advance(pieces[done].rows)
                done += 1

    def _through(
        self,
        stage: Stage,
        step: Callable[[_Given], Any],
        given: _Given,
        where: str,
        place: Place,
    ) -> tuple[list[_Masked], list[Any]]:
        """What a piece is after `stage`, and what it comes to there; changes nothing here."""
        with place(), telling(_last(stage), where), self.adapter.inference():
            kept, measured = step(given)
        pairs = zip(stage.measures, measured, strict=True)
        return kept, [self.stop.summed(call, taken, where) for call, taken in pairs]

    def _finish(self, stage: Stage, number: int, kept: list[_Masked], summaries: list[Any]) -> None:
        for value in stage.frees:
            self.store.drop((number, value))
            self._masks.pop((number, value), None)
        for value, (tensor, mask) in zip(stage.keeps, kept, strict=True):
            self.store.put((number, value), tensor)
            if mask is not None:
                self._masks[number, value] = mask
        for call, summary in zip(stage.measures, summaries, strict=True):
            self.stop.absorb(call, summary)

    def _taken(self, number: int, value: Value) -> _Masked:
        held = self.store.get((number, value))
        if value not in self.network.graph.inputs:
            return held, self._masks.get((number, value))
        tensor = self._as_input(held, value)
        return tensor, self.adapter.mask_of(tensor)

    def _as_input(self, array: Any, value: Value) -> Any:
        """What Keras makes of `array` at an input; None is an optional input left out."""
        spec = TensorSpec(value.shape, value.dtype)
        return None if array is None else self.adapter.to_tensor(array, spec)

    # --- one stage ---------------------------------------------------------------------------

    def _step(self, stage: Stage) -> Callable[[_Given], tuple[list[_Masked], list[Any]]]:
        """The stage as a function of what it is given: what it keeps, and what is measured."""
        done = _done_with(stage)

        def step(given: _Given) -> tuple[list[_Masked], list[Any]]:
            read, by_row = given
            made = {
                value: self.adapter.with_mask(tensor, mask)
                for value, (tensor, mask) in zip(stage.reads, read, strict=True)
            }
            for call, rows in zip(stage.calls, by_row, strict=True):
                made.update(zip(call.outputs, self._call(call, made, rows), strict=True))
                for value in done.get(call.index, ()):
                    del made[value]
            kept = [(made[value], self.adapter.mask_of(made[value])) for value in stage.keeps]
            return kept, [self.stop.taken(call, made) for call in stage.measures]

        return step

    def row_bytes(self, flat: list[Any]) -> RowBytes:
        """Bytes that one row of each value takes.

        From the graph alone where all shapes are known, else by running the first row of `flat`.
        """
        values = [value for call in self.network.graph for value in call.outputs]
        if all(None not in value.shape[1:] for value in values):
            rows = rows_per_row(self.network.graph)
            return lambda value: rows[value] * _declared_bytes(value)
        with self.adapter.preserved(self.network.subject.model), self.adapter.inference():
            return self._observed(flat).__getitem__

    def _observed(self, flat: list[Any]) -> dict[Value, int]:
        made = {
            value: self._as_input(None if array is None else array[:1], value)
            for value, array in zip(self.network.graph.inputs, flat, strict=True)
        }
        for call in self.network.graph:
            if call.outputs[0] not in made:
                made.update(zip(call.outputs, self._call(call, made), strict=True))
        arrays = {v: self.adapter.view(t) for v, t in made.items() if hasattr(t, "__array__")}
        return {value: arrays[value].nbytes if value in arrays else 0 for value in made}

    def _call(self, call: Call, made: dict[Value, Any], by_row: Any = None) -> list[Any]:
        args, kwargs = map_leaves(
            lambda leaf: made[leaf] if isinstance(leaf, Value) else leaf, call.arguments
        )
        if call.kind == "InputLayer":
            return [self._as_input(args[0], call.outputs[0])]
        layer = self._settled.get(call.index) or self.network.layers[call.layer]
        if call.accepts_training:
            kwargs = {**kwargs, "training": False}
        if by_row is not None:
            kwargs = {**kwargs, "by_row": by_row}
        with telling(call.path, "a batch"):
            return self.adapter.flatten(layer(*args, **kwargs))


def _now(function: Callable[..., Any], *args: Any) -> Future[Any]:
    """As `Executor.submit`, but at once and here."""
    result: Future[Any] = Future()
    result.set_result(function(*args))
    return result


def _declared_bytes(value: Value) -> int:
    return math.prod(size or 0 for size in value.shape[1:]) * width(value.dtype)


def _last(stage: Stage) -> str:
    return [*stage.calls, *stage.measures][-1].path


def _done_with(stage: Stage) -> dict[int, list[Value]]:
    """By index of the call after which they are, the values that are not needed any more."""
    needed = {*stage.keeps, *(value for call in stage.measures for value in call.reads)}
    done: dict[int, list[Value]] = {}
    for call in reversed(stage.calls):
        for value in dict.fromkeys((*call.reads, *call.outputs)):
            if value not in needed:
                needed.add(value)
                done.setdefault(call.index, []).append(value)
    return done
