"""tf2onnx and the optimizer of ONNX Runtime."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from . import Folded

TITLE = "tf2onnx + ONNX Runtime"
ENVIRONMENT = "onnx"
FRAMEWORKS = ("tensorflow.keras",)
PACKAGES = ("tensorflow-cpu==2.15.1", "tf2onnx==1.17.0", "onnx==1.17.0", "onnxruntime")
VERSIONS = ("tf2onnx", "onnx", "onnxruntime", "keras")
NOTE = (
    "`tf2onnx.convert.from_keras(model)`, then ONNX Runtime's extended optimizations, written "
    "out as a file. Makes a file to serve, not a Keras model. Counted as left: "
    "BatchNormalization, and multiplications by a constant vector, which is what other BNs "
    "become."
)


def fold(model: Any, inputs: Any) -> Folded:
    import onnx
    import onnxruntime
    import tf2onnx

    converted, _ = tf2onnx.convert.from_keras(model, opset=17)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        settings.optimized_model_filepath = os.path.join(folder, "optimized.onnx")
        session = onnxruntime.InferenceSession(
            converted.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
        optimized = onnx.load(settings.optimized_model_filepath)

    def run(arrays: list[Any]) -> list[Any]:
        names = [given.name for given in session.get_inputs()]
        return session.run(None, dict(zip(names, arrays, strict=True)))

    return Folded(run, _left(optimized.graph))


def _left(graph: Any) -> int:
    vectors = {array.name for array in graph.initializer if len(array.dims) and max(array.dims) > 1}
    return sum(
        node.op_type == "BatchNormalization"
        or (node.op_type == "Mul" and any(name in vectors for name in node.input))
        for node in graph.node
    )
