"""Intel Neural Compressor."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from . import Folded, of_keras

TITLE = "Neural Compressor"
ENVIRONMENT = "inc"
FRAMEWORKS = ("tensorflow.keras",)
PACKAGES = ("tensorflow==2.15.1", "neural-compressor[tf]==3.10")
VERSIONS = ("neural-compressor", "keras")
NOTE = (
    "Made for quantization, of which folding is the first step; it has no public call for "
    "that step alone. Called here is what `quantize_model` prepares for a Keras model, "
    "`KerasAdaptor.query_fw_capability`, whose `pre_optimized_model` is folded and not "
    "quantized. Says nothing of what it leaves."
)


def fold(model: Any, inputs: Any) -> Folded:
    from neural_compressor.tensorflow.algorithms.static_quant.keras import KerasAdaptor

    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # it leaves files where it runs
        try:
            adaptor = KerasAdaptor({"device": "cpu", "backend": "default"})
            adaptor.query_fw_capability(model)
        finally:
            os.chdir(before)
    return of_keras(adaptor.pre_optimized_model, [])
