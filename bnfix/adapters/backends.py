"""What depends on the array library below Keras: compiling, and the ways of calling a model."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any


def compiled(backend: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn`, compiled where `backend` compiles; PyTorch runs it as it is."""
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(fn, autograph=False, reduce_retracing=True)
    if backend == "jax":
        import jax  # pyright: ignore[reportMissingImports]

        return jax.jit(fn)
    return fn


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
