"""Exact statistics: one forward pass, run layer by layer instead of batch by batch.

All rows go through one stage of the network before any goes into the next, so every
BatchNormalization is measured on inputs normalized by final statistics. The result is that of one
training-mode pass over all the data as a single batch, for any batch size and order (Ioffe &
Szegedy 2015, arXiv:1502.03167, algorithm 2, without its small-batch approximation).

The model is only read here: BNs whose statistics are settled run by what was measured, not by what
they hold.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

from bnfix.adapters.normalizing import normalizer
from bnfix.adapters.reading import Reading
from bnfix.errors import BnfixError
from bnfix.graph.definition import LayerKey, TensorSpec
from bnfix.graph.graph import Call, Value
from bnfix.graph.structure import map_leaves
from bnfix.numerics.moments import ChannelMoments
from bnfix.numerics.tolerance import width
from bnfix.recalibration.measuring import axis_of, check_finite, failure, measure
from bnfix.recalibration.memory import RowBytes, Store
from bnfix.recalibration.pieces import Piece, grouped, joined
from bnfix.recalibration.schedule import Schedule, Stage
from bnfix.recalibration.sizing import AT_ONCE

#: A tensor and the mask that travels with it; masks are lost at the border of compiled code.
_Masked = tuple[Any, Any]


class ExactEngine:
    """Runs a schedule over pieces of the data and collects the moments of every BN in it.

    Args:
        reading: The model, read.
        plan: Its stages.
        ddof: Of the variance by which measured BNs normalize, and which is stored.
        store: Where tensors wait.

    Attributes:
        moments: Of each BN, by key.
    """

    def __init__(self, reading: Reading, plan: Schedule, *, ddof: int, store: Store) -> None:
        self.reading, self.adapter, self.plan = reading, reading.adapter, plan
        self.ddof, self.store = ddof, store
        self.moments: dict[LayerKey, ChannelMoments] = {}
        self._used = {value for stage in plan.stages for value in stage.reads}
        self._on_device = self.adapter.accelerated
        self._masks: dict[tuple[int, Value], Any] = {}
        self._normalizers: dict[int, Callable[..., Any]] = {}  # by index of the call

    def enter(self, number: int, piece: Piece) -> Piece:
        """Store what the plan reads of the `number`-th piece; returns it without its inputs."""
        for value, array in zip(self.reading.graph.inputs, piece.inputs, strict=True):
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
        """Measure every BN on `pieces`, all of which have entered.

        Args:
            pieces: In the order in which they have entered.
            advance: Called with the number of rows that have passed a stage.
            rows: At each stage, up to how many rows of `pieces` are joined; None for no joining.
            compiled: Whether stages are compiled; pays for all but small jobs.
        """
        # A batch size that is written into the model has to stay visible.
        any_rows = all(value.shape[:1] == (None,) for value in self.reading.graph.inputs)
        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            for stage, most in zip(self.plan.stages, rows, strict=True):
                pieces = self._joined(pieces, most)
                step = self._step(stage)
                if compiled:
                    step = self.adapter.compiled(step, any_rows=any_rows)
                self._run(stage, step, pieces, pool.submit if compiled else _now, advance)
                self._settle(stage)

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
        step: Callable[[list[_Masked]], Any],
        pieces: Sequence[Piece],
        submit: Callable[..., Future[Any]],
        advance: Callable[[int], None],
    ) -> None:
        """Take all pieces through `stage`, a few at a time, and merge what they bring in order."""
        under_way: deque[Future[Any]] = deque()
        done = 0
        for number, piece in enumerate(pieces):
            read = [self._taken(number, value) for value in stage.reads]
            # The first piece goes alone: a stage is traced when it is first called.
            work = (submit if number else _now)(self._through, stage, step, read, str(piece))
            under_way.append(work)
            while len(under_way) >= AT_ONCE or (under_way and number + 1 == len(pieces)):
                self._finish(stage, done, *under_way.popleft().result())
                advance(pieces[done].rows)
                done += 1

    def _through(
        self, stage: Stage, step: Callable[..., Any], read: list[_Masked], where: str
    ) -> tuple[list[_Masked], list[ChannelMoments]]:
        """What a piece is after `stage`, and its moments there; changes nothing here."""
        with _telling(_last(stage), where):
            kept, measured = step(read)
        pairs = zip(stage.measures, measured, strict=True)
        return kept, [self._moments(call, part, where) for call, part in pairs]

    def _finish(
        self, stage: Stage, number: int, kept: list[_Masked], parts: list[ChannelMoments]
    ) -> None:
        for value in stage.frees:
            self.store.drop((number, value))
            self._masks.pop((number, value), None)
        for value, (tensor, mask) in zip(stage.keeps, kept, strict=True):
            self.store.put((number, value), tensor)
            if mask is not None:
                self._masks[number, value] = mask
        for call, part in zip(stage.measures, parts, strict=True):
            self.moments.setdefault(call.layer, ChannelMoments(part.mean.size)).absorb(part)

    def _taken(self, number: int, value: Value) -> _Masked:
        held = self.store.get((number, value))
        if value not in self.reading.graph.inputs:
            return held, self._masks.get((number, value))
        tensor = self._as_input(held, value)
        return tensor, self.adapter.mask_of(tensor)

    def _as_input(self, array: Any, value: Value) -> Any:
        """What Keras makes of `array` at an input; None is an optional input left out."""
        spec = TensorSpec(value.shape, value.dtype)
        return None if array is None else self.adapter.to_tensor(array, spec)

    # --- one stage ---------------------------------------------------------------------------

    def _step(self, stage: Stage) -> Callable[[list[_Masked]], Any]:
        """The stage as a function of what it reads: what it keeps, and what is to be measured."""
        done = _done_with(stage)

        def step(read: list[_Masked]) -> tuple[list[_Masked], list[Any]]:
            made = {
                value: self.adapter.with_mask(tensor, mask)
                for value, (tensor, mask) in zip(stage.reads, read, strict=True)
            }
            for call in stage.calls:
                made.update(zip(call.outputs, self._call(call, made), strict=True))
                for value in done.get(call.index, ()):
                    del made[value]
            kept = [(made[value], self.adapter.mask_of(made[value])) for value in stage.keeps]
            return kept, [self._measured(call, made) for call in stage.measures]

        return step

    def observe(self, flat: list[Any]) -> dict[Value, int]:
        """Bytes of the first row of every value, by running the model on it as it is."""
        made = {
            value: self._as_input(None if array is None else array[:1], value)
            for value, array in zip(self.reading.graph.inputs, flat, strict=True)
        }
        for call in self.reading.graph:
            if call.outputs[0] not in made:
                made.update(zip(call.outputs, self._call(call, made), strict=True))
        arrays = {v: self.adapter.view(t) for v, t in made.items() if hasattr(t, "__array__")}
        return {value: arrays[value].nbytes if value in arrays else 0 for value in made}

    def _call(self, call: Call, made: dict[Value, Any]) -> list[Any]:
        args, kwargs = map_leaves(
            lambda leaf: made[leaf] if isinstance(leaf, Value) else leaf, call.arguments
        )
        if call.kind == "InputLayer":
            return [self._as_input(args[0], call.outputs[0])]
        layer = self._normalizers.get(call.index) or self.reading.layers[call.layer]
        if call.accepts_training:
            kwargs = {**kwargs, "training": False}
        with _telling(call.path, "a batch"):
            return self.adapter.flatten(layer(*args, **kwargs))

    def _measured(self, call: Call, made: dict[Value, Any]) -> Any:
        """What `_moments` is given: input and mask of the BN, or their moments already."""
        tensor = made[call.inputs[0]]
        mask = call.arguments[1].get("mask")
        mask = self.adapter.mask_of(tensor) if mask is None else made.get(mask, mask)
        if not self._on_device:
            return tensor, mask
        axis = axis_of(self.reading.layers[call.layer], len(tensor.shape), path=call.path)
        return self.adapter.moments(tensor, axis, mask)

    # --- between stages ----------------------------------------------------------------------

    def _moments(self, call: Call, part: tuple[Any, ...], where: str) -> ChannelMoments:
        """Of one piece at one BN."""
        if self._on_device:
            moments = ChannelMoments(self.reading.channels(call))
            moments.merge(*map(self.adapter.view, part))
        else:
            layer = self.reading.layers[call.layer]
            moments = measure(self.adapter, layer, *part, path=call.path)
        check_finite(moments, path=call.path, where=where)
        return moments

    def _settle(self, stage: Stage) -> None:
        """Let the BNs just measured normalize by what was measured."""
        settled: dict[LayerKey, Callable[..., Any]] = {}
        for call in stage.measures:
            if call.layer not in settled:
                moments = self.moments[call.layer]
                settled[call.layer] = normalizer(
                    self.adapter,
                    self.reading.layers[call.layer],
                    call.inputs[0].shape,
                    moments.mean,
                    moments.variance(ddof=self.ddof),
                )
            self._normalizers[call.index] = settled[call.layer]


@contextmanager
def _telling(path: str, where: str) -> Generator[None]:
    try:
        yield
    except BnfixError:
        raise
    except Exception as error:
        raise failure(error, path=path, where=where) from error


def _now(function: Callable[..., Any], *args: Any) -> Future[Any]:
    """As `Executor.submit`, but at once and here."""
    result: Future[Any] = Future()
    result.set_result(function(*args))
    return result


def row_bytes(reading: Reading, plan: Schedule, flat: list[Any]) -> RowBytes:
    """Bytes that one row of each value takes.

    From the graph alone where all shapes are known, else from the first row of `flat`.
    """
    values = [value for call in reading.graph for value in call.outputs]
    if all(None not in value.shape[1:] for value in values):
        return _declared_bytes
    engine = ExactEngine(reading, plan, ddof=0, store=Store(lambda _: None, lambda array: array))
    with reading.adapter.preserved(reading.model):
        return engine.observe(flat).__getitem__


def _declared_bytes(value: Value) -> int:
    return math.prod(size or 0 for size in value.shape[1:]) * width(value.dtype)


def _last(stage: Stage) -> str:
    return [*stage.calls, *stage.measures][-1].path


def _done_with(stage: Stage) -> dict[int, list[Value]]:
    """By index of the call after which they are, the values that are not needed any more."""
    needed = {*stage.keeps, *(value for call in stage.measures for value in call.inputs)}
    done: dict[int, list[Value]] = {}
    for call in reversed(stage.calls):
        for value in dict.fromkeys((*call.inputs, *call.outputs)):
            if value not in needed:
                needed.add(value)
                done.setdefault(call.index, []).append(value)
    return done
