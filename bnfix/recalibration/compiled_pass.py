"""A pass in compiled code in which every BatchNormalization normalizes by the batch at hand.

Stored in the layer itself, the batch's statistics are read by it in the same step, since compiled
code keeps writing and reading one variable in order. What was measured comes out with the result.
A library that does not compile runs the same step as it is.
Code that cannot be compiled, and layers that keep more than a mean and a variance, have to go
without.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from bnfix.adapters import weights
from bnfix.adapters.backends.found import AboutPivot, Fused
from bnfix.adapters.intercepting import intercepted
from bnfix.adapters.subject import Subject
from bnfix.numerics.moments import ChannelMoments
from bnfix.recalibration.arrivals import Arrival
from bnfix.recalibration.measuring import axis_of, merged, of_sample

#: What is found of one call: a kernel's words, or sums of our own.
_Part = Fused | AboutPivot


class CompiledPass:
    """Runs a model on one batch after the other.

    Args:
        subject: Built; its statistics are overwritten.
        norms: The BNs to measure, by full path.
    """

    def __init__(self, subject: Subject, norms: Mapping[str, Any]) -> None:
        self.adapter, self.model = adapter, model = subject
        self.norms = dict(norms)
        self._measured: dict[str, list[_Part]] = {}  # while it is traced
        self._traced = adapter.compiled(self._step, any_rows=True)
        self._works = adapter.has_graph(model) and all(
            len(weights.statistics(layer)) == 2 for layer in norms.values()
        )

    @contextmanager
    def ready(self) -> Generator[None]:
        """While the block runs, `run` may be called."""
        with self.adapter.each_step_once(self.model):
            yield

    def run(self, batch: Any, *, compiled: bool = True) -> list[Arrival] | None:
        """What came to each BN on `batch`, in order; None where this cannot be compiled.

        One batch is not worth compiling: the step can run as it is.
        """
        if not self._works:
            return None
        try:
            with self.adapter.inference():
                found = self._traced(batch) if compiled else self._uncompiled(batch)
        except Exception:  # whatever it is, the uncompiled pass tells of it, or does without
            self._works = False
            return None
        return [
            Arrival(path, self._moments(path, part))
            for path in self._measured  # of the last trace; JAX gives a dict back with sorted keys
            for part in found[path]
        ]

    def _uncompiled(self, batch: Any) -> dict[str, list[_Part]]:
        with self.adapter.uncompiled():
            return self._step(batch)

    def _moments(self, path: str, part: _Part) -> ChannelMoments:
        layer = self.norms[path]
        if isinstance(part, Fused):
            return of_sample(self.adapter, layer, part)
        return merged(self.adapter, layer, part)

    def _step(self, batch: Any) -> dict[str, list[_Part]]:
        self._measured = {}
        with intercepted(self.norms.values(), self._wrap):
            self.model(batch, training=False)
        return self._measured

    def _wrap(self, layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        path = next(path for path, norm in self.norms.items() if norm is layer)
        signature = inspect.signature(call)

        def normalize(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs)
            tensor = next(iter(given.arguments.values()))
            mask = given.arguments.get("mask")
            mask = self.adapter.mask_of(tensor) if mask is None else mask
            axis = axis_of(layer, len(tensor.shape), path=path)
            measured = self._measured.setdefault(path, [])
            fused = None if mask is not None else self._fused(layer, tensor, axis)
            if fused is not None:
                measured.append(Fused(None, *fused[1:]))
                return fused.normalized
            found = self.adapter.moments(tensor, axis, mask)
            measured.append(found)
            mean, variance = found.pivot + found.mean, found.variance
            for variable, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
                variable.assign(self.adapter.cast(value, str(layer.variable_dtype)))
            if "training" in signature.parameters:
                given.arguments["training"] = False
            return call(*given.args, **given.kwargs)

        return normalize

    def _fused(self, layer: Any, tensor: Any, axis: int) -> Fused | None:
        """`tensor` normalized, and its moments, by a kernel that finds all of it in one pass."""
        adapter = self.adapter
        if not adapter.is_own(layer) or str(layer.compute_dtype) != "float32":
            return None
        return adapter.backend.fused_batch_norm(
            tensor, axis, gamma=layer.gamma, beta=layer.beta, epsilon=layer.epsilon
        )
