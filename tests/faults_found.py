"""The rest of the gallery: faults that public reports tell of, each rebuilt as small as it goes.

Imported for its effect: `faults.GALLERY` grows by them. `report` names the repository and the
number of the report where the repository belongs to a project; people are not named.
"""

from types import ModuleType
from typing import Any

import faults
import numpy as np
import zoo
from faults import Made, fault, healthy, network, rows, spoil, task


def layer_of(K: ModuleType, function: Any, **options: Any) -> Any:
    """A layer of someone's own whose `call` is `function` of its inputs."""

    class Own(K.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return function(inputs)

        def compute_output_shape(self, shape: Any) -> Any:
            return shape

    return Own(**options)


# --- rows that depend on each other -----------------------------------------------------------


@fault("check", "bn", "batch_statistics", verb="freeze", report="broadinstitute/keras-resnet 47")
def an_option_freeze_that_means_training(K: ModuleType) -> Made:
    """`training=not self.freeze`: whoever does not freeze gets batch statistics for ever."""

    class BatchNormalization(K.layers.BatchNormalization):
        freeze = False

        def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
            return super().call(inputs, training=not self.freeze)

    inputs = K.Input((4,))
    norm = BatchNormalization(name="bn")
    return Made(K.Model(inputs, K.layers.Dense(2)(norm(K.layers.Dense(4)(inputs)))), rows(8, 4))


@fault("check", "unit", "batch_coupling", mends=False, report="keras-team/keras 3521")
def columns_scaled_to_unit_length(K: ModuleType) -> Made:
    """A Lambda written for one row, in which the axis 0 is that of the batch."""
    f = zoo.functions(K)
    inputs = K.Input((4,))
    x = K.layers.Reshape((2, 2))(inputs)
    x = K.layers.Lambda(
        lambda x: x / f.sqrt(f.sum(x**2, axis=0)), output_shape=(2, 2), name="unit"
    )(x)
    return Made(K.Model(inputs, K.layers.Flatten()(x)), rows(8, 4))


@fault("check", "normalize", "batch_coupling", mends=False, report="a library of audio layers")
def spectrograms_normalized_by_their_batch(K: ModuleType) -> Made:
    f = zoo.functions(K)

    def normalize(x: Any) -> Any:
        apart = x - f.mean(x, axis=(0, 1, 2), keepdims=True)
        variance = f.mean(f.square(apart), axis=(0, 1, 2), keepdims=True)
        return apart / f.sqrt(variance + 1e-6)

    return behind(K, layer_of(K, normalize, name="normalize"))


def behind(K: ModuleType, layer: Any) -> Made:
    L = K.layers
    inputs = K.Input((5, 5, 2))
    x = L.Conv2D(3, 3)(layer(inputs))
    return Made(K.Model(inputs, L.GlobalAveragePooling2D()(x)), rows(8, 5, 5, 2))


@fault("check", "mean", "batch_coupling", mends=False, report="tensorflow/tensorflow 45656")
def the_mean_of_the_batch_as_an_answer(K: ModuleType) -> Made:
    f = zoo.functions(K)
    inputs = K.Input((4,))
    x = K.layers.Dense(3)(inputs)
    mean = K.layers.Lambda(lambda x: f.mean(x, axis=0), output_shape=(), name="mean")
    return Made(K.Model(inputs, mean(x)), rows(8, 4))


@fault("check", "norm", "batch_coupling", mends=False, report="d2l-ai/d2l-en 2086")
def a_batch_norm_written_from_scratch(K: ModuleType) -> Made:
    """Without a word on `training`: it follows the batch, and keeps count of that at inference."""
    f = zoo.functions(K)

    class Norm(K.layers.Layer):
        def build(self, shape: Any) -> None:
            self.mean = self.add_weight(
                name="mean", shape=(shape[-1],), initializer="zeros", trainable=False
            )

        def call(self, inputs: Any) -> Any:
            mean = f.mean(inputs, axis=0)
            self.mean.assign(0.9 * self.mean + 0.1 * mean)
            return (inputs - mean) / f.std(inputs, axis=0)

        def compute_output_shape(self, shape: Any) -> Any:
            return shape

    inputs = K.Input((4,))
    x = Norm(name="norm")(K.layers.Dense(5)(inputs))
    return Made(K.Model(inputs, K.layers.Dense(2)(x)), rows(8, 4))


# --- calls that depend on calls ---------------------------------------------------------------


@fault("check", "dropout", "randomness", mends=False, report="tensorflow/tensorflow 28484")
def dropout_that_is_always_on(K: ModuleType) -> Made:
    tf = zoo.tensorflow()
    inputs = K.Input((30,))
    x = layer_of(K, lambda x: tf.nn.dropout(x, 0.5), name="dropout")(inputs)
    return Made(K.Model(inputs, K.layers.Dense(2)(x)), rows(8, 30))


@fault("check", "z", "randomness", mends=False, report="keras-team/keras-io 1836")
def the_sampling_of_an_autoencoder(K: ModuleType) -> Made:
    tf = zoo.tensorflow()

    class Sampling(K.layers.Layer):
        def call(self, inputs: Any) -> Any:
            mean, log_variance = inputs
            return mean + tf.exp(0.5 * log_variance) * tf.random.normal(tf.shape(mean))

        def compute_output_shape(self, shapes: Any) -> Any:
            return shapes[0]

    L = K.layers
    inputs = K.Input((6,))
    z = Sampling(name="z")([L.Dense(2)(inputs), L.Dense(2)(inputs)])
    return Made(K.Model(inputs, L.Dense(6)(L.BatchNormalization()(z))), rows(8, 6))


@fault("check", "spectral", "state", mends=False, report="tensorflow/addons 1244")
def power_iterations_at_inference(K: ModuleType) -> Made:
    """Spectral normalization as discriminators had it: one step nearer with every call."""
    f = zoo.functions(K)

    def unit(x: Any) -> Any:
        return x / f.sqrt(f.sum(f.square(x)))

    class Spectral(K.layers.Layer):
        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(
                name="kernel", shape=(shape[-1], 5), initializer="glorot_uniform"
            )
            self.u = self.add_weight(name="u", shape=(1, 5), initializer="ones", trainable=False)

        def call(self, inputs: Any) -> Any:
            v = unit(f.matmul(self.u, f.transpose(self.kernel)))
            u = unit(f.matmul(v, self.kernel))
            self.u.assign(u)
            sigma = f.matmul(f.matmul(v, self.kernel), f.transpose(u))
            return f.matmul(inputs, self.kernel / sigma)

        def compute_output_shape(self, shape: Any) -> Any:
            return (*shape[:-1], 5)

    K.utils.set_random_seed(0)
    inputs = K.Input((4,))
    return Made(K.Model(inputs, K.layers.Dense(1)(Spectral(name="spectral")(inputs))), rows(8, 4))


@fault("check", "both/forward_lstm", "state", mends=False, report="tensorflow/tensorflow 38403")
def states_in_both_directions(K: ModuleType) -> Made:
    L = K.layers
    inputs = K.Input(batch_size=4, shape=(3, 2))
    both = L.Bidirectional(L.LSTM(2, stateful=True, name="lstm"), name="both")
    return Made(K.Model(inputs, L.Dense(2)(both(inputs))), rows(4, 3, 2))


@fault("check", "instance", "nonfinite", mends=False, report="tensorflow/tensorflow 47156")
def a_variance_in_half_precision(K: ModuleType) -> Made:
    """Squares of what is far from 0 are beyond 65,504."""
    f = zoo.functions(K)

    def normalize(x: Any) -> Any:
        mean = f.mean(x, axis=(1, 2), keepdims=True)
        variance = f.mean(f.square(x), axis=(1, 2), keepdims=True) - f.square(mean)
        return (x - mean) / f.sqrt(variance + f.cast(1e-3, x.dtype))

    made = behind(K, layer_of(K, normalize, name="instance", dtype="mixed_float16"))
    return Made(made.model, made.x * 900)


# --- values -----------------------------------------------------------------------------------


@fault("diagnose", "base/bn", "nonfinite", report="keras-team/keras 11927")
def a_twin_whose_mean_ran_away(K: ModuleType) -> Made:
    inner = K.Input((4,))
    bn = K.layers.BatchNormalization(name="bn")
    base = K.Model(inner, K.layers.Dense(3)(bn(inner)), name="base")
    one, other = K.Input((4,), name="one"), K.Input((4,), name="other")
    model = K.Model([one, other], K.layers.Subtract()([base(one), base(other)]))
    bn.moving_mean.assign(np.array([0, np.nan, np.inf, 1], "float32"))
    return Made(model, [rows(64, 4), rows(64, 4, seed=1)])


@fault("diagnose", "bn3", "nonfinite", report="tensorflow/tensorflow 34062")
def a_variance_of_one_value(K: ModuleType) -> Made:
    """A last batch of one image, at the layer where one position is left of it."""
    L = K.layers
    x = inputs = K.Input((8, 8, 2))
    for number in (1, 2, 3):
        x = L.Conv2D(4, 4, strides=2, padding="same", name=f"down{number}")(x)
        x = L.LeakyReLU()(L.BatchNormalization(momentum=0.0, name=f"bn{number}")(x))
    model = K.Model(inputs, L.Flatten()(x))
    x = rows(48, 8, 8, 2)
    model(x, training=True)
    model.get_layer("bn3").moving_variance.assign(np.full(4, np.nan, "float32"))
    return Made(model, x)


@fault("diagnose", "bn1", "exchanged", report="a port of PSPNet")
def statistics_first_then_scale_and_shift(K: ModuleType) -> Made:
    """The order of another framework handed to set_weights()."""
    return spoil(
        K,
        "bn1",
        gamma=faults.get("moving_mean"),
        beta=faults.get("moving_variance"),
        moving_mean=faults.get("gamma"),
        moving_variance=faults.get("beta"),
    )


@fault("diagnose", "bn1", "shifted", severity="warning", report="apache/mxnet 6176")
def sums_whose_scale_factor_was_forgotten(K: ModuleType) -> Made:
    made = healthy(K)
    for name in ("bn1", "bn2"):
        layer = made.model.get_layer(name)
        for variable in (layer.moving_mean, layer.moving_variance):
            variable.assign(variable.numpy() * 999.98)
    return Made(made.model, made.x)


# --- structure and flags ----------------------------------------------------------------------


@fault(
    "diagnose", "bn", "wrong_axis", mends=False, severity="warning", report="keras-team/keras 4906"
)
def the_default_axis_behind_channels_first(K: ModuleType) -> Made:
    inputs = K.Input((3, 6, 6))
    x = K.layers.Conv2D(4, 3, data_format="channels_first")(inputs)
    x = K.layers.ReLU()(K.layers.BatchNormalization(name="bn")(x))
    return Made(K.Model(inputs, K.layers.Flatten()(x)), None)


@fault("diagnose", "critic/bn", "stale_compile", severity="warning", report="keras-team/keras 6405")
def a_critic_frozen_between_two_steps(K: ModuleType) -> Made:
    """`trainable` is turned off and on around each step, and nothing is compiled again."""
    L = K.layers
    critic = K.Sequential(
        [K.Input((4,)), L.Dense(3), L.BatchNormalization(name="bn"), L.Dense(1)], name="critic"
    )
    inputs = K.Input((2,))
    model = K.Model(inputs, critic(L.Dense(4)(inputs)))
    model.compile("sgd", "mse")
    model.train_on_batch(rows(8, 2), rows(8, 1))
    critic.trainable = False
    return Made(model, None)


# --- training ---------------------------------------------------------------------------------


def trained(K: ModuleType, number: int, batch_size: int, epochs: int, momentum: float) -> Made:
    K.utils.set_random_seed(0)
    model = network(K, momentum=momentum)
    x, y = task(number)
    model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0)
    return Made(model, x, y)


