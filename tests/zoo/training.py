"""What training leaves on a model: baked flags, frozen parts, penalties, compile configuration."""

from types import ModuleType
from typing import Any

from .common import BIAS, IMAGE, SAME, chain, classify, conv_bn_relu
from .entry import TF_KERAS, Collection, custom, is_keras3

zoo = Collection()


@custom
def shifted_mse(K: ModuleType) -> Any:
    def shifted_mse(y_true: Any, y_pred: Any) -> Any:
        squares = (y_true - y_pred + 0.1) ** 2
        return K.ops.mean(squares, -1) if is_keras3(K) else K.backend.mean(squares, -1)

    return shifted_mse


@zoo.entry("functional", "bn", "baked")
def baked_training_bn(K: ModuleType) -> Any:
    """The first BN was called with `training=True`, the second was not."""
    L = K.layers
    inputs = K.Input(IMAGE)
    x = L.BatchNormalization()(L.Conv2D(4, 3, **BIAS)(inputs), training=True)
    x = L.BatchNormalization()(L.Conv2D(4, 3, **BIAS)(L.ReLU()(x)))
    return K.Model(inputs, classify(K, x))


@zoo.entry("functional", "bn", "baked")
def baked_inference_bn(K: ModuleType) -> Any:
    L = K.layers
    inputs = K.Input(IMAGE)
    x = L.BatchNormalization()(L.Conv2D(4, 3, **BIAS)(inputs), training=False)
    return K.Model(inputs, classify(K, x))


@zoo.entry("functional", "bn", "baked", "nested")
def baked_inference_base(K: ModuleType) -> Any:
    """The fine-tuning recipe: `base(x, training=False)`, with the base unfrozen."""
    base = chain(K, IMAGE, K.layers.Conv2D(4, 3, **BIAS), K.layers.BatchNormalization())
    inputs = K.Input(IMAGE)
    return K.Model(inputs, classify(K, base(inputs, training=False)))


@zoo.entry("functional", "bn", "baked", "nested", "shared", "multi_io")
def baked_in_one_of_two_calls(K: ModuleType) -> Any:
    """The same base, in training mode for one output and in inference mode for the other."""
    base = chain(K, IMAGE, K.layers.Conv2D(4, 3, **BIAS), K.layers.BatchNormalization())
    inputs = K.Input(IMAGE)
    return K.Model(inputs, [base(inputs, training=True), base(inputs, training=False)])


@zoo.entry("functional", "bn", "baked", "stochastic")
def baked_dropout(K: ModuleType) -> Any:
    """Dropout on at inference, as Monte Carlo dropout wants it: not a fault to repair."""
    L = K.layers
    inputs = K.Input(IMAGE)
    x = L.BatchNormalization()(L.Conv2D(4, 3, **BIAS)(inputs))
    return K.Model(inputs, classify(K, L.Dropout(0.5)(x, training=True)))


