"""Each setting of BatchNormalization itself, and what stands next to it."""

from types import ModuleType
from typing import Any

from .common import BIAS, IMAGE, SAME, SEQUENCE, apply, chain, classify
from .entry import TF_KERAS, Collection, custom

zoo = Collection()


@custom
def LoudBatchNormalization(K: ModuleType) -> Any:
    class LoudBatchNormalization(K.layers.BatchNormalization):
        """A subclass that computes something else: not to be folded as if it were its base."""

        def __init__(self, gain: float = 2.0, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.gain = gain

        def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
            return self.gain * super().call(inputs, training=training)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "gain": self.gain}

    return LoudBatchNormalization


@zoo.entry("functional", "bn")
def bn_scale_false(K: ModuleType) -> Any:
    L = K.layers
    return chain(K, IMAGE, L.Conv2D(4, 3, **BIAS), L.BatchNormalization(scale=False), L.ReLU())


@zoo.entry("functional", "bn")
def bn_center_false(K: ModuleType) -> Any:
    L = K.layers
    return chain(K, IMAGE, L.Conv2D(4, 3, **BIAS), L.BatchNormalization(center=False), L.ReLU())


@zoo.entry("functional", "bn")
def bn_statistics_only(K: ModuleType) -> Any:
    L = K.layers
    norm = L.BatchNormalization(center=False, scale=False)
    return chain(K, IMAGE, L.Conv2D(4, 3, use_bias=False), norm, L.ReLU())


@zoo.entry("functional", "bn")
def bn_first_at_input(K: ModuleType) -> Any:
    L = K.layers
    x = inputs = K.Input(IMAGE)
    x = apply(x, L.BatchNormalization(scale=False), L.Conv2D(4, 3, **SAME), L.ReLU())
    return K.Model(inputs, classify(K, x))


@zoo.entry("functional", "bn")
def bn_before_conv(K: ModuleType) -> Any:
    """Foldable forwards into the first conv only: the second pads with zeros after the BN."""
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.Conv2D(4, 3, activation="relu", **BIAS),
        L.BatchNormalization(),
        L.Conv2D(5, 3, padding="valid", activation="relu", **BIAS),
        L.BatchNormalization(),
        L.Conv2D(4, 3, activation="relu", **SAME),
    )


@zoo.entry("functional", "bn")
def bn_before_dense(K: ModuleType) -> Any:
    """Flatten in between: the channel is found again every `channels` columns."""
    L = K.layers
    return chain(
        K,
        (4, 4, 3),
        L.ReLU(),
        L.BatchNormalization(),
        L.Flatten(),
        L.Dense(4, use_bias=False),
    )


@zoo.entry("functional", "bn")
def bn_chain(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.Conv2D(4, 3, **BIAS),
        L.BatchNormalization(),
        L.BatchNormalization(scale=False),
        L.BatchNormalization(center=False),
        L.ReLU(),
    )


@zoo.entry("functional", "bn", "no_h5:keras3", "no_keras:keras3", since={"keras3": "3.15"})
def bn_renorm(K: ModuleType) -> Any:
    L = K.layers
    return chain(K, IMAGE, L.Conv2D(4, 3, **BIAS), L.BatchNormalization(renorm=True), L.ReLU())


@zoo.entry("functional", "bn", "tensorflow")
def bn_synchronized(K: ModuleType) -> Any:
    L = K.layers
    norm = L.BatchNormalization(synchronized=True)
    return chain(K, IMAGE, L.Conv2D(4, 3, **BIAS), norm, L.ReLU())


@zoo.entry("functional", "bn", only=TF_KERAS)
def bn_synchronized_experimental(K: ModuleType) -> Any:
    """A class that does not derive from `layers.BatchNormalization`."""
    L = K.layers
    norm = L.experimental.SyncBatchNormalization()
    return chain(K, IMAGE, L.Conv2D(4, 3, **BIAS), norm, L.ReLU())


@zoo.entry("functional", "bn", "frozen")
def bn_frozen(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.Conv2D(4, 3, **BIAS),
        L.BatchNormalization(trainable=False),
        L.ReLU(),
        L.Conv2D(5, 3, trainable=False, **BIAS),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn", only=TF_KERAS)
def bn_multi_axis(K: ModuleType) -> Any:
    """Statistics of shape (1, 1, 8, 4): one for each column and channel."""
    L = K.layers
    return chain(K, IMAGE, L.Conv2D(4, 3, **SAME), L.BatchNormalization(axis=[2, 3]), L.ReLU())


@zoo.entry("functional", "bn", only=TF_KERAS)
def bn_virtual_batches(K: ModuleType) -> Any:
    """Ghost BN: an axis goes in front, and the statistics are of shape (1, 1, 1, 1, 4)."""
    L = K.layers
    norm = L.BatchNormalization(virtual_batch_size=2)
    return chain(K, IMAGE, L.Conv2D(4, 3, **BIAS), norm, L.ReLU())


@zoo.entry("functional", "bn", "custom")
def bn_subclass(K: ModuleType) -> Any:
    L = K.layers
    return chain(K, IMAGE, L.Conv2D(4, 3, **BIAS), LoudBatchNormalization(K)(gain=1.5), L.ReLU())


@zoo.entry("functional", "bn")
def other_normalizations(K: ModuleType) -> Any:
    """Layers named like a BN that are none, around one that is."""
    L = K.layers
    return chain(
        K,
        SEQUENCE,
        L.LayerNormalization(),
        L.Dense(6, **BIAS),
        L.BatchNormalization(),
        L.GroupNormalization(groups=2),
        L.UnitNormalization(),
    )
