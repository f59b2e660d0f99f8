# ruff: noqa: T201
"""Run by `test_replicas.py`: two replicas have to be set up before TensorFlow does anything."""

import sys

import numpy as np
import tensorflow as tf
import zoo

import bnfix

CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)
K = zoo.keras_module(sys.argv[1])
X = np.random.default_rng(0).normal(size=(40, 6, 6, 3)).astype("float32")
Y = X.mean((1, 2))[:, :1]

with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    K.utils.set_random_seed(0)
    L = K.layers
    inputs = K.Input((6, 6, 3))
    x = L.BatchNormalization(name="bn")(L.Conv2D(4, 3)(inputs), training=sys.argv[1] == "tf_keras")
    model = K.Model(inputs, L.Dense(1)(L.GlobalAveragePooling2D()(x)))
    model.compile("sgd", "mse")

for rows in (2, 8):
    report = bnfix.check(model, X[:3], rows=rows)
    print(rows, report.rows, report.culprit)
_, report = bnfix.recalibrate(model, (X, Y), batch_size=20, verbose=0, return_report=True)
print(report.batches, report.verdict is not None)
print(len(bnfix.diagnose(model, (X, Y), batch_size=20).layers))
ran = model.fit(X, Y, verbose=0, callbacks=[bnfix.callbacks.RecalibrateBN(X)])
print(len(ran.history["bn_off"]))
