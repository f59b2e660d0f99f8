"""KITO, the Keras inference time optimizer."""

from __future__ import annotations

from typing import Any

from . import Folded, of_keras

TITLE = "KITO"
ENVIRONMENT = "kito"
FRAMEWORKS = ("tensorflow.keras",)
PACKAGES = ("tensorflow-cpu==2.15.1", "kito==1.0.5")
VERSIONS = ("kito", "keras")
NOTE = (
    "`kito.reduce_keras_model(model)`, as in its README. Written in 2020 for the Keras 2 of "
    "then; it runs here in the last Keras 2 that TensorFlow holds, in which models in models "
    "have another class name than it looks for. Says nothing of what it leaves."
)


def fold(model: Any, inputs: Any) -> Folded:
    from kito import reduce_keras_model

    return of_keras(reduce_keras_model(model), [])
