"""Known architectures in small: the sizes are toy, the graphs are not."""

from types import ModuleType
from typing import Any

from .common import BIAS, IMAGE, SAME, apply, chain, classify, conv_bn_relu
from .entry import Collection

zoo = Collection()

PICTURE = (16, 16, 3)


@zoo.entry("functional", "bn")
def small_resnet(K: ModuleType) -> Any:
    """20 BN: a stem, three stages of three blocks, and a projection in the last stage only."""
    L = K.layers
    inputs = K.Input(PICTURE, name="image")
    x = conv_bn_relu(K, inputs, 4)
    for stage in range(3):
        for block in range(3):
            filters, stride = 4 * 2**stage, 2 if stage and not block else 1
            y = conv_bn_relu(K, x, filters, strides=stride)
            y = L.BatchNormalization()(L.Conv2D(filters, 3, **SAME)(y))
            if x.shape[-1] != filters:
                x = L.Conv2D(filters, 1, strides=stride, **BIAS)(x)
                x = L.BatchNormalization()(x) if stage == 2 else x
            x = L.ReLU()(L.Add()([x, y]))
    return K.Model(inputs, classify(K, x, 5), name="small_resnet")


@zoo.entry("functional", "bn")
def small_mobilenet(K: ModuleType) -> Any:
    """Inverted residuals as in MobileNetV2: ReLU6, padding before strides, linear bottlenecks."""
    L = K.layers
    x = inputs = K.Input(PICTURE)
    x = L.BatchNormalization()(L.Conv2D(4, 3, strides=2, padding="same", use_bias=False)(x))
    x = L.ReLU(6.0)(x)
    for expand, filters, stride in ((2, 4, 1), (3, 6, 2), (3, 6, 1)):
        y = L.Conv2D(expand * x.shape[-1], 1, use_bias=False)(x)
        y = L.ReLU(6.0)(L.BatchNormalization(epsilon=1e-3, momentum=0.999)(y))
        y = L.ZeroPadding2D(((0, 1), (0, 1)))(y) if stride == 2 else y
        padding = "valid" if stride == 2 else "same"
        y = L.DepthwiseConv2D(3, strides=stride, padding=padding, use_bias=False)(y)
        y = L.ReLU(6.0)(L.BatchNormalization(epsilon=1e-3, momentum=0.999)(y))
        y = L.BatchNormalization()(L.Conv2D(filters, 1, use_bias=False)(y))
        x = L.Add()([x, y]) if stride == 1 and x.shape[-1] == filters else y
    return K.Model(inputs, classify(K, conv_bn_relu(K, x, 8, 1)))


@zoo.entry("functional", "bn", "preprocessing", "stochastic")
def small_efficientnet(K: ModuleType) -> Any:
    """Rescaling and Normalization in front, swish, squeeze-and-excite, dropout by whole blocks."""
    L = K.layers
    x = inputs = K.Input(PICTURE)
    x = apply(x, L.Rescaling(0.5), L.Normalization(mean=[0.1] * 3, variance=[0.5] * 3))
    x = L.Conv2D(4, 3, strides=2, padding="same", use_bias=False)(L.ZeroPadding2D(1)(x))
    x = L.Activation("swish")(L.BatchNormalization()(x))
    for _ in range(2):
        y = L.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        y = L.Activation("swish")(L.BatchNormalization()(y))
        gate = L.Reshape((1, 1, 4))(L.GlobalAveragePooling2D()(y))
        gate = L.Conv2D(2, 1, activation="swish", **BIAS)(gate)
        y = L.Multiply()([y, L.Conv2D(4, 1, activation="sigmoid", **BIAS)(gate)])
        y = L.BatchNormalization()(L.Conv2D(4, 1, use_bias=False)(y))
        x = L.Add()([L.Dropout(0.2, noise_shape=(None, 1, 1, 1))(y), x])
    return K.Model(inputs, classify(K, x))


@zoo.entry("functional", "bn")
def small_densenet(K: ModuleType) -> Any:
    L = K.layers
    x = inputs = K.Input(PICTURE)
    x = L.MaxPooling2D()(conv_bn_relu(K, x, 4))
    for stage in range(2):
        for _ in range(2):
            y = L.ReLU()(L.BatchNormalization(epsilon=1.001e-5)(x))
            y = conv_bn_relu(K, y, 6, 1)
            x = L.Concatenate()([x, L.Conv2D(3, 3, padding="same", use_bias=False)(y)])
        if not stage:
            x = L.ReLU()(L.BatchNormalization(epsilon=1.001e-5)(x))
            x = L.AveragePooling2D(2)(L.Conv2D(5, 1, use_bias=False)(x))
    return K.Model(inputs, classify(K, L.ReLU()(L.BatchNormalization()(x))))


