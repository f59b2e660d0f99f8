"""Two networks for the real cases: a baked `training=True`, and unconverged statistics.

`course_resnet50` has the layout in which a classic deep learning course teaches ResNet50 (He et al.
2015, arXiv:1512.03385): every BN of a block is called with `training=True`, so that the graph
carries it into prediction. `digits_resnet` is correct, and wrong all the same after two epochs:
with momentum 0.99 the moving statistics after n steps still hold 0.99**n of their initial 0 and 1.
"""

from types import ModuleType
from typing import Any

from .common import classify

# Filters of the three convs, blocks in the stage, stride of its first block.
_STAGES = {
    2: ((64, 64, 256), 3, 1),
    3: ((128, 128, 512), 4, 2),
    4: ((256, 256, 1024), 6, 2),
    5: ((512, 512, 2048), 3, 2),
}


def course_resnet50(
    K: ModuleType,
    input_shape: tuple[int, int, int] = (64, 64, 3),
    classes: int = 6,
    baked: bool = True,
    small: bool = False,
) -> Any:
    """ResNet50 for small images, 53 BN; with `baked`, all but `bn_conv1` are baked.

    A `small` one has an eighth of the channels and only the first block, 5 BN.
    """
    L = K.layers
    inputs = K.Input(input_shape)
    x = L.ZeroPadding2D((3, 3))(inputs)
    narrower = 8 if small else 1
    x = L.Conv2D(64 // narrower, (7, 7), strides=(2, 2), name="conv1")(x)
    x = L.BatchNormalization(axis=3, name="bn_conv1")(x)
    x = L.Activation("relu")(x)
    x = L.MaxPooling2D((3, 3), strides=(2, 2))(x)
    stages = list(_STAGES.items())[: 1 if small else None]
    for stage, (channels, blocks, stride) in stages:
        one, two, three = (number // narrower for number in channels)
        filters = (one, two, three)
        x = _convolutional_block(K, x, filters, f"{stage}a", stride, baked)
        for block in range(1, 1 if small else blocks):
            x = _identity_block(K, x, filters, f"{stage}{'abcdef'[block]}", baked)
    x = L.AveragePooling2D((2, 2), name="avg_pool")(x)
    x = L.Flatten()(x)
    x = L.Dense(classes, activation="softmax", name=f"fc{classes}")(x)
    return K.Model(inputs, x, name="ResNet50")


def _convolutional_block(
    K: ModuleType, x: Any, filters: tuple[int, int, int], name: str, stride: int, baked: bool
) -> Any:
    y = _bottleneck(K, x, filters, name, stride, baked)
    shortcut = _conv_bn(K, x, filters[2], 1, f"{name}_branch1", stride, baked)
    return K.layers.Activation("relu")(K.layers.Add()([y, shortcut]))


def _identity_block(
    K: ModuleType, x: Any, filters: tuple[int, int, int], name: str, baked: bool
) -> Any:
    y = _bottleneck(K, x, filters, name, 1, baked)
    return K.layers.Activation("relu")(K.layers.Add()([y, x]))


def _bottleneck(
    K: ModuleType, x: Any, filters: tuple[int, int, int], name: str, stride: int, baked: bool
) -> Any:
    relu = K.layers.Activation
    x = relu("relu")(_conv_bn(K, x, filters[0], 1, f"{name}_branch2a", stride, baked))
    x = relu("relu")(_conv_bn(K, x, filters[1], 3, f"{name}_branch2b", 1, baked))
    return _conv_bn(K, x, filters[2], 1, f"{name}_branch2c", 1, baked)


def _conv_bn(
    K: ModuleType, x: Any, filters: int, size: int, name: str, stride: int, baked: bool
) -> Any:
    L = K.layers
    padding = "same" if size > 1 else "valid"
    x = L.Conv2D(filters, size, strides=stride, padding=padding, name=f"res{name}")(x)
    call = {"training": True} if baked else {}
    return L.BatchNormalization(axis=3, name=f"bn{name}")(x, **call)


def digits_resnet(K: ModuleType) -> Any:
    """Residual network for 8x8x1 digits in [0, 1]: 9 BN of default momentum, softmax over 10."""
    L = K.layers

    def conv_bn(x: Any, filters: int, size: int = 3, stride: int = 1) -> Any:
        conv = L.Conv2D(filters, size, strides=stride, padding="same", use_bias=False)
        return L.BatchNormalization()(conv(x))

    inputs = K.Input((8, 8, 1))
    x = L.ReLU()(conv_bn(inputs, 32))
    for filters, stride in ((32, 1), (64, 2), (64, 1)):
        y = conv_bn(L.ReLU()(conv_bn(x, filters, stride=stride)), filters)
        x = x if stride == 1 else conv_bn(x, filters, 1, stride)
        x = L.ReLU()(L.Add()([x, y]))
    x = L.ReLU()(conv_bn(x, 128))
    return K.Model(inputs, classify(K, x, 10), name="digits_resnet")
