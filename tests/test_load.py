"""`load` and `save`: the right Keras, whatever the file is called, and whole files only."""

import shutil

import numpy as np
import references as ref
import zoo

import bnfix
from bnfix.files.trust import OPTIMIZERS_OF_TF_KERAS

#: One of each that the Kerases have trouble with in each other's files.
NAMES = {
    "tf_keras": ("bn_synchronized", "bn_renorm", "shared_layer"),
    "keras3": (),
}


def saved(model, path):
    bnfix.save(model, path)
    return path


def small(K, **compiled):
    """A BN between two linear layers."""
    L = K.layers
    inputs = K.Input((4, 4, 3))
    x = L.DepthwiseConv2D(3, name="depthwise")(inputs)
    x = L.BatchNormalization(name="bn")(x)
    model = K.Model(inputs, L.Dense(2, name="dense")(L.Flatten()(x)))
    zoo.randomise_batch_norms(model, 0)
    if compiled:
        model.compile(**compiled)
    return model


def test_the_suffix_is_irrelevant(K, tmp_path):
    model = small(K)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    wanted = ref.inferred(model, x)
    for suffix in (".h5", ".keras"):
        path = saved(model, tmp_path / f"model{suffix}")
        for name in ("model", "model.weights.h5", "model.h5", "model.keras", "model.pb", "m.H5"):
            alias = tmp_path / suffix[1:] / name
            alias.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, alias)
            opened = bnfix.load(alias)
            assert type(opened).__module__.partition(".")[0] == K.__name__
            ref.assert_close(ref.inferred(opened, x), wanted, 1e-6)


def test_optimizers_that_tf_keras_registers_as_if_they_were_a_users_are_known():
    registered = zoo.keras_module("tf_keras").utils.get_custom_objects()
    named = {
        key.removeprefix("Custom>")
        for key, value in registered.items()
        if value.__module__.startswith("tf_keras.src.optimizers.")
    }
    assert named == OPTIMIZERS_OF_TF_KERAS