@fault("diagnose", "bn1", "momentum", report="a converter from PyTorch")
def a_momentum_of_one(K: ModuleType) -> Made:
    """The statistics stay as they begin, whatever is learned."""
    return trained(K, 256, 64, 3, 1.0)


@fault("diagnose", "bn1", "momentum", report="keras-team/keras 23623")
def a_momentum_above_one(K: ModuleType) -> Made:
    """Each step leads farther away from the statistics of its batch."""
    return trained(K, 256, 64, 2, 1.5)


@fault("diagnose", "bn1", "shifted", severity="warning", report="a repository on few-shot learning")
def a_momentum_of_zero(K: ModuleType) -> Made:
    """The statistics are those of the last task, which was another."""
    made = healthy(K, momentum=0.0)
    made.model(made.x[:32] * 2 + 3, training=True)
    return Made(made.model, made.x)


@fault("diagnose", "bn1", "shifted", severity="warning", report="keras-team/keras 8982")
def batches_of_two(K: ModuleType) -> Made:
    """Their variance is half of that of the data, on average."""
    made = trained(K, 64, 2, 4, 0.9)
    return Made(made.model, made.x)


@fault("diagnose", "bn1", "unconverged", report="tensorflow/tensorflow 36446")
def two_rows_learned_by_heart(K: ModuleType) -> Made:
    made = trained(K, 32, 32, 30, 0.99)
    return Made(made.model, made.x)


