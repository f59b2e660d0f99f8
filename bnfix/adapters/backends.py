"""What depends on the array library below Keras: compiling, and the ways of calling a model."""

from __future__ import annotations

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


@contextmanager
def uncompiled(backend: str) -> Generator[None]:
    """What the user has compiled runs step by step while the block runs, in all threads."""
    if backend != "tensorflow":
        yield
        return
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


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


def traced(backend: str, model: Any) -> Mapping[str, Callable[[Any], Any]]:
    """The compiled call that serving code uses, where the backend has one."""
    if backend != "tensorflow":
        return {}
    import tensorflow as tf

    return {"tf.function": tf.function(model, autograph=False)}


def _rows(inputs: Any) -> int:
    while isinstance(inputs, (dict, list, tuple)):
        inputs = next(iter(inputs.values())) if isinstance(inputs, dict) else inputs[0]
    return int(inputs.shape[0])
