"""The converter to LiteRT (TensorFlow Lite) that comes with TensorFlow."""

from __future__ import annotations

from typing import Any

from . import Folded

TITLE = "TFLite converter"
ENVIRONMENT = None
FRAMEWORKS = ("keras", "tf_keras")
PACKAGES = ()
VERSIONS = ("tensorflow", "keras", "tf_keras")
NOTE = (
    "`tf.lite.TFLiteConverter.from_keras_model(model).convert()`, in float32. Makes a file "
    "for devices, not a Keras model. Counted as left: multiplications by a constant vector, "
    "which is what it makes of a BN that it does not fold."
)


def fold(model: Any, inputs: list[Any]) -> Folded:
    import tensorflow as tf

    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    interpreter = tf.lite.Interpreter(model_content=content)

    def run(arrays: list[Any]) -> list[Any]:
        runner = interpreter.get_signature_runner()
        given = dict(zip(sorted(runner.get_input_details()), arrays, strict=True))
        found = runner(**given)
        return [found[key] for key in sorted(found)]

    return Folded(run, _multiplications(interpreter))


def _multiplications(interpreter: Any) -> int:
    """How many multiplications have a vector as operand that no operation makes."""
    operations = interpreter._get_ops_details()
    made = {int(i) for operation in operations for i in operation["outputs"]}
    made |= {int(detail["index"]) for detail in interpreter.get_input_details()}
    vectors = {
        int(detail["index"])
        for detail in interpreter.get_tensor_details()
        if max(detail["shape"], default=1) > 1
    }
    return sum(
        operation["op_name"] == "MUL"
        and bool({int(i) for i in operation["inputs"]} & (vectors - made))
        for operation in operations
    )
