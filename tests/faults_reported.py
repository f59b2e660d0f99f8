"""More of the gallery: faults as users have reported them, of training code, files and models.

Imported for its effect: `faults.GALLERY` grows by them.
"""

from types import ModuleType
from typing import Any

import faults
import numpy as np
import zoo
from faults import Made, fault, healthy, network, rows, spoil, task

KERAS3 = frozenset({"keras3"})


def images(number: int = 8, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(size=(number, 6, 6, 3)).astype("float32")


def behind(K: ModuleType, *layers: Any) -> Made:
    """A small convolutional classifier behind `layers`."""
    L = K.layers
    x = inputs = K.Input((6, 6, 3))
    for layer in layers:
        x = layer(x)
    x = L.BatchNormalization(name="bn")(L.Conv2D(4, 3, name="conv")(x))
    return Made(K.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(L.ReLU()(x)))), images())


# --- training mode by default ---------------------------------------------------------------------


@fault("check", "flip", "training_by_default", severity="note")
def augmentation_as_the_guides_write_it(K: ModuleType) -> Made:
    return behind(K, K.layers.RandomFlip("horizontal", name="flip"))


@fault("check", "resize", "training_by_default", severity="note", dialects=KERAS3, since="3.8")
def resizing_in_the_model(K: ModuleType) -> Made:
    """Nothing in it is random, and every image model may begin so."""
    return behind(K, K.layers.Resizing(5, 5, name="resize"))


@fault("check", "head/resize", "training_by_default", severity="note", dialects=KERAS3, since="3.8")
def resizing_made_anew_in_each_call(K: ModuleType) -> Made:
    """As keras-hub's DeepLabV3 does, so that no layer that the model has is to blame."""
    L = K.layers

    class Head(L.Layer):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.bn = L.BatchNormalization(name="bn")

        def build(self, shape: Any) -> None:
            self.bn.build(shape)

        def call(self, inputs: Any) -> Any:
            return self.bn(L.Resizing(5, 5, name="resize")(inputs))

    inputs = K.Input((6, 6, 3))
    x = Head(name="head")(L.Conv2D(4, 3, name="conv")(inputs))
    return Made(K.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(L.ReLU()(x)))), images())


@fault("check", "augment/flip", "training_by_default", severity="note")
def a_sequential_of_augmentations(K: ModuleType) -> Made:
    L = K.layers
    augment = [L.RandomFlip("horizontal", name="flip"), L.RandomRotation(0.2, name="rotate")]
    return behind(K, K.Sequential(augment, name="augment"))


@fault("check", "crop", "training_by_default", severity="note", dialects=KERAS3, since="3.8")
def a_whole_model_as_a_sequential(K: ModuleType) -> Made:
    L = K.layers
    layers = [L.CenterCrop(5, 5, name="crop"), L.Conv2D(4, 3), L.BatchNormalization(name="bn")]
    return Made(K.Sequential([K.Input((6, 6, 3)), *layers, L.Flatten()]), images())


@fault("check", "crop", "training_by_default", severity="note", dialects=KERAS3, since="3.8")
def a_pretrained_base_behind_a_crop(K: ModuleType) -> Made:
    """The mode goes over into nested models, too."""
    L = K.layers
    inner = K.Input((5, 5, 3))
    base = K.Model(inner, L.BatchNormalization(name="bn")(L.Conv2D(4, 3)(inner)), name="base")
    inputs = K.Input((6, 6, 3))
    x = base(L.CenterCrop(5, 5, name="crop")(inputs))
    return Made(K.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x))), images())


@fault("check", "jitter", "training_by_default", severity="note")
def a_layer_of_a_library_with_such_a_default(K: ModuleType) -> Made:
    tf = zoo.tensorflow()

    class Jitter(K.layers.Layer):
        def call(self, inputs: Any, training: Any = True) -> Any:
            return inputs + tf.random.normal(tf.shape(inputs)) if training else inputs

        def compute_output_shape(self, shape: Any) -> Any:
            return shape

    return behind(K, Jitter(name="jitter"))


