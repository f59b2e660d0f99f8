"""tensorflow-batchnorm-folding, the implementation of "To Fold or Not to Fold" (IJCAI 2022)."""

from __future__ import annotations

from typing import Any

from . import Folded, of_keras

TITLE = "tensorflow-batchnorm-folding"
ENVIRONMENT = "batchnorm_folding"
FRAMEWORKS = ("tensorflow.keras",)
PACKAGES = ("tensorflow==2.15.1", "tensorflow-batchnorm-folding==1.0.9", "scikit-network")
VERSIONS = ("tensorflow-batchnorm-folding", "keras")
NOTE = (
    '`fold_batchnormalization_layers(model)` with "ban-off", which it recommends. Tells how '
    "many BNs stay, not which or why."
)


def fold(model: Any, inputs: Any) -> Folded:
    from batch_normalization_folding.folder import fold_batchnormalization_layers

    folded, _ = fold_batchnormalization_layers(model)
    return of_keras(folded, [])
