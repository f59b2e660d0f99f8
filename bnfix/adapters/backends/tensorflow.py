"""TensorFlow, below Keras 3 and below tf_keras."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from bnfix.adapters.backends.base import Backend, Compiling, Layers, Place
from bnfix.adapters.backends.found import Fused
from bnfix.adapters.backends.tensorflow_calls import (
    by_dataset,
    function,
    saved_model,
    through,
    traced_once,
)
from bnfix.adapters.spread import here
from bnfix.graph.miscompiled import SWITCH
from bnfix.restoring import Setting, within
from bnfix.workers import Alone, Workers


def _is_news(record: logging.LogRecord) -> bool:
    """Not that functions are traced anew, where bnfix does that: a model of its own each time."""
    return not (within() and record.funcName == "called_with_tracing")


logging.getLogger("tensorflow").addFilter(_is_news)


class TensorFlow(Backend):
    name = "tensorflow"
    # Measured on MobileNetV2: 2.1 s compiled against 0.6 s for 6 batches, 2.1 s against 3.1 s for
    # 40.
    compiling_pays_from = 24
    compiles_each_length = False
    compiles_flags = True
    compiler = "tf.function"
    compiled_call = "tf.function(model)"
    uncompiling = f"on a processor run {SWITCH} before the model is opened"

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        import tensorflow as tf

        return (tf.errors.OpError,)

    @property
    def accelerated(self) -> bool:
        import tensorflow as tf

        return bool(tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"))

    @property
    def product_dtype(self) -> str:
        import tensorflow as tf

        if tf.config.list_logical_devices("TPU"):
            return "bfloat16"
        allowed = tf.config.experimental.tensor_float_32_execution_enabled()
        rounded = allowed and tf.config.list_logical_devices("GPU")
        return "tensorfloat32" if rounded else "float32"

    def is_distributed(self, model: Any) -> bool:
        strategy = getattr(model, "distribute_strategy", None)
        if strategy is None:
            return False
        import tensorflow as tf

        with strategy.scope():
            return bool(tf.distribute.has_strategy())

    def replicas(self, model: Any) -> int:
        strategy = getattr(model, "distribute_strategy", None)
        return int(getattr(strategy, "num_replicas_in_sync", 1))

    def places(self, model: Any) -> tuple[Place, ...]:
        import tensorflow as tf

        strategy: Any = getattr(model, "distribute_strategy", None)
        if not isinstance(strategy, tf.distribute.MirroredStrategy):
            return (nullcontext,)
        return tuple(partial(tf.device, device) for device in strategy.extended.worker_devices)

    def workers(self, model: Any, strategy: Any) -> Workers:
        strategy = getattr(model, "distribute_strategy", None) if strategy is None else strategy
        if strategy is None:
            return Alone()
        from bnfix.adapters.backends.tensorflow_workers import workers_of

        return workers_of(strategy)

    def outside_of_strategies(self, work: Callable[[], Any]) -> Any:
        from bnfix.adapters.backends.tensorflow_workers import outside_of_strategies

        return outside_of_strategies(work)

    # --- tensors ---------------------------------------------------------------------------------

    def is_traced(self, value: Any) -> bool:
        import tensorflow as tf

        return bool(tf.is_symbolic_tensor(value)) if tf.is_tensor(value) else False

    def view(self, tensor: Any) -> Any:
        return np.asarray(tensor)

    def to_numpy(self, tensor: Any) -> Any:
        import tensorflow as tf

        if isinstance(tensor, tf.SparseTensor):
            tensor = tf.sparse.to_dense(tensor)
        elif isinstance(tensor, tf.RaggedTensor):
            tensor = tensor.to_tensor()
        return super().to_numpy(tf.convert_to_tensor(tensor))

    def attributes(self, layer: Any) -> Mapping[str, Any]:
        return vars(layer)

    def copy_value(self, variable: Any) -> Any:
        import tensorflow as tf

        # What is read shares the variable's memory, and who assigns to it meanwhile writes to new
        # memory. So nothing is copied, and what nobody assigned to is known by its address.
        return np.asarray(tf.convert_to_tensor(here(variable)))

    def affine(self, values: Any, scale: Any, shift: Any) -> Any:
        channels_last = values.shape[-1] == scale.shape[-1] and tuple(scale.shape[:-1]) == (1, 1, 1)
        if channels_last and values.dtype.name == "float32":
            return _fused_affine(values, scale, shift)
        return super().affine(values, scale, shift)

    def fused_batch_norm(
        self, values: Any, axis: int, *, gamma: Any, beta: Any, epsilon: float
    ) -> Fused | None:
        import tensorflow as tf

        fits = len(values.shape) == 4 and axis == 3 and values.dtype == tf.float32
        if not fits or self.accelerated:
            return None
        channels = values.shape[-1:]
        # The bare operation: each further one costs more to trace than it does to run.
        found: Any = tf.raw_ops.FusedBatchNormV3(
            x=values,
            scale=tf.ones(channels) if gamma is None else tf.convert_to_tensor(gamma),
            offset=tf.zeros(channels) if beta is None else tf.convert_to_tensor(beta),
            mean=[],
            variance=[],
            epsilon=epsilon,
            is_training=True,
        )
        size = tf.raw_ops.Size(input=values, out_type=tf.int64)
        return Fused(found.y, size, found.batch_mean, found.batch_variance)

    # --- how code runs ---------------------------------------------------------------------------

    def compiled(self, fn: Callable[[Any], Any], how: Compiling) -> Callable[[Any], Any]:
        return _traced(fn) if how.any_rows else function(fn)

    def uncompiled(self) -> AbstractContextManager[None]:
        return _eagerly.held(True)

    def inference(self) -> AbstractContextManager[None]:
        return nullcontext()  # only a tape keeps anything, and none is open

    def inference_thread(self) -> AbstractContextManager[None]:
        # A new thread records on no tape, and `uncompiled` reaches all threads.
        return nullcontext()

    def float64(self) -> AbstractContextManager[None]:
        return nullcontext()  # it always is

    # --- what is trained and remembered ----------------------------------------------------------

    def remembered(self, layers: Layers) -> Sequence[tuple[str, Any]]:
        return ()  # variables of TensorFlow are Keras's own

    def own_batch_norms(self, layers: Layers) -> Sequence[tuple[str, str]]:
        return ()  # what is made of TensorFlow alone stands in no layer

    def retrained(self, model: Any, rebuild: Callable[[], None]) -> AbstractContextManager[None]:
        return nullcontext()  # each step tells the optimizer what is trained

    # --- how users run a model -------------------------------------------------------------------

    def entry_points(self, model: Any, *, one_trace: bool) -> Mapping[str, Callable[[Any], Any]]:
        points = super().entry_points(model, one_trace=one_trace)
        if not one_trace:
            return points
        points = {**points, self.compiler: traced_once(model)}
        if model.predict_function is not None:  # users go on calling that one
            return points
        return {**points, "predict": through(points[self.compiler], model, points["predict"])}

    def predict(self, model: Any) -> Callable[[Any], Any]:
        by_array = super().predict(model)
        return by_array if self.is_distributed(model) else by_dataset(model, by_array)

    def runs_eagerly(self, model: Any) -> bool:
        # While everything runs eagerly, tf_keras says so of each model.
        return super().runs_eagerly(model) and not _runs_eagerly()

    def compiled_calls(self, model: Any) -> Mapping[str, Callable[[Any], Any]]:
        # Traced for the first batch and then, as for serving, for batches of any length at once.
        return {self.compiler: function(model)}

    def exported(self, model: Any, **options: Any) -> AbstractContextManager[Callable[[Any], Any]]:
        return saved_model(model, **options)


def _runs_eagerly() -> bool:
    import tensorflow as tf

    return bool(tf.config.functions_run_eagerly())


def _run_eagerly(eagerly: bool) -> None:
    import tensorflow as tf

    tf.config.run_functions_eagerly(eagerly)


_eagerly = Setting(_runs_eagerly, _run_eagerly)


def _traced(fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`fn`, traced for tensors of an unknown first dimension; None may stand in for a tensor."""
    import tensorflow as tf

    traced: dict[Any, Callable[[Any], Any]] = {}

    def call(structure: Any) -> Any:
        flat = tf.nest.flatten(structure)
        tensors = [leaf for leaf in flat if leaf is not None]
        if not all(isinstance(leaf, tf.Tensor) for leaf in tensors):
            return traced.setdefault("any", function(fn))(structure)
        present = [leaf is not None for leaf in flat]
        specs = [tf.TensorSpec((None, *leaf.shape[1:]), leaf.dtype) for leaf in tensors]
        key = (*present, *specs)
        if key not in traced:

            def run(given: Any) -> Any:
                left = iter(given)
                full = [next(left) if here else None for here in present]
                return fn(tf.nest.pack_sequence_as(structure, full))

            # The concrete function is called directly: finding it anew costs as much as it does.
            traced[key] = tf.function(run, autograph=False).get_concrete_function(specs)
        return traced[key](tensors)

    return call


def _fused_affine(values: Any, scale: Any, shift: Any) -> Any:
    """As inference of a BatchNormalization whose mean is 0 and whose variance + epsilon is 1."""
    import tensorflow as tf

    epsilon = 2.0**-10
    channels = scale.shape[-1:]
    return tf.compat.v1.nn.fused_batch_norm(
        values,
        tf.reshape(scale, channels),
        tf.reshape(shift, channels),
        tf.zeros(channels),
        tf.fill(channels, 1 - epsilon),
        epsilon=epsilon,
        is_training=False,
    )[0]