@fault("check", "net", "training_by_default", severity="note", mends=False)
def a_model_whose_call_trains_by_default(K: ModuleType) -> Made:
    class Net(K.Model):
        def __init__(self) -> None:
            super().__init__(name="net")
            self.dense, self.norm = K.layers.Dense(4), K.layers.BatchNormalization(name="norm")

        def call(self, inputs: Any, training: Any = True) -> Any:
            return self.norm(self.dense(inputs), training=training)

    model = Net()
    model(rows(8, 3))
    return Made(model, rows(8, 3))


@fault("check", "flip", "training_by_default", dialects=KERAS3, since="3.10")
def a_model_whose_call_takes_no_training(K: ModuleType) -> Made:
    """So that `predict` has nothing to pass on, and augments."""

    class Net(K.Model):
        def __init__(self) -> None:
            super().__init__(name="net")
            self.flip = K.layers.RandomFlip("horizontal", name="flip")
            self.norm = K.layers.BatchNormalization(name="norm")

        def call(self, inputs: Any) -> Any:
            return self.norm(self.flip(inputs))

    model = Net()
    model(images())
    return Made(model, images())


# --- rows that depend on each other ---------------------------------------------------------------


@fault("check", "bn", "batch_statistics")
def training_given_as_a_number(K: ModuleType) -> Made:
    inputs = K.Input((4,))
    bn = K.layers.BatchNormalization(name="bn")
    return Made(K.Model(inputs, K.layers.Dense(2)(bn(inputs, training=1))), rows(8, 4))


@fault("check", "norm", "batch_statistics", verb="freeze")
def a_subclass_that_always_trains(K: ModuleType) -> Made:
    """What GANs put in the place of mode=2, when that was gone."""

    class AlwaysTraining(K.layers.BatchNormalization):
        def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
            return super().call(inputs, training=True)

    inputs = K.Input((4,))
    norm = AlwaysTraining(name="norm")
    return Made(K.Model(inputs, K.layers.Dense(2)(norm(K.layers.Dense(4)(inputs)))), rows(8, 4))


def _lambda(K: ModuleType, name: str, function: Any) -> Made:
    inputs = K.Input((4,))
    x = K.layers.Dense(6)(inputs)
    x = K.layers.Lambda(function, output_shape=(6,), name=name)(x)
    return Made(K.Model(inputs, K.layers.Dense(2)(x)), rows(8, 4))


@fault("check", "scale", "batch_coupling", mends=False)
def scaled_by_the_largest_of_the_batch(K: ModuleType) -> Made:
    f = zoo.functions(K)
    return _lambda(K, "scale", lambda x: x / f.max(f.abs(x)))


@fault("check", "deviation", "batch_coupling", mends=False)
def the_deviation_of_the_batch_as_a_feature(K: ModuleType) -> Made:
    """As discriminators of progressive GANs have it, by design and at inference too."""
    f = zoo.functions(K)
    return _lambda(K, "deviation", lambda x: x * 0.5 + f.mean(f.std(x, axis=0)))


@fault("check", "reshape", "batch_coupling", mends=False)
def rows_torn_apart_by_a_reshape(K: ModuleType) -> Made:
    f = zoo.functions(K)
    return _lambda(K, "reshape", lambda x: f.transpose(f.reshape(x, (6, -1))))


@fault("check", None, "stale_function")
def frozen_after_the_first_predict(K: ModuleType) -> Made:
    """`predict` goes by the flag of the time when it was compiled."""
    made = faults.subclassed_in_training_mode(K)
    made.model.predict(made.x, verbose=0)
    made.model.norm.trainable = False
    return made


@fault("check", None, "stale_function")
def an_activation_taken_away_after_predict(K: ModuleType) -> Made:
    """To look at the logits; `predict` goes on giving probabilities."""
    inputs = K.Input((4,))
    model = K.Model(inputs, K.layers.Dense(3, activation="softmax", name="out")(inputs))
    model.predict(rows(8, 4), verbose=0)
    model.get_layer("out").activation = K.activations.linear
    return Made(model, rows(8, 4))


@fault("check", "noise", "randomness", verb="strip_training")
def noise_that_is_always_on(K: ModuleType) -> Made:
    inputs = K.Input((30,))
    x = K.layers.GaussianNoise(0.5, name="noise")(inputs, training=True)
    return Made(K.Model(inputs, K.layers.Dense(2)(x)), rows(8, 30))


# --- values -------------------------------------------------------------------------------------


