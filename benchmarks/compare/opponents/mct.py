"""Sony's Model Compression Toolkit."""

from __future__ import annotations

from typing import Any

from . import Folded, of_keras

TITLE = "Model Compression Toolkit"
ENVIRONMENT = "mct"
FRAMEWORKS = ("tensorflow.keras",)
PACKAGES = ("tensorflow-cpu==2.15.1", "model-compression-toolkit==2.6.1")
VERSIONS = ("model-compression-toolkit", "keras")
NOTE = (
    "Made for quantization, of which folding is the first step; it has no public call for "
    "that step alone. Called here are the steps of its own graph preparation up to the "
    "collection of statistics, with its defaults, and its model builder in floating point: "
    "nothing is quantized. Says nothing of what it leaves."
)


def fold(model: Any, inputs: Any) -> Folded:
    from model_compression_toolkit import get_target_platform_capabilities
    from model_compression_toolkit.core import QuantizationConfig
    from model_compression_toolkit.core.common.model_builder_mode import ModelBuilderMode
    from model_compression_toolkit.core.graph_prep_runner import graph_preparation_runner
    from model_compression_toolkit.core.keras.default_framework_info import DEFAULT_KERAS_INFO
    from model_compression_toolkit.core.keras.keras_implementation import KerasImplementation
    from model_compression_toolkit.target_platform_capabilities.targetplatform2framework import (
        attach2keras,
    )

    keras = KerasImplementation()
    platform = get_target_platform_capabilities()
    graph = graph_preparation_runner(
        model,
        lambda: iter([inputs]),
        QuantizationConfig(),
        DEFAULT_KERAS_INFO,
        keras,
        attach2keras.AttachTpcToKeras().attach(platform),
    )
    folded, _ = keras.model_builder(graph, ModelBuilderMode.FLOAT)
    return of_keras(folded, [])
