"""What a user can run a Keras model with: a name, what it needs, and how a model is put into it."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .calling import compiled
from .machine import cores

Call = Callable[[Any], Any]


class Runtime(NamedTuple):
    """`load(model)` gives a call of the model on an array, which answers with an array."""

    name: str
    requires: tuple[str, ...]
    load: Callable[[Any], Call]


def _jit(model: Any) -> Call:
    return compiled(model, jit=True)


def _lite(model: Any) -> Call:
    """LiteRT, as TensorFlow brings it, in float32."""
    import tensorflow as tf

    with _quiet():
        content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
        interpreter = tf.lite.Interpreter(model_content=content, num_threads=cores())
    given = interpreter.get_input_details()[0]["index"]
    made = interpreter.get_output_details()[0]["index"]
    shape: tuple[int, ...] = ()

    def call(x: Any) -> Any:
        nonlocal shape
        if x.shape != shape:
            interpreter.resize_tensor_input(given, x.shape)
            interpreter.allocate_tensors()
            shape = x.shape
        interpreter.set_tensor(given, x)
        interpreter.invoke()
        return interpreter.get_tensor(made)

    return call


def _onnx(model: Any) -> Call:
    import onnxruntime

    with _exported(model) as file:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def _openvino(model: Any) -> Call:
    """In float32, as the others; OpenVINO would take 16 bits where the processor has them."""
    import openvino

    core = openvino.Core()
    with _exported(model) as file:
        loaded = core.compile_model(
            core.read_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
    return lambda x: loaded([x])[0]


RUNTIMES = (
    Runtime("tf.function", (), compiled),
    Runtime("jit_compile", (), _jit),
    Runtime("LiteRT", (), _lite),
    Runtime("ONNX Runtime", ("onnxruntime", "tf2onnx"), _onnx),
    Runtime("OpenVINO", ("openvino", "tf2onnx"), _openvino),
)


@contextlib.contextmanager
def _exported(model: Any) -> Any:
    """The path of an ONNX file of `model`, by Keras's own export."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        with _quiet():
            model.export(str(file), format="onnx", verbose=False)
        yield file


@contextlib.contextmanager
def _quiet() -> Any:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
