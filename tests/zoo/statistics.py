"""Random but plausible values in every BatchNormalization of a model, at any depth.

Fresh statistics (mean 0, variance 1) make a BN almost the identity, so a pass that loses one passes
its tests. Variables are found by attribute: a BN has two to seven of them.
"""

from typing import Any

import numpy as np

_BATCH_NORM = {"BatchNormalization", "BatchNormalizationBase"}


def batch_norms(model: Any) -> list[Any]:
    """The BN layers of `model` at any depth, each once, in the order Keras finds them."""
    layers = model._flatten_layers(include_self=False, recursive=True)
    return [layer for layer in layers if _is_batch_norm(layer)]


def _is_batch_norm(layer: Any) -> bool:
    # By name: neither Keras may be imported here, and SyncBatchNormalization has its own base.
    return any(cls.__name__ in _BATCH_NORM for cls in type(layer).__mro__)


def randomise_batch_norms(model: Any, seed: int) -> None:
    """Draw gamma, beta and moving statistics of every BN in `model`; renorm's variables agree."""
    rng = np.random.default_rng(seed)
    for layer in batch_norms(model):
        shape = tuple(layer.moving_mean.shape)
        mean = rng.normal(0, 0.5, shape)
        variance = rng.uniform(0.3, 2.0, shape)
        values = {
            "gamma": rng.uniform(0.5, 1.5, shape),
            "beta": rng.normal(0, 0.3, shape),
            "moving_mean": mean,
            "moving_variance": variance,
            "moving_stddev": np.sqrt(variance),
            "renorm_mean": mean,
            "renorm_stddev": np.sqrt(variance),
        }
        for name, value in values.items():
            variable = getattr(layer, name, None)  # gamma is None with scale=False
            if variable is not None:
                variable.assign(value.astype(_dtype(variable)))


def _dtype(variable: Any) -> Any:
    dtype = variable.dtype  # a string in Keras 3, a tf.DType in tf_keras
    return getattr(dtype, "as_numpy_dtype", dtype)
