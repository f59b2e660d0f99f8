"""The inputs on which two models are compared, and what they answer to them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnfix.adapters.reading import Reading
from bnfix.data.sizes import shared_out
from bnfix.errors import VerificationError, gist
from bnfix.graph.definition import NodeKey
from bnfix.operations import reference
from bnfix.operations.reference import Outputs
from bnfix.operations.samples import domains, samples
from bnfix.restoring import put_back_after
from bnfix.tree import map_leaves

#: Two, so that an output that does not depend on the input shows.
_ROWS = 2


@dataclass(frozen=True)
class Trial:
    """Inputs of a model and its own answers to them.

    Attributes:
        reading: Of the model.
        inputs: In the structure that it takes.
        wanted: Its flat outputs, uncompiled.
        unproven: Names of the outputs that these inputs leave as good as constant, or not finite.
    """

    reading: Reading
    inputs: Any
    wanted: Outputs
    unproven: tuple[str, ...]

    @classmethod
    def of(
        cls, reading: Reading, x: Any, untrained: frozenset[NodeKey], *, rows: int = _ROWS
    ) -> Trial:
        """On `x`, or on inputs made from what the model says of them.

        Args:
            reading: Of the model.
            x: Inputs, or None.
            untrained: Calls whose baked `training=` is left out.
            rows: How many to make.

        Raises:
            VerificationError: It runs on none of them.
        """
        best: Trial | None = None
        error: Exception | None = None
        replicas = reading.adapter.replicas(reading.model)
        for given in [x] if x is not None else _made(reading, rows):
            inputs = map_leaves(reading.adapter.as_predicted, shared_out(given, replicas))
            try:
                wanted = _wanted(reading, inputs, untrained)
            except reading.adapter.run_errors as failure:
                error = failure
                continue
            trial = cls(reading, inputs, wanted, _unexcited(reading, wanted))
            if best is None or len(trial.unproven) < len(best.unproven):
                best = trial
            if not best.unproven:
                break
        if best is None:
            raise VerificationError(
                f"{reading.model.name} could not be run on "
                f"{'generated inputs' if x is None else 'x'} ({gist(error or ValueError())}). "
                "Pass inputs that it accepts as x=."
            )
        return best

    def answers(
        self, model: Any, advance: Callable[[], Any] = lambda: None, *, apart: bool = False
    ) -> Mapping[str, Outputs | Exception]:
        """What `model` answers through each entry point, or what it raises there.

        `advance` is called after each. With `apart` each is compiled by itself, as users' are.
        """
        adapter = self.reading.adapter
        found: dict[str, Outputs | Exception] = {}
        with adapter.functions_kept(model), warnings.catch_warnings():
            # TensorFlow warns that tf.data stays compiled while everything else is not.
            warnings.simplefilter("ignore", UserWarning)
            put_back = adapter.noted_values(adapter.memory(model))
            for name, call in adapter.entry_points(model, apart=apart).items():
                with put_back_after(put_back):
                    try:
                        found[name] = self._answer(call)
                    except Exception as failure:  # whatever the code of a model raises
                        found[name] = failure
                advance()
        return found

    def is_random(self, name: str) -> bool:
        """Whether the model given answers differently each time through that entry point."""
        adapter, model = self.reading.adapter, self.reading.model
        with adapter.functions_kept(model), adapter.untouched(model):
            call = adapter.entry_points(model, apart=True)[name]
            try:  # the second call goes on from the seeds that the first has left
                first, again = (self._answer(call) for _ in range(2))
            except Exception:  # whatever the code of a model raises
                return False
        return max(gaps(first, again), default=0.0) > 0

    def _answer(self, call: Callable[[Any], Any]) -> Outputs:
        adapter = self.reading.adapter
        with adapter.inference():
            made = call(map_leaves(adapter.fed, self.inputs))
        return [adapter.to_numpy(tensor) for tensor in adapter.flatten(made)]


def gaps(ours: Outputs, theirs: Outputs) -> list[float]:
    """By output, the largest difference over the scale of `theirs`.

    Infinite where one is finite and the other is not, or where they differ in number or shape.
    """
    if [np.shape(one) for one in ours] != [np.shape(other) for other in theirs]:
        return [np.inf]
    return [
        _gap(np.asarray(one), np.asarray(other)) for one, other in zip(ours, theirs, strict=True)
    ]


def _gap(ours: Any, theirs: Any) -> float:
    if ours.dtype.kind not in "fc" or not ours.size:
        return 0.0 if np.array_equal(ours, theirs) else np.inf
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.isfinite(theirs)
    if not np.array_equal(finite, np.isfinite(ours)):
        return np.inf
    scale = float(np.max(np.abs(theirs[finite]), initial=0.0)) or 1.0
    return float(np.max(np.abs(ours[finite] - theirs[finite]), initial=0.0)) / scale


def _wanted(reading: Reading, inputs: Any, untrained: frozenset[NodeKey]) -> Outputs:
    if untrained:
        return reference.call_by_call(reading, inputs, untrained)
    return reference.uncompiled(reading, inputs)


def _made(reading: Reading, rows: int) -> Iterator[Any]:
    """Inputs in the structure that the model takes."""
    adapter, model = reading.adapter, reading.functional
    specs = [adapter.tensor_spec(tensor) for tensor in model.inputs]
    expected = domains(reading.graph, lambda call: reading.layers[call.layer])
    for flat in samples(specs, rows=rows, expected=expected):
        yield adapter.pack(adapter.input_structure(model), flat)


def _unexcited(reading: Reading, outputs: Outputs) -> tuple[str, ...]:
    labels = reading.adapter.output_labels(reading.model, outputs)
    return tuple(
        label
        for label, output in zip(labels, outputs, strict=True)
        if not _is_excited(np.asarray(output))
    )


def _is_excited(output: Any) -> bool:
    """Whether `output` is finite somewhere and not the same for each row."""
    if output.dtype.kind not in "fc":
        return bool(output.size)
    if not output.size or not np.isfinite(output).any():
        return False
    rows = output if len(output) > 1 else output.reshape(-1)
    return bool(np.any(rows[1:] != rows[:1]))