@zoo.entry("functional", "bn", "stochastic")
def noise_layers(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.GaussianNoise(0.1),
        L.Conv2D(4, 3, **BIAS),
        L.BatchNormalization(),
        L.SpatialDropout2D(0.2),
        L.GaussianDropout(0.2),
        L.AlphaDropout(0.1),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn")
def regularizers_and_constraints(K: ModuleType) -> Any:
    L, R, C = K.layers, K.regularizers, K.constraints
    return chain(
        K,
        IMAGE,
        L.Conv2D(
            4,
            3,
            kernel_regularizer=R.L1L2(0.01, 0.02),
            bias_regularizer=R.L1(0.01),
            kernel_constraint=C.MaxNorm(2.0),
            bias_constraint=C.NonNeg(),
            activity_regularizer=R.L2(0.01),
        ),
        L.BatchNormalization(
            gamma_regularizer=R.L2(0.01),
            beta_regularizer=R.L1(0.01),
            gamma_constraint=C.NonNeg(),
            beta_constraint=C.MaxNorm(1.0, axis=0),
        ),
        L.ActivityRegularization(l1=0.01),
        L.DepthwiseConv2D(
            3, depthwise_regularizer=R.L2(0.01), depthwise_constraint=C.UnitNorm(axis=(0, 1))
        ),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn", "frozen", "nested")
def frozen_at_each_level(K: ModuleType) -> Any:
    """A frozen nested model, a frozen layer, and one layer of the frozen model thawed again."""
    L = K.layers
    base = chain(K, IMAGE, L.Conv2D(4, 3, **BIAS), L.BatchNormalization(), L.ReLU())
    base.trainable = False
    base.layers[1].trainable = True
    inputs = K.Input(IMAGE)
    x = L.BatchNormalization()(L.Conv2D(4, 3, trainable=False, **BIAS)(base(inputs)))
    return K.Model(inputs, classify(K, x))


@zoo.entry("functional", "bn", "frozen", "compiled")
def frozen_whole(K: ModuleType) -> Any:
    model = chain(K, IMAGE, K.layers.Conv2D(4, 3, **SAME), K.layers.BatchNormalization())
    model.trainable = False
    model.compile("sgd", "mse")
    return model


@zoo.entry("functional", "bn", "compiled")
def compiled(K: ModuleType) -> Any:
    inputs = K.Input(IMAGE)
    model = K.Model(inputs, classify(K, conv_bn_relu(K, inputs, 4)), name="compiled_model")
    model.compile(
        optimizer=K.optimizers.Adam(3e-4, beta_1=0.8, clipnorm=1.0),
        loss=K.losses.CategoricalCrossentropy(label_smoothing=0.1),
        metrics=["accuracy", K.metrics.AUC(name="area")],
        weighted_metrics=["mae"],
    )
    return model


@zoo.entry("functional", "bn", "compiled", "multi_io")
def compiled_dict_losses(K: ModuleType) -> Any:
    """Named outputs with a loss, a weight and metrics each, and a learning rate schedule."""
    L = K.layers
    inputs = K.Input(IMAGE)
    x = L.GlobalAveragePooling2D()(conv_bn_relu(K, inputs, 4))
    kind = L.Dense(3, activation="softmax", name="kind")(x)
    size = L.Dense(1, name="size")(L.BatchNormalization()(L.Dense(4, **BIAS)(x)))
    model = K.Model(inputs, {"kind": kind, "size": size})
    schedule = K.optimizers.schedules.ExponentialDecay(0.01, 100, 0.9)
    model.compile(
        optimizer=K.optimizers.SGD(schedule, momentum=0.9, nesterov=True),
        loss={"kind": "categorical_crossentropy", "size": "mse"},
        loss_weights={"kind": 1.0, "size": 0.25},
        metrics={"kind": ["accuracy"], "size": ["mae"]},
    )
    return model


@zoo.entry("functional", "bn", "compiled", "custom", "multi_io")
def compiled_list_losses(K: ModuleType) -> Any:
    """A loss function of the user's own, and a list of losses over a list of outputs."""
    L = K.layers
    inputs = K.Input(IMAGE)
    x = L.BatchNormalization()(L.Conv2D(4, 3, **BIAS)(inputs))
    model = K.Model(inputs, [x, classify(K, x)])
    model.compile("rmsprop", loss=[shifted_mse(K), "mse"], loss_weights=[0.5, 2.0])
    return model


@zoo.entry("functional", "bn", "compiled", only=TF_KERAS)
def functional_add_loss(K: ModuleType) -> Any:
    """`model.add_loss(tensor)` and `add_metric`: nodes of the graph that no output reads."""
    import tensorflow as tf

    L = K.layers
    inputs = K.Input(IMAGE)
    x = L.BatchNormalization()(L.Conv2D(4, 3, **BIAS)(inputs))
    model = K.Model(inputs, classify(K, x))
    model.add_loss(0.1 * tf.reduce_mean(tf.square(x)))
    model.add_metric(tf.reduce_max(x), name="largest")
    model.compile("adam", "mse")
    return model


@zoo.entry("functional", "compiled")
def no_batch_norm(K: ModuleType) -> Any:
    """The control: nothing to repair."""
    inputs = K.Input(IMAGE)
    model = K.Model(inputs, classify(K, K.layers.Conv2D(4, 3, activation="relu")(inputs)))
    model.compile("adam", "categorical_crossentropy")
    return model


@zoo.entry("sequential")
def no_weights_at_all(K: ModuleType) -> Any:
    return K.Sequential([K.Input(IMAGE), K.layers.MaxPooling2D(), K.layers.Flatten()])