@fault("diagnose", "steps/bn", "unconverged", report="tensorflow/tensorflow 30109")
def statistics_over_time(K: ModuleType) -> Made:
    L = K.layers
    inputs = K.Input((5, 3))
    norm = L.BatchNormalization(name="bn")
    x = L.TimeDistributed(norm, name="steps")(inputs)
    model = K.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(x)))
    x = rows(64, 5, 3) * 3 + 5
    for _ in range(20):
        model(x, training=True)
    return Made(model, x)


@fault("diagnose", "bn1", "unconverged", report="keras-team/keras 10666")
def a_unet_after_one_epoch(K: ModuleType) -> Made:
    L = K.layers
    inputs = K.Input((8, 8, 1))
    down = L.ReLU()(L.BatchNormalization(name="bn1")(L.Conv2D(4, 3, padding="same")(inputs)))
    x = L.Conv2D(4, 3, padding="same")(L.MaxPooling2D()(down))
    x = L.UpSampling2D()(L.ReLU()(L.BatchNormalization(name="bn2")(x)))
    x = L.BatchNormalization(name="bn3")(L.Conv2D(4, 3, padding="same")(L.Concatenate()([down, x])))
    model = K.Model(inputs, L.Conv2D(1, 1, activation="sigmoid")(x))
    x = rows(16, 8, 8, 1) * 2 + 4
    for _ in range(12):
        model(x, training=True)
    return Made(model, x)
