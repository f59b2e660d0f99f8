"""What flows through a model, and what it holds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from bnfix.adapters.backends import Backend
from bnfix.adapters.backends.found import AboutPivot
from bnfix.adapters.models import Models
from bnfix.adapters.spread import parts
from bnfix.graph.definition import TensorSpec
from bnfix.restoring import Undo, put_back_after

_COARSEST_FIRST = ("bfloat16", "float16", "float32", "float64")


class Values(Models):
    """Tensors and variables."""

    def variables(self, model: Any) -> list[Any]:
        """Everything that `model` remembers: weights, statistics, random states, metrics."""
        return list(model.variables)

    def weights(self, layer: Any) -> list[Any]:
        """What training and statistics have made of `layer`; random states are left out."""
        return [weight for weight in layer.weights if hasattr(weight, "assign")]

    def preserved(self, model: Any) -> AbstractContextManager[None]:
        """Everything that `model` remembers is as before when the block ends, however it ends."""
        held = [*self.variables(model), *(holder for _, holder in self.remembered(model))]
        return put_back_after(self.noted_values(held))

    def noted_values(self, variables: Iterable[Any]) -> Undo:
        """The values of `variables` as they are now, copied, to be put back."""
        held = (part for variable in variables for part in parts(variable))
        before = [(part, self.copy_value(part)) for part in held]

        def undo() -> None:
            for part, value in before:
                self.put_value(part, value)

        return undo

    def put_value(self, variable: Any, value: Any) -> None:
        """Give `variable` a `value` that it had before."""
        # To look is faster than to assign, and most variables stay as they are.
        if not self.has_value(variable, value):
            variable.assign(value)

    def has_value(self, variable: Any, value: Any) -> bool:
        """Whether `variable` is `value` to the last bit, NaN and the sign of zero included."""
        return _same_bits(self.copy_value(variable), value)

    def carried(self, model: Any) -> list[tuple[str, Any]]:
        """Path and variable of what stateful recurrent layers hand on from call to call.

        Neither Keras counts these among a model's variables.
        """
        held = [
            (path, state)
            for path, layer in [("", model), *self.tree(model)]
            if getattr(layer, "stateful", False)
            for state in self.flatten(getattr(layer, "states", None))
            if hasattr(state, "assign")
        ]
        return list({id(state): (path, state) for path, state in held}.values())

    def untouched(self, model: Any) -> AbstractContextManager[None]:
        """As `preserved`; recurrent states are put back as well."""
        return put_back_after(self.noted_values(self.memory(model)))

    def memory(self, model: Any) -> list[Any]:
        """What `model` remembers, recurrent states included."""
        held = [*self.carried(model), *self.remembered(model)]
        return [*self.variables(model), *(state for _, state in held)]

    def remembered(self, model: Any) -> Sequence[tuple[str, Any]]:
        """Path and holder of what `model` remembers elsewhere than in variables of Keras."""
        return self.backend.remembered([("", model), *self.tree(model)])

    def out_of_reach(self, model: Any) -> tuple[str, ...]:
        """What is said of each batch normalization in `model` that is no layer of Keras."""
        return tuple(
            f"{path} is a {kind} of {self.backend.name} itself, which bnfix leaves as it is; check "
            "tells whether it makes rows depend on each other"
            for path, kind in self.backend.own_batch_norms([("", model), *self.tree(model)])
        )

    def noted_flags(self, model: Any) -> Undo:
        """What in `model` is trainable now, to be put back."""
        layers = [model, *(layer for _, layer in self.tree(model))]
        held = (one for one in (*layers, *self.variables(model)) if hasattr(one, "trainable"))
        before = [(one, one.trainable) for one in held]

        def undo() -> None:
            # From the outside in, because Keras hands a layer's flag down to what is inside.
            for one, flag in before:
                if one.trainable != flag:  # TensorFlow's variables cannot be told, nor differ
                    one.trainable = flag

        return undo

    def copy_value(self, variable: Any) -> Any:
        """The value of `variable` now, which later assignments to it do not reach."""
        return self.backend.copy_value(variable)

    def input_structure(self, model: Any) -> Any:
        """The structure in which `model` takes its inputs, placeholders as leaves."""
        if not self.is_sequential(model):
            return model.input
        return model.inputs[0] if len(model.inputs) == 1 else model.inputs

    def coarsest_dtype(self, model: Any) -> str:
        """The least precise floating dtype in which a layer of `model` computes."""
        held = [layer for _, layer in self.tree(model)]
        # What inputs and models are declared as says nothing of what the layers in them compute in.
        declared = (self.keras.layers.InputLayer, self.keras.Model)
        working = [layer for layer in held if not isinstance(layer, declared)]
        used = {self.computes_in(layer) for layer in working or held}
        return next((dtype for dtype in _COARSEST_FIRST if dtype in used), "float32")

    def computes_in(self, layer: Any) -> str:
        """The dtype in which `layer` computes; empty for a bare function on tensors."""
        return str(getattr(layer, "compute_dtype", ""))

    def rounding_dtype(self, model: Any) -> str:
        """The precision that decides how far two evaluations of `model` may lie apart."""
        dtype = self.coarsest_dtype(model)
        return self.backend.product_dtype if dtype == "float32" else dtype

    def output_labels(self, model: Any, outputs: Any) -> tuple[str, ...]:
        """A name for each leaf of `outputs`, in the order of `flatten`."""
        if isinstance(outputs, dict):
            return tuple(
                label if len(labels) == 1 else f"{key}/{label}"
                for key in sorted(outputs)
                for labels in [self.output_labels(None, outputs[key])]
                for label in (labels if len(labels) > 1 else [str(key)])
            )
        number = len(self.flatten(outputs))
        names = tuple(getattr(model, "output_names", None) or ())
        return names if len(names) == number else tuple(str(i) for i in range(number))

    @property
    @abstractmethod
    def backend(self) -> Backend:
        """The array library below."""

    @property
    def run_errors(self) -> tuple[type[Exception], ...]:
        """What running a model on unsuitable inputs raises."""
        return (ValueError, TypeError, RuntimeError, *self.backend.errors)

    def to_numpy(self, tensor: Any) -> Any:
        """The values of a tensor or variable; bfloat16 comes as float32."""
        return self.backend.to_numpy(tensor)

    @abstractmethod
    def to_tensor(self, value: Any, spec: TensorSpec) -> Any:
        """`value` as an input of a model: in the dtype of `spec`, a last axis of 1 as needed."""

    @abstractmethod
    def cast(self, tensor: Any, dtype: str) -> Any:
        """`tensor` in another dtype, itself if it has that."""

    def affine(self, values: Any, scale: Any, shift: Any) -> Any:
        """`values * scale + shift`, which broadcast as they stand."""
        return self.backend.affine(values, scale, shift)

    def fed(self, array: Any) -> Any:
        """`array` as a tensor that every entry point takes alike; `predict` casts floats."""
        values = np.asarray(array)
        dtype = values.dtype.name
        if values.dtype.kind in "OSU":
            dtype = "string"
        elif values.dtype.kind == "f":
            dtype = self.keras.backend.floatx()
        return self.to_tensor(values, TensorSpec(values.shape, dtype))

    def as_predicted(self, array: Any) -> Any:
        """`array` as `predict` hands it to a model: floats are rounded to Keras's float type."""
        values = np.asarray(array)
        return self.to_numpy(self.fed(values)) if values.dtype.kind == "f" else values

    @abstractmethod
    def moments(self, tensor: Any, axis: int, mask: Any) -> AboutPivot:
        """Mean and variance by channel of what `mask` lets through.

        In the dtype of `tensor`, float32 at least.
        """

    def mask_of(self, tensor: Any) -> Any:
        """The mask that travels with `tensor`, or None."""
        return getattr(tensor, "_keras_mask", None)

    def with_mask(self, tensor: Any, mask: Any) -> Any:
        """`tensor`, with `mask` travelling along."""
        if mask is not None:
            tensor._keras_mask = mask
        return tensor

    def view(self, tensor: Any) -> Any:
        """The values of a tensor, in its own dtype and memory where that is possible."""
        return self.backend.view(tensor)

    @property
    def accelerated(self) -> bool:
        """Whether tensors live outside of the processor's own memory."""
        return self.backend.accelerated

    def is_traced(self, value: Any) -> bool:
        """Whether `value` stands for one that compiled code will have later."""
        return self.backend.is_traced(value)

    def has_values(self, tensor: Any) -> bool:
        return not (self.is_symbolic(tensor) or self.is_traced(tensor))


def _same_bits(one: Any, other: Any) -> bool:
    """Whether two arrays of a variable are equal, NaN and the sign of zero included."""
    if one.shape != other.shape or one.dtype.hasobject:
        return one.tobytes() == other.tobytes()
    if one.__array_interface__ == other.__array_interface__:  # the same memory
        return True
    ours, theirs = (np.ascontiguousarray(each).reshape(-1).view(np.uint8) for each in (one, other))
    return bool(np.array_equal(ours, theirs))
