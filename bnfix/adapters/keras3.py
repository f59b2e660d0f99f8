"""Keras 3, through its public interface and `keras.ops`, on whatever backend it runs.

The recorded graph has no public interface; what is read of it stands in `nodes` and
`copy_operation` and nowhere else.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from bnfix.adapters.backends import Backend, backend_of
from bnfix.adapters.backends.found import AboutPivot
from bnfix.adapters.base import Adapter
from bnfix.adapters.functions import KERAS_3
from bnfix.adapters.models import RawNode, first_of
from bnfix.adapters.onnx_file import onnx_file
from bnfix.adapters.operators import Translation
from bnfix.adapters.retraining import built_for, goes_by, note_flags, trained_by
from bnfix.graph.definition import TensorSpec


class Keras3(Adapter):
    predict_overrules_training = True
    default_training_spreads = True

    @property
    def name(self) -> str:
        return "Keras 3"

    # --- what a model is made of -------------------------------------------------------------

    def has_graph(self, model: Any) -> bool:
        own_call = type(model).call
        if self.is_sequential(model):
            return own_call is self.keras.Sequential.call and model._functional is not None
        return isinstance(model, _functional()) and own_call is _functional().call

    def nodes(self, model: Any) -> Iterator[RawNode]:
        function = model._functional if self.is_sequential(model) else model
        for depth in sorted(function._nodes_by_depth, reverse=True):
            for node in function._nodes_by_depth[depth]:
                yield RawNode(
                    layer=node.operation,
                    args=tuple(node.arguments.args),
                    kwargs=dict(node.arguments.kwargs),
                    outputs=tuple(node.outputs),
                    is_input=node.is_input,
                )

    def casts_inputs(self, layer: Any) -> bool:
        return bool(layer.autocast)

    def input_signature(self, model: Any) -> Any:
        config = model.get_build_config() or {}
        shapes = config.get("input_shape")
        return None if shapes is None else _specs(shapes, self.keras.backend.floatx())

    def input_names(self, model: Any) -> list[str]:
        return [tensor.name for tensor in model.inputs]

    def is_symbolic(self, value: Any) -> bool:
        return isinstance(value, self.keras.KerasTensor)

    def tensor_spec(self, tensor: Any) -> TensorSpec:
        return TensorSpec(tuple(tensor.shape), str(tensor.dtype))

    def is_operation(self, layer: Any) -> bool:
        return not self.is_layer(layer)

    def function(self, raw: RawNode) -> tuple[Translation, dict[str, Any]] | None:
        known = KERAS_3.get(type(raw.layer).__name__)
        if known is None or not self.is_own(raw.layer):
            return None
        translation, names = known
        call: Any = inspect.signature(raw.layer.call)
        given = call.bind(*raw.args, **raw.kwargs)
        given.apply_defaults()
        found = {**vars(raw.layer), **given.arguments}
        return translation, {name: found.get(theirs) for name, theirs in names.items()}

    def reshape(self, tensor: Any, shape: tuple[int, ...]) -> Any:
        return self.keras.ops.reshape(tensor, shape)

    def infer_specs(self, layers: Iterable[Any], found: Callable[..., Any]) -> None:
        for layer in layers:
            if not self.is_own(layer):
                inferred = self.keras.Operation.compute_output_spec.__get__(layer)
                ways = functools.partial(found, layer), layer.compute_output_spec, inferred
                vars(layer)["compute_output_spec"] = first_of(*ways)

    def unconnected(self, tensor: Any) -> Any:
        return self.keras.KerasTensor(tensor.shape, dtype=tensor.dtype, sparse=tensor.sparse)

    def without_sizes(self, model: Any) -> Any | None:
        if not self._untold_in(model):
            return model
        # Anew, since what follows takes its shapes from what such a function makes.
        made = self.keras.models.clone_model(
            model, clone_function=lambda layer: layer, call_function=self._called_without_sizes
        )
        return None if self._untold_in(made) else made

    def _untold_in(self, model: Any) -> bool:
        bare = (node.layer for node in self.nodes(model) if self.is_operation(node.layer))
        return any(_untold(operation) is not None for operation in bare)

    def _called_without_sizes(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        wanted = None if self.is_layer(operation) else _untold(operation)
        if wanted is None or "newshape" not in vars(operation) or None in wanted[1:]:
            return operation(*args, **kwargs)
        row = self.keras.layers.Reshape(wanted[1:], dtype=args[0].dtype)
        return row(*args, **kwargs)

    def draws_lots(self, layer: Any) -> bool:
        seeds = self.keras.random.SeedGenerator
        return self.is_own(layer) and any(isinstance(held, seeds) for held in vars(layer).values())

    def predict_passes_training(self, model: Any) -> bool:
        return self.accepts_training(model)

    def recorded_training(self, layer: Any) -> bool | None:
        return self.default_training(layer)

    def flatten(self, structure: Any) -> list[Any]:
        return self.keras.tree.flatten(structure)

    def pack(self, structure: Any, flat: list[Any]) -> Any:
        return self.keras.tree.pack_sequence_as(structure, flat)

    # --- values ------------------------------------------------------------------------------

    def to_tensor(self, value: Any, spec: TensorSpec) -> Any:
        ops = self.keras.ops
        mask = self.mask_of(value)
        tensor = ops.convert_to_tensor(value, dtype=spec.dtype)
        rank, wanted = len(tensor.shape), len(spec.shape)
        if rank == wanted + 1 and tensor.shape[-1] == 1:
            tensor = ops.squeeze(tensor, axis=-1)
        elif rank == wanted - 1 and spec.shape[-1] == 1:
            tensor = ops.expand_dims(tensor, axis=-1)
        return self.with_mask(tensor, mask)

    def computes_in(self, layer: Any) -> str:
        declared = super().computes_in(layer)
        # But for TensorFlow Keras rounds what is float64 down on its way through a layer.
        return self.keras.backend.result_type(declared) if declared == "float64" else declared

    def cast(self, tensor: Any, dtype: str) -> Any:
        return self.keras.ops.cast(tensor, dtype)

    def moments(self, tensor: Any, axis: int, mask: Any) -> AboutPivot:
        ops = self.keras.ops
        if self.keras.backend.standardize_dtype(tensor.dtype) in ("float16", "bfloat16"):
            tensor = ops.cast(tensor, "float32")
        axes = [i for i in range(len(tensor.shape)) if i != axis]
        if mask is None:
            shape = ops.shape(tensor)
            count = ops.convert_to_tensor(math.prod(shape[i] for i in axes))
            pivot = ops.mean(tensor, axis=axes, keepdims=True)
            apart = tensor - pivot
            mean, square = ops.mean(apart, axis=axes), ops.mean(ops.square(apart), axis=axes)
        else:
            seen = ops.broadcast_to(ops.expand_dims(ops.cast(mask, "bool"), -1), ops.shape(tensor))
            count = ops.sum(ops.cast(seen, "int32"), axis=axes)
            total = ops.cast(ops.maximum(count, 1), tensor.dtype)
            pivot = ops.sum(ops.where(seen, tensor, 0), axis=axes, keepdims=True)
            pivot = pivot / ops.reshape(total, ops.shape(pivot))
            apart = ops.where(seen, tensor - pivot, 0)
            mean = ops.sum(apart, axis=axes) / total
            square = ops.sum(ops.square(apart), axis=axes) / total
        variance = ops.maximum(square - ops.square(mean), 0)
        return AboutPivot(count, ops.reshape(pivot, (-1,)), mean, variance)

    def inference_thread(self) -> Callable[[], AbstractContextManager[None]]:
        # Layers made within a call take the policy from the thread; floatx is that of all threads.
        policy = self.keras.config.dtype_policy()

        def enter() -> AbstractContextManager[None]:
            self.keras.config.set_dtype_policy(policy)
            return self.backend.inference_thread()

        return enter

    @property
    def backend(self) -> Backend:
        return backend_of(self.keras.backend.backend())

    def exported(
        self, model: Any, *, onnx: bool = False
    ) -> AbstractContextManager[Callable[[Any], Any]]:
        # Since Keras 3.6 it says what it has written, and not on stdout alone.
        takes = inspect.signature(model.export).parameters
        options = {"verbose": False} if "verbose" in takes else {}
        if onnx:
            names = [tensor.name for tensor in self.inputs(model)]
            return onnx_file(model, names, self._arrays, **options)
        return self.backend.exported(model, **options)

    def _arrays(self, inputs: Any) -> list[Any]:
        return [self.to_numpy(tensor) for tensor in self.flatten(inputs)]

    # --- layers ------------------------------------------------------------------------------

    def clone_layer(self, layer: Any, changes: dict[str, Any] | None = None) -> Any:
        # Up to Keras 3.8 the configuration of an input does not tell that it may be left out.
        optional = {"optional": True} if getattr(layer, "optional", False) is True else {}
        known = optional if isinstance(layer, self.keras.layers.InputLayer) else {}
        return super().clone_layer(layer, {**known, **(changes or {})})

    def rename(self, layer: Any, name: str) -> None:
        layer.name = name

    def copy_operation(self, operation: Any) -> Any:
        fresh = copy.copy(operation)
        fresh._inbound_nodes, fresh._outbound_nodes = [], []
        return fresh

    def without_copying(self, layer: Any) -> tuple[Any, bool]:
        fresh = object.__new__(type(layer))  # Keras keeps track of what __init__ is given
        fresh.__dict__.update(vars(layer))
        fresh.__dict__.update(_inbound_nodes=[], _outbound_nodes=[])
        return fresh, bool(layer.weights)

    def put_in(self, holder: Any, old: Any, new: Any) -> None:
        held = self.backend.attributes(holder)
        for name in [name for name, value in held.items() if value is old]:
            setattr(holder, name, new)
        # It goes on to list what an attribute was before.
        holder._layers[:] = dict.fromkeys(new if one is old else one for one in holder._layers)

    # --- models ------------------------------------------------------------------------------

    def attach(self, model: Any, layers: list[Any]) -> None:
        """Nothing to do: in Keras 3 every node of a graph feeds an output."""

    def is_compiled(self, model: Any) -> bool:
        return bool(model.compiled)

    def rebuild_optimizer(self, model: Any) -> None:
        optimizer, trains = getattr(model, "optimizer", None), model.trainable_variables
        if not getattr(optimizer, "built", False):
            return
        if [id(one) for one in trained_by(optimizer)] != [id(one) for one in trains]:
            model.optimizer = built_for(optimizer, trains)

    def stale_flags(self, model: Any) -> frozenset[int]:
        optimizer: Any = getattr(model, "optimizer", None)
        built = model.train_function is not None and getattr(optimizer, "built", False)
        if not built or not self.backend.compiles_flags:
            return frozenset()
        return frozenset(
            id(layer)
            for _, layer in self.batch_norms(model)
            for own in [[v for v in (layer.gamma, layer.beta) if v is not None]]
            if own and layer.trainable != goes_by(optimizer, layer, own)
        )

    @contextmanager
    def retrained(self, model: Any) -> Generator[None]:
        before = [(layer, layer.trainable) for _, layer in self.batch_norms(model)]
        with super().retrained(model):
            yield
        optimizer: Any = getattr(model, "optimizer", None)
        if optimizer is not None:
            note_flags(optimizer, (layer for layer, was in before if layer.trainable != was))

    def forget_functions(self, model: Any) -> None:
        model.train_function = model.test_function = model.predict_function = None


def _untold(operation: Any) -> tuple[int | None, ...] | None:
    """The sizes that a bare function was told, if one is None, as a placeholder's batch is."""
    given = vars(operation)
    wanted = given.get("newshape", given.get("shape"))
    if not isinstance(wanted, (list, tuple)):
        return None
    return tuple(wanted) if None in wanted else None


def _specs(shapes: Any, dtype: str) -> Any:
    """Specs in the structure of `shapes`, whose leaves are tuples, or lists, of numbers."""
    if isinstance(shapes, Mapping):
        return {key: _specs(shape, dtype) for key, shape in shapes.items()}
    if shapes and all(isinstance(shape, (list, tuple)) for shape in shapes):
        return [_specs(shape, dtype) for shape in shapes]
    return TensorSpec((None, *shapes[1:]), dtype)


def _functional() -> Any:
    """The class of models defined by a graph; `keras.Model` only stands for it when called."""
    from keras.src.models.functional import Functional

    return Functional
