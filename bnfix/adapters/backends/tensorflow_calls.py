"""How do users call a model of TensorFlow, and how is it tried without tracing it twice?"""

from __future__ import annotations

import io
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stdout
from tempfile import TemporaryDirectory
from typing import Any, cast

from bnfix.adapters.backends.base import rows
from bnfix.restoring import put_back_after


def function(fn: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    return tf.function(fn, autograph=False, reduce_retracing=True)


def by_dataset(model: Any, by_array: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`predict` of one batch, which costs Keras less as a data set than to cut from an array.

    A small model runs in a tenth of what the cutting takes. The function that Keras compiles is the
    same for both, and one that is there already is not traced anew.
    """

    def predict(inputs: Any) -> Any:
        import tensorflow as tf

        if not tf.is_tensor(inputs):
            return by_array(inputs)
        # Of a length that is known when the model is traced, as that of an array is.
        batches = tf.data.Dataset.from_tensor_slices(inputs)
        return model.predict(batches.batch(rows(inputs), drop_remainder=True), verbose=0)

    return predict


@contextmanager
def saved_model(model: Any, **options: Any) -> Generator[Callable[[Any], Any]]:
    """The SavedModel that `model.export` writes, on whatever backend, as TensorFlow runs it."""
    import tensorflow as tf

    with TemporaryDirectory() as folder:
        with redirect_stdout(io.StringIO()):  # both Kerases print what they wrote
            model.export(folder, **options)
        served: Any = tf.saved_model.load(folder)
        yield served.serve


#: The compiled calls that have been tried, by the identity of the model, for as long as it lives.
_tried: dict[int, Callable[[Any], Any]] = {}


def traced_once(model: Any) -> Callable[[Any], Any]:
    """`tf.function(model)`, not traced again where it was tried before.

    What was changed in the model since then does not reach it. So it differs from `model(x)` there,
    or fails, which is why all are tried anew, each by itself.
    """
    key, reference = id(model), weakref.ref(model)

    def call(inputs: Any) -> Any:
        known = _tried.get(key)
        traced = known or function(lambda given: cast(Any, reference())(given))
        if known is None:
            weakref.finalize(model, _tried.pop, key, None)
            _tried[key] = traced  # which must not keep the model alive
        try:
            return traced(inputs)
        except Exception:  # whatever the code of a model raises
            _tried.pop(key, None)
            if known is None:
                raise
        return call(inputs)

    return call


def through(
    traced: Callable[[Any], Any], model: Any, predict: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    """`predict`, whose step runs `traced` where Keras's own would trace `model` once more.

    Keras's loop, its data handling and its compiled function around the step stay what they are.
    """

    def step(data: Any) -> Any:
        return traced(data[0] if isinstance(data, tuple) else data)

    def run(inputs: Any) -> Any:
        if model.predict_function is not None:  # there is nothing left to trace
            return predict(inputs)
        vars(model)["predict_step"] = step  # past Keras's own bookkeeping of attributes
        with put_back_after(lambda: vars(model).pop("predict_step")):
            return predict(inputs)

    return run
