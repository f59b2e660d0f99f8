"""What depends on the array library below Keras: compiling, and the ways of calling a model."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from bnfix.restoring import put_back_after


def import_tensorflow() -> None:
    """Import it at a time of the caller's choice: it takes seconds, and is not silent."""
    import tensorflow  # noqa: F401  # pyright: ignore[reportUnusedImport]


def compiled(backend: str, fn: Callable[[Any], Any], *, any_rows: bool) -> Callable[[Any], Any]:
    """`fn` of one structure of tensors, compiled where `backend` compiles.

    With `any_rows` it is compiled once for batches of every length.
    """
    if backend == "tensorflow":
        return _traced(fn) if any_rows else _tf_function(fn)
    if backend == "jax":
        import jax  # pyright: ignore[reportMissingImports]

        return jax.jit(fn)
    return fn


def _tf_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    return tf.function(fn, autograph=False, reduce_retracing=True)


def _traced(fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`fn`, traced for tensors of an unknown first dimension; None may stand in for a tensor."""
    import tensorflow as tf

    traced: dict[Any, Callable[[Any], Any]] = {}

    def call(structure: Any) -> Any:
        flat = tf.nest.flatten(structure)
        tensors = [leaf for leaf in flat if leaf is not None]
        if not all(isinstance(leaf, tf.Tensor) for leaf in tensors):
            return traced.setdefault("any", _tf_function(fn))(structure)
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


def affine(backend: str, values: Any, scale: Any, shift: Any) -> Any:
    """`values * scale + shift`, in a single pass over memory where `backend` can.

    Args:
        backend: The array library.
        values: Of any rank.
        scale: Of the same rank and dtype, a number for each channel and 1 along the other axes.
        shift: As `scale`.
    """
    channels_last = values.shape[-1] == scale.shape[-1] and tuple(scale.shape[:-1]) == (1, 1, 1)
    if backend == "tensorflow" and channels_last and values.dtype.name == "float32":
        return _tf_affine(values, scale, shift)
    return values * scale + shift


def _tf_affine(values: Any, scale: Any, shift: Any) -> Any:
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


def view(backend: str, tensor: Any) -> Any:
    """The values of a tensor in the processor's memory, without copying where that is possible."""
    if backend == "torch":
        return tensor.detach().cpu().numpy()
    return np.asarray(tensor)


def accelerated(backend: str) -> bool:
    """Whether tensors live outside of the processor's own memory."""
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"))
    if backend == "jax":
        import jax  # pyright: ignore[reportMissingImports]

        return jax.default_backend() != "cpu"
    import torch  # pyright: ignore[reportMissingImports]

    return torch.cuda.is_available()


@contextmanager
def uncompiled(backend: str) -> Generator[None]:
    """What the user has compiled runs step by step while the block runs, in all threads."""
    if backend != "tensorflow":
        yield
        return
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    with put_back_after(lambda: tf.config.run_functions_eagerly(before)):
        tf.config.run_functions_eagerly(True)
        yield


@contextmanager
def inference_thread(backend: str) -> Generator[None]:
    """This thread keeps nothing for gradients, and compiles nothing, while the block runs.

    In TensorFlow a new thread records on no tape, and `uncompiled` reaches all threads.
    """
    if backend == "torch":
        import torch  # pyright: ignore[reportMissingImports]

        with torch.no_grad():
            yield
    elif backend == "jax":
        import jax  # pyright: ignore[reportMissingImports]

        with jax.disable_jit():
            yield
    else:
        yield


def is_traced(backend: str, value: Any) -> bool:
    """Whether `value` stands for one that compiled code will have later."""
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.is_symbolic_tensor(value)) if tf.is_tensor(value) else False
    if backend == "jax":
        import jax  # pyright: ignore[reportMissingImports]

        return isinstance(value, jax.core.Tracer)
    return False


def errors(backend: str) -> tuple[type[Exception], ...]:
    """What `backend` raises of its own when an operation cannot be carried out."""
    if backend == "tensorflow":
        import tensorflow as tf

        return (tf.errors.OpError,)
    return ()


def predict(model: Any) -> Callable[[Any], Any]:
    """`model.predict` in a single batch of whatever length it is given, without a progress bar."""

    def run(inputs: Any) -> Any:
        return model.predict(inputs, batch_size=_rows(inputs), verbose=0)

    return run


def replicas(model: Any) -> int:
    """Of TensorFlow's distribution strategy, under which both Kerases may have made `model`."""
    strategy = getattr(model, "distribute_strategy", None)
    return int(getattr(strategy, "num_replicas_in_sync", 1))


def is_distributed(model: Any) -> bool:
    """Whether `model` was made under a distribution strategy, be it for one replica."""
    strategy = getattr(model, "distribute_strategy", None)
    if strategy is None:
        return False
    import tensorflow as tf

    with strategy.scope():
        return bool(tf.distribute.has_strategy())


def traced(backend: str, model: Any) -> Mapping[str, Callable[[Any], Any]]:
    """The compiled call that serving code uses, where the backend has one."""
    if backend != "tensorflow":
        return {}
    import tensorflow as tf

    return {"tf.function": tf.function(model, autograph=False)}


@contextmanager
def exported(model: Any, **options: Any) -> Generator[Callable[[Any], Any]]:
    """The SavedModel that `model.export` writes, as serving code calls it."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):  # both Kerases print what they wrote
            model.export(folder, **options)
        served = tf.saved_model.load(folder)
        yield served.serve  # pyright: ignore[reportAttributeAccessIssue]


def multiplies_in_tensorfloat32(backend: str) -> bool:
    """Whether a GPU is at work that rounds the factors of float32 products."""
    if backend != "tensorflow":
        return False
    import tensorflow as tf

    allowed = tf.config.experimental.tensor_float_32_execution_enabled()
    return bool(allowed and tf.config.list_logical_devices("GPU"))


def _rows(inputs: Any) -> int:
    while isinstance(inputs, (dict, list, tuple)):
        inputs = next(iter(inputs.values())) if isinstance(inputs, dict) else inputs[0]
    return int(inputs.shape[0])
