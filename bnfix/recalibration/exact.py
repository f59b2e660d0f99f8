"""Exact statistics: one forward pass, run layer by layer instead of batch by batch.

All batches go through one stage of the network before any goes into the next, so every
BatchNormalization is measured on inputs normalized by final statistics. The result is that of one
training-mode pass over all the data as a single batch, for any batch size and order (Ioffe &
Szegedy 2015, arXiv:1502.03167, algorithm 2, without its small-batch approximation).

The model is only read here: BNs whose statistics are settled are run by copies that hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np

from bnfix.adapters.reading import Reading
from bnfix.errors import BnfixError, ModelError, StatisticsError, gist
from bnfix.graph.definition import LayerKey, TensorSpec
from bnfix.graph.graph import Call, Value
from bnfix.graph.structure import map_leaves
from bnfix.numerics.moments import ChannelMoments
from bnfix.recalibration.schedule import Schedule, Stage

#: A tensor and the mask that travels with it; masks are lost at the border of compiled code.
_Masked = tuple[Any, Any]


class ExactEngine:
    """Runs a schedule over a list of batches and collects the moments of every BN in it.

    Args:
        reading: The model, read.
        plan: Its stages.
        ddof: Of the variance by which measured BNs normalize, and which is stored.
        compiled: Whether stages are compiled; pays for all but small jobs.
    """

    def __init__(self, reading: Reading, plan: Schedule, *, ddof: int, compiled: bool) -> None:
        self.reading = reading
        self.adapter = reading.adapter
        self.plan = plan
        self.ddof = ddof
        self.compiled = compiled
        self.moments: dict[LayerKey, ChannelMoments] = {}
        self._normalizers: dict[int, Any] = {}  # by index of the call

    def run(self, batches: list[list[Any]], advance: Callable[[], None]) -> None:
        """Measure every BN on `batches`, each a flat list of input tensors.

        `advance` is called after each batch of each stage. `batches` is emptied on the way.
        """
        live: list[dict[Value, _Masked]] = [self._enter(batch) for batch in batches]
        batches.clear()
        for stage in self.plan.stages:
            step = self._step(stage)
            for number, values in enumerate(live):
                with self._telling_where(_last(stage)):
                    kept, measured = step([values[value] for value in stage.reads])
                for value in stage.frees:
                    del values[value]
                values.update(zip(stage.keeps, kept, strict=True))
                for call, part in zip(stage.measures, measured, strict=True):
                    self._merge(call, part, number)
                advance()
            self._settle(stage)

    def _enter(self, batch: list[Any]) -> dict[Value, _Masked]:
        adapter = self.adapter
        used = {value for stage in self.plan.stages for value in stage.reads}
        entered = {
            value: self._as_input(array, value)
            for value, array in zip(self.reading.graph.inputs, batch, strict=True)
            if value in used
        }
        return {value: (tensor, adapter.mask_of(tensor)) for value, tensor in entered.items()}

    def _as_input(self, array: Any, value: Value) -> Any:
        """What Keras makes of `array` at an input; None is an optional input left out."""
        spec = TensorSpec(value.shape, value.dtype)
        return None if array is None else self.adapter.to_tensor(array, spec)

    # --- one stage ---------------------------------------------------------------------------

    def _step(self, stage: Stage) -> Callable[[list[_Masked]], Any]:
        """The stage as a function of what it reads: what it keeps, and the moments it measures."""

        def step(read: list[_Masked]) -> tuple[list[_Masked], list[Any]]:
            made = {
                value: self.adapter.with_mask(tensor, mask)
                for value, (tensor, mask) in zip(stage.reads, read, strict=True)
            }
            for call in stage.calls:
                made.update(zip(call.outputs, self._call(call, made), strict=True))
            kept = [(made[value], self.adapter.mask_of(made[value])) for value in stage.keeps]
            return kept, [self._measure(call, made) for call in stage.measures]

        return self.adapter.compiled(step) if self.compiled else step

    def _call(self, call: Call, made: dict[Value, Any]) -> list[Any]:
        args, kwargs = map_leaves(
            lambda leaf: made[leaf] if isinstance(leaf, Value) else leaf, call.arguments
        )
        if call.kind == "InputLayer":
            return [self._as_input(args[0], call.outputs[0])]
        layer = self._normalizers.get(call.index) or self.reading.layers[call.layer]
        if call.accepts_training:
            kwargs = {**kwargs, "training": False}
        with self._telling_where(call.path):
            return self.adapter.flatten(layer(*args, **kwargs))

    @contextmanager
    def _telling_where(self, where: str) -> Generator[None]:
        try:
            yield
        except BnfixError:
            raise
        except Exception as error:
            raise ModelError(
                f"{where} raised {gist(error)} on the calibration data. The model has to run on "
                "the data before it can be "
                "recalibrated; call model(x) on a batch to see it fail alone. Nothing was changed.",
                path=where,
            ) from error

    def _measure(self, call: Call, made: dict[Value, Any]) -> tuple[Any, Any, Any]:
        axis = self.reading.channel_axis(call)
        if axis is None:
            raise StatisticsError(
                f"{call.path} normalizes over several axes at once, which recalibrate does not "
                "support. Leave it out with layers=. Nothing was changed.",
                path=call.path,
            )
        tensor = made[call.inputs[0]]
        mask = call.arguments[1].get("mask")
        mask = self.adapter.mask_of(tensor) if mask is None else made.get(mask, mask)
        return self.adapter.moments(tensor, axis, mask)

    # --- between stages ----------------------------------------------------------------------

    def _merge(self, call: Call, part: tuple[Any, Any, Any], batch: int) -> None:
        count, mean, variance = (np.asarray(self.adapter.to_numpy(item)) for item in part)
        bad = int(np.sum(~(np.isfinite(mean) & np.isfinite(variance))))
        if bad:
            raise StatisticsError(
                f"{call.path}: {bad} of {mean.size} channels have a mean or variance that is not "
                "finite "
                f"in batch {batch}. The layers before it overflow or divide by zero there; look at "
                "their weights and at that batch. Nothing was changed.",
                path=call.path,
            )
        moments = self.moments.setdefault(call.layer, ChannelMoments(mean.size))
        moments.merge(count, mean, variance)

    def _settle(self, stage: Stage) -> None:
        """Make copies of the BNs just measured that normalize by what was measured."""
        copies: dict[LayerKey, Any] = {}
        for call in stage.measures:
            if call.layer not in copies:
                moments = self.moments[call.layer]
                layer = self.reading.layers[call.layer]
                copies[call.layer] = self.adapter.normalizer(
                    layer, call.inputs[0].shape, moments.mean, moments.variance(ddof=self.ddof)
                )
            self._normalizers[call.index] = copies[call.layer]


def _last(stage: Stage) -> str:
    return [*stage.calls, *stage.measures][-1].path