@zoo.entry("sequential", "bn", "stochastic")
def vgg_with_bn(K: ModuleType) -> Any:
    """A plain stack with a fused activation before each BN, as found in most tutorials."""
    L = K.layers
    model = K.Sequential([K.Input(PICTURE)])
    for filters in (4, 6):
        for _ in range(2):
            model.add(L.Conv2D(filters, 3, activation="relu", **SAME))
            model.add(L.BatchNormalization())
        model.add(L.MaxPooling2D())
        model.add(L.Dropout(0.25))
    for layer in (L.Flatten(), L.Dense(8, activation="relu"), L.BatchNormalization()):
        model.add(layer)
    model.add(L.Dense(4, activation="softmax"))
    return model


@zoo.entry("functional", "bn", "nested", "baked", "stochastic")
def pix2pix_generator(K: ModuleType) -> Any:
    """Sequential down- and upsampling blocks and skips; batch statistics meant, so baked."""
    L = K.layers

    def down(channels: int, filters: int, size: int) -> Any:
        conv = L.Conv2D(filters, 4, strides=2, padding="same", use_bias=False)
        shape = K.Input((size, size, channels))
        return K.Sequential([shape, conv, L.BatchNormalization(), L.LeakyReLU()])

    def up(channels: int, filters: int, size: int) -> Any:
        conv = L.Conv2DTranspose(filters, 4, strides=2, padding="same", use_bias=False)
        shape = K.Input((size, size, channels))
        return K.Sequential([shape, conv, L.BatchNormalization(), L.Dropout(0.5), L.ReLU()])

    inputs = K.Input(PICTURE)
    high = down(3, 4, 16)(inputs, training=True)
    low = down(4, 6, 8)(high, training=True)
    x = L.Concatenate()([up(6, 4, 4)(low, training=True), high])
    last = L.Conv2DTranspose(3, 4, strides=2, padding="same", activation="tanh", **BIAS)
    return K.Model(inputs, last(x), name="generator")


@zoo.entry("functional", "bn")
def pix2pix_encoder(K: ModuleType) -> Any:
    """The discriminator side, flat: the first conv without a BN, padding by hand at the end."""
    L = K.layers
    x = inputs = K.Input(PICTURE)
    x = L.LeakyReLU()(L.Conv2D(4, 4, strides=2, **SAME)(x))
    x = L.Conv2D(6, 4, strides=2, padding="same", use_bias=False)(x)
    x = L.LeakyReLU()(L.BatchNormalization()(x))
    x = L.Conv2D(8, 4, use_bias=False)(L.ZeroPadding2D()(x))
    x = L.ZeroPadding2D()(L.LeakyReLU()(L.BatchNormalization()(x)))
    return K.Model(inputs, L.Conv2D(1, 4, **BIAS)(x))


@zoo.entry("functional", "bn", "multi_io")
def small_unet(K: ModuleType) -> Any:
    """Upsampling, skips over two levels, and a second output half way (deep supervision)."""
    L = K.layers
    inputs = K.Input(PICTURE)
    top = conv_bn_relu(K, inputs, 4)
    middle = conv_bn_relu(K, L.MaxPooling2D()(top), 6)
    bottom = conv_bn_relu(K, L.MaxPooling2D()(middle), 8)
    x = L.Concatenate()([L.UpSampling2D()(bottom), middle])
    half = x = conv_bn_relu(K, x, 6)
    x = L.Conv2DTranspose(4, 2, strides=2, **BIAS)(x)
    x = conv_bn_relu(K, L.Concatenate()([L.BatchNormalization()(x), top]), 4)
    heads = [L.Conv2D(2, 1, activation="softmax", **BIAS, name=n) for n in ("full", "half")]
    return K.Model(inputs, [head(t) for head, t in zip(heads, (x, half), strict=True)])


@zoo.entry("functional", "bn", "nested", "frozen", "compiled")
def gan(K: ModuleType) -> Any:
    """A generator and a frozen discriminator, both models with BN, compiled as one."""
    L = K.layers
    generator = K.Sequential(
        [
            K.Input((5,)),
            L.Dense(4 * 4 * 4, use_bias=False),
            L.BatchNormalization(),
            L.LeakyReLU(),
            L.Reshape((4, 4, 4)),
            L.Conv2DTranspose(3, 3, strides=2, padding="same", use_bias=False),
            L.BatchNormalization(),
            L.Activation("tanh"),
        ],
        name="generator",
    )
    layers = [L.Conv2D(4, 3, strides=2, **SAME), L.BatchNormalization(), L.LeakyReLU()]
    head = [L.Flatten(), L.Dense(1, activation="sigmoid")]
    discriminator = chain(K, IMAGE, *layers, *head)
    discriminator.trainable = False
    noise = K.Input((5,))
    model = K.Model(noise, discriminator(generator(noise)), name="gan")
    model.compile("adam", "binary_crossentropy")
    return model
