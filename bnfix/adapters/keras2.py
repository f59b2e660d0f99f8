"""Keras 2: tf_keras, and `keras` itself beside TensorFlow 2.13 to 2.15; on TensorFlow alone.

The recorded graph has no public interface; what is read of it stands in `nodes`, `has_graph` and
`_is_tf_op` and nowhere else.
"""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import tensorflow as tf

from bnfix.adapters import kerases
from bnfix.adapters.backends import Backend, backend_of
from bnfix.adapters.backends.found import AboutPivot
from bnfix.adapters.functions import KERAS_2
from bnfix.adapters.keras2_training import Training
from bnfix.adapters.models import RawNode, first_of
from bnfix.adapters.operators import Translation
from bnfix.errors import UnsupportedModelError
from bnfix.graph.definition import TensorSpec

#: Layers that tf_keras records for operators and functions called on symbolic tensors.
_OPERATION_LAYERS = (
    "TFOpLambda",
    "SlicingOpLambda",
    "TensorFlowOpLayer",
    "ClassMethod",
    "InstanceMethod",
    "InstanceProperty",
)


#: Where a layer keeps the calls recorded of it.
_NODES = ("_inbound_nodes_value", "_outbound_nodes_value")


class Keras2(Training):
    predict_overrules_training = False
    default_training_spreads = False

    @property
    def name(self) -> str:
        return kerases.title(self.keras.__name__)

    # --- what a model is made of -------------------------------------------------------------

    def has_graph(self, model: Any) -> bool:
        if not getattr(model, "_is_graph_network", False):
            return False
        calls = {self._functional().call, self.keras.Sequential.call}
        return type(model).call in calls and bool(model.inputs)

    def _functional(self) -> Any:
        """The class of models defined by a graph; `Model` only stands for it when called."""
        return importlib.import_module(f"{self.keras.__name__}.src.engine.functional").Functional

    def nodes(self, model: Any) -> Iterator[RawNode]:
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                yield RawNode(
                    layer=node.layer,
                    args=tuple(node.call_args),
                    kwargs=dict(node.call_kwargs),
                    outputs=tuple(tf.nest.flatten(node.outputs)),
                    is_input=node.is_input,
                )

    def casts_inputs(self, layer: Any) -> bool:
        return bool(layer._autocast)  # tf_keras has no public name for it

    def infer_specs(self, layers: Iterable[Any], found: Callable[..., Any]) -> None:
        for layer in layers:
            if not self.is_own(layer):
                told = layer._infer_output_signature  # it has no public name
                ways = functools.partial(_as_called, found, layer), told
                vars(layer)["_infer_output_signature"] = first_of(*ways)

    def unconnected(self, tensor: Any) -> Any:
        return type(tensor)(tensor.type_spec)

    def input_signature(self, model: Any) -> Any:
        found = model.save_spec()
        if found is None or len(found[0]) != 1:
            return None
        return tf.nest.map_structure(self.tensor_spec, found[0][0])

    def input_names(self, model: Any) -> list[str]:
        return list(model.input_names)

    def is_symbolic(self, value: Any) -> bool:
        return self.keras.backend.is_keras_tensor(value) if tf.is_tensor(value) else False

    def tensor_spec(self, tensor: Any) -> TensorSpec:
        shape = tensor.shape
        known = tuple(shape.as_list()) if shape.rank is not None else ()
        return TensorSpec(known, tensor.dtype.name)

    def is_operation(self, layer: Any) -> bool:
        return type(layer).__name__ in _OPERATION_LAYERS and self.is_own(layer)

    def function(self, raw: RawNode) -> tuple[Translation, dict[str, Any]] | None:
        known = KERAS_2.get(getattr(raw.layer, "symbol", ""))
        if known is None:
            return None
        translation, names = known
        call: Any = inspect.signature(raw.layer.function)
        given = call.bind(*raw.args, **raw.kwargs)
        given.apply_defaults()
        found = {name: given.arguments.get(theirs) for name, theirs in names.items()}
        if found.pop("layout", None) not in (None, "NHWC"):
            return None
        if "index" in found:
            found["index"] = _index(found["index"])
        return translation, found

    def reshape(self, tensor: Any, shape: tuple[int, ...]) -> Any:
        return tf.reshape(tensor, shape)

    def draws_lots(self, layer: Any) -> bool:
        bases = {cls.__name__ for cls in type(layer).__mro__}
        return self.is_own(layer) and "BaseRandomLayer" in bases

    def trains_unless_told(self) -> bool:
        phase = self.keras.backend.learning_phase()
        return not tf.is_tensor(phase) and bool(phase)

    def flatten(self, structure: Any) -> list[Any]:
        return tf.nest.flatten(structure)

    def pack(self, structure: Any, flat: list[Any]) -> Any:
        return tf.nest.pack_sequence_as(structure, flat)

    # --- values ------------------------------------------------------------------------------

    def variables(self, model: Any) -> list[Any]:
        # Vocabularies stand among them by a handler that is no variable; calls leave them alone.
        # Metrics stand apart in tf_keras.
        held = [v for metric in getattr(model, "metrics", ()) for v in metric.variables]
        own = model.variables if model.built else []  # before that, tf_keras refuses to tell
        unique = {id(variable): variable for variable in [*own, *held]}
        return [variable for variable in unique.values() if hasattr(variable, "assign")]

    def to_tensor(self, value: Any, spec: TensorSpec) -> Any:
        mask = self.mask_of(value)
        tensor = tf.convert_to_tensor(value)
        if tensor.dtype.name != spec.dtype:
            tensor = tf.cast(tensor, spec.dtype)
        rank, wanted = len(tensor.shape), len(spec.shape)
        if rank == wanted + 1 and tensor.shape[-1] == 1:
            tensor = tf.squeeze(tensor, axis=-1)
        elif rank == wanted - 1 and spec.shape[-1] == 1:
            tensor = tf.expand_dims(tensor, axis=-1)
        return self.with_mask(tensor, mask)

    def cast(self, tensor: Any, dtype: str) -> Any:
        return tf.cast(tensor, dtype)

    def moments(self, tensor: Any, axis: int, mask: Any) -> AboutPivot:
        if tensor.dtype in (tf.float16, tf.bfloat16):
            tensor = tf.cast(tensor, tf.float32)
        axes = [i for i in range(len(tensor.shape)) if i != axis]
        if mask is None:
            shape = tf.shape(tensor)
            count = tf.reduce_prod(tf.gather(shape, axes))
            pivot = tf.reduce_mean(tensor, axes, keepdims=True)
            apart = tensor - pivot
            mean, square = tf.reduce_mean(apart, axes), tf.reduce_mean(tf.square(apart), axes)
        else:
            seen = tf.broadcast_to(tf.expand_dims(tf.cast(mask, tf.bool), -1), tf.shape(tensor))
            count = tf.reduce_sum(tf.cast(seen, tf.int32), axes)
            total = tf.cast(tf.maximum(count, 1), tensor.dtype)
            zero = tf.zeros_like(tensor)
            pivot = tf.reduce_sum(tf.where(seen, tensor, zero), axes, keepdims=True)
            pivot = pivot / tf.reshape(total, tf.shape(pivot))
            apart = tf.where(seen, tensor - pivot, zero)
            mean = tf.reduce_sum(apart, axes) / total
            square = tf.reduce_sum(tf.square(apart), axes) / total
        variance = tf.maximum(square - tf.square(mean), 0)
        return AboutPivot(count, tf.reshape(pivot, (-1,)), mean, variance)

    def inference_thread(self) -> Callable[[], AbstractContextManager[None]]:
        return nullcontext  # floatx and policy are those of all threads

    def without_trial_step(self, layer: Any) -> dict[str, Any]:
        if isinstance(layer, self.keras.layers.TimeDistributed):
            # As predict() runs it: time folded into the batch; it loops where the batch is known.
            return {"_always_use_reshape": True}
        return super().without_trial_step(layer)

    @property
    def backend(self) -> Backend:
        return backend_of("tensorflow")

    def exported(
        self, model: Any, *, onnx: bool = False
    ) -> AbstractContextManager[Callable[[Any], Any]]:
        if onnx:
            raise UnsupportedModelError(
                f"{self.name} writes no ONNX files; what makes one of its SavedModel or of its "
                ".h5 file is a tool of its own."
            )
        return self.backend.exported(model)

    # --- layers ------------------------------------------------------------------------------

    def clone_layer(self, layer: Any, changes: dict[str, Any] | None = None) -> Any:
        return super().clone_layer(layer, {**_left_out(self.keras, layer), **(changes or {})})

    def rename(self, layer: Any, name: str) -> None:
        layer._name = name

    def copy_operation(self, operation: Any) -> Any:
        return self.clone_layer(operation)

    def without_copying(self, layer: Any) -> tuple[Any, bool]:
        inside = [layer, *(one for _, one in self.tree(layer))]
        nodes = [(one, name) for one in inside for name in _NODES]
        recorded = [vars(one)[name] for one, name in nodes]
        try:
            for one, name in nodes:
                vars(one)[name] = []
            return copy.deepcopy(layer), False
        except Exception:  # whatever the layer holds may refuse to be copied, each in its own way
            fresh = object.__new__(type(layer))
            fresh.__dict__.update(vars(layer))
            fresh.__dict__.update({name: [] for name in _NODES})
            return fresh, bool(layer.weights)
        finally:
            for (one, name), value in zip(nodes, recorded, strict=True):
                vars(one)[name] = value

    def put_in(self, holder: Any, old: Any, new: Any) -> None:
        for name in [name for name, value in vars(holder).items() if value is old]:
            delattr(holder, name)
            setattr(holder, name, new)

    # --- models ------------------------------------------------------------------------------

    def attach(self, model: Any, layers: list[Any]) -> None:
        if layers:  # what add_loss() and add_metric() on symbolic tensors leave
            model._insert_layers(layers)


def _index(written: Any) -> Any:
    """An index as it was written; slices are recorded as dicts of their parts."""
    if isinstance(written, (list, tuple)):
        return tuple(_index(entry) for entry in written)
    if isinstance(written, dict):
        return slice(written["start"], written["stop"], written["step"])
    return written


def _as_called(
    found: Callable[..., Any], layer: Any, inputs: Any, args: Any, kwargs: Any, masks: Any
) -> Any:
    """`found` of a call as `_infer_output_signature` is told of it."""
    return found(layer, inputs, *args, **kwargs)


def _left_out(keras: Any, layer: Any) -> dict[str, Any]:
    """What get_config() of a BatchNormalization forgets or gets wrong."""
    found: dict[str, Any] = {}
    if getattr(
        layer, "virtual_batch_size", None
    ):  # build() moves the axis, and it tells the moved one
        found["axis"] = [axis - 1 for axis in layer.axis]
    if getattr(layer, "synchronized", False) and isinstance(layer, keras.layers.BatchNormalization):
        found["synchronized"] = True
    return found