@fault("check", "bn1", "nonfinite")
def infinite_variance_as_check_sees_it(K: ModuleType) -> Made:
    """A half-precision variance that overflowed; what follows is no second fault."""
    return spoil(K, "bn1", moving_mean=np.full(16, np.nan), moving_variance=np.full(16, np.inf))


@fault("diagnose", "bn1", "nonfinite")
def a_variance_that_overflowed(K: ModuleType) -> Made:
    def one(layer: Any) -> Any:
        found = layer.moving_variance.numpy()
        found[0] = np.inf
        return found

    return spoil(K, "bn1", moving_variance=one)


@fault("diagnose", "bn1", "exchanged")
def mean_and_variance_exchanged(K: ModuleType) -> Made:
    """By a converter that takes the weights in another order."""
    return spoil(
        K,
        "bn1",
        moving_mean=faults.get("moving_variance"),
        moving_variance=faults.get("moving_mean"),
    )


@fault("diagnose", "bn1", "shifted", severity="warning")
def inverse_deviations_for_variances(K: ModuleType) -> Made:
    """What other frameworks keep, copied as it is."""
    return spoil(K, "bn1", moving_variance=lambda n: 1 / np.sqrt(n.moving_variance.numpy() + 1e-3))


# --- training -------------------------------------------------------------------------------------


@fault("diagnose", "bn1", "shifted", severity="warning")
def one_row_that_was_not_standardized(K: ModuleType) -> Made:
    """It was in the last batches of training, fifty times as far out as the others."""
    made = healthy(K)
    batch = np.concatenate([made.x[:31], 50 * made.x[31:32]])
    for _ in range(3):
        made.model(batch, training=True)
    return Made(made.model, made.x)


@fault("diagnose", "bn1", "shifted", severity="warning")
def the_momentum_of_another_framework(K: ModuleType) -> Made:
    """0.1 there is 0.9 here: the statistics are those of the last batch, which was small."""
    made = healthy(K, momentum=0.01)
    made.model(made.x[:3], training=True)
    return Made(made.model, made.x)


@fault("diagnose", "bn1", "unconverged")
def a_momentum_for_millions_of_steps(K: ModuleType) -> Made:
    K.utils.set_random_seed(0)
    model = network(K, momentum=0.9997)
    x, y = task(256)
    model.fit(x, y, batch_size=64, epochs=4, verbose=0)
    return Made(model, x)


@fault("diagnose", "bn2", "never_updated")
def statistics_of_one_layer_not_loaded(K: ModuleType) -> Made:
    """By name, and the file called the last block something else."""
    made = healthy(K)
    made.model.get_layer("bn2").moving_mean.assign(np.zeros(16, "float32"))
    made.model.get_layer("bn2").moving_variance.assign(np.ones(16, "float32"))
    return made


@fault("diagnose", "bn1", "batch_of_one", verb="recalibrate")
def one_step_at_a_time_with_labels(K: ModuleType) -> Made:
    """A network for Q-learning, trained on one transition after the other."""
    K.utils.set_random_seed(0)
    model = network(K)
    x, y = task(60)
    model.fit(x, y, batch_size=1, epochs=2, verbose=0)
    return Made(model, x, y)


@fault("diagnose", "bn1", "frozen_untrained")
def a_discriminator_frozen_for_good(K: ModuleType) -> Made:
    """`trainable = False` for the generator's sake, and never taken back."""
    K.utils.set_random_seed(3)
    made = healthy(K)
    for name in ("bn1", "bn2"):
        layer = made.model.get_layer(name)
        for variable, value in zip(
            (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance),
            (1.0, 0.0, 0.0, 1.0),
            strict=True,
        ):
            variable.assign(np.full(16, value, "float32"))
    made.model.trainable = False
    return made


@fault("diagnose", "bn1", "stale_compile", severity="warning", verb="compile")
def thawed_after_compile(K: ModuleType) -> Made:
    made = healthy(K)
    made.model.get_layer("bn1").trainable = False
    made.model.compile("sgd", "sparse_categorical_crossentropy")
    made.model.fit(made.x[:64], made.y[:64], epochs=1, verbose=0)
    made.model.get_layer("bn1").trainable = True
    return Made(made.model, None)
