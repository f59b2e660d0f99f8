# ruff: noqa: T201
"""Run by `test_replicas.py`: two replicas have to be set up before TensorFlow does anything."""

import sys
from contextlib import nullcontext
from unittest import mock

import numpy as np
import tensorflow as tf
import zoo

import bnfix
from bnfix.adapters.backends.tensorflow import TensorFlow
from bnfix.adapters.choose import adapter_of
from bnfix.breadth_first import sizing
from bnfix.breadth_first.engine import Engine

CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)
K = zoo.keras_module(sys.argv[1])
X = np.random.default_rng(0).normal(size=(40, 6, 6, 3)).astype("float32")
Y = X.mean((1, 2))[:, :1]

STRATEGY = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with STRATEGY.scope():
    K.utils.set_random_seed(0)
    L = K.layers
    inputs = K.Input((6, 6, 3))
    x = L.BatchNormalization(name="bn")(L.Conv2D(4, 3)(inputs), training=sys.argv[1] == "tf_keras")
    x = L.BatchNormalization(name="second")(L.Conv2D(4, 3)(x))
    model = K.Model(inputs, L.Dense(1)(L.GlobalAveragePooling2D()(x)))
    model.compile("sgd", "mse")


def assert_equal_in_all_replicas(model):
    for _, layer in adapter_of(model).batch_norms(model):
        for variable in (layer.moving_mean, layer.moving_variance):
            held = variable if isinstance(variable, tf.Variable) else variable.value
            first, *others = STRATEGY.experimental_local_results(held)
            assert others, "there is one replica only"
            for other in others:
                np.testing.assert_array_equal(first.numpy(), other.numpy())


def where_pieces_run(batch_size):
    """The devices on which pieces run, and whether statistics are those of one device."""
    devices, through = set(), Engine._through

    def spied(*args):
        kept, measured = through(*args)
        devices.update(tensor.device[-5:] for tensor, _ in kept)
        return kept, measured

    with mock.patch.object(Engine, "_through", spied), mock.patch.object(sizing, "PIECE_BYTES", 1):
        bnfix.recalibrate(model, X, batch_size=batch_size, verbose=0)
    found = [layer.get_weights()[2:] for _, layer in adapter_of(model).batch_norms(model)]
    with mock.patch.object(TensorFlow, "places", return_value=(nullcontext,)):
        bnfix.recalibrate(model, X, batch_size=batch_size, verbose=0)
    wanted = [layer.get_weights()[2:] for _, layer in adapter_of(model).batch_norms(model)]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)
    assert_equal_in_all_replicas(model)
    return sorted(devices)


for rows in (2, 8):
    report = bnfix.check(model, X[:3], rows=rows)
    print(rows, report.rows, report.culprit)
_, report = bnfix.recalibrate(model, (X, Y), batch_size=20, verbose=0, return_report=True)
print(report.batches, report.verdict is not None)
print(len(bnfix.diagnose(model, (X, Y), batch_size=20).layers))
print(*where_pieces_run(batch_size=20), *where_pieces_run(batch_size=1))
ran = model.fit(X, Y, verbose=0, callbacks=[bnfix.callbacks.RecalibrateBN(X)])
print(len(ran.history["bn_off"]))
