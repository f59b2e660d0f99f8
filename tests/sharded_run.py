# ruff: noqa: T201
"""Run by `test_jax.py`: three devices have to be set up before JAX does anything."""

import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=3"

import keras
import numpy as np
import references as ref

import bnfix

L, DEVICES = keras.layers, keras.distribution.list_devices()
if sys.argv[1] == "data":
    distribution = keras.distribution.DataParallel(devices=DEVICES)
else:
    mesh = keras.distribution.DeviceMesh((1, 3), ("batch", "model"), DEVICES)
    layout = keras.distribution.LayoutMap(mesh)
    layout["conv.*kernel"] = (None, None, None, "model")
    distribution = keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")


def network(**call):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    x = L.BatchNormalization(name="first")(L.Conv2D(6, 3)(inputs))
    x = L.BatchNormalization(name="second")(L.Conv2D(6, 3)(L.ReLU()(x)), **call)
    model = keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x)))
    model.compile("sgd", "mse")
    return model


def statistics(model):
    return [ref.statistics(model.get_layer(name)) for name in ("first", "second")]


X = np.random.default_rng(0).normal(2, 3, size=(30, 6, 6, 3)).astype("float32")
Y = X.mean((1, 2))[:, :2]
alone = bnfix.recalibrate(network(), X, verbose=0)

keras.distribution.set_distribution(distribution)
model = network(training=True)
model.fit(X, Y, batch_size=15, verbose=0)
print("check:", bnfix.check(model, X).culprit)
model = bnfix.strip_training(model, x=X[:7])
print("stripped:", bnfix.check(model, X).ok)
model.set_weights(network().get_weights())
bnfix.recalibrate(model, X, batch_size=10, verbose=0)
print("labels:", bnfix.diagnose(model, (X, Y), batch_size=15, verbose=0).losses is not None)
np.testing.assert_allclose(statistics(model), statistics(alone), rtol=1e-4, atol=1e-5)
folded, report = bnfix.fold(model, return_report=True)
print("folded:", len(report.changed), *(note for note in report.notes if "raises" in note))
np.testing.assert_allclose(
    folded.predict(X, batch_size=15, verbose=0),
    model.predict(X, batch_size=15, verbose=0),
    atol=1e-5,
)
fresh = bnfix.callbacks.RecalibrateBN(X)
model.compile("sgd", "mse")
ran = model.fit(
    X, Y, batch_size=15, epochs=2, verbose=0, callbacks=[fresh, bnfix.callbacks.FreezeBN(1)]
)
print("trained:", len(ran.history["bn_off"]))
