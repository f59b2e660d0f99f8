# ruff: noqa: T201
"""One worker of several; `test_workers.py` starts them.

    python workers_run.py KERAS SCENARIO RANK PORT,PORT,...

What a worker finds is printed as a line of JSON.
"""

import json
import os
import signal
import sys
import warnings

DIALECT, SCENARIO, RANK, PORTS = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4].split(",")
os.environ["TF_CONFIG"] = json.dumps(
    {
        "cluster": {"worker": [f"localhost:{port}" for port in PORTS]},
        "task": {"type": "worker", "index": RANK},
    }
)

import numpy as np
import tensorflow as tf
import zoo

import bnfix

SIZE = len(PORTS)
STRATEGY = tf.distribute.MultiWorkerMirroredStrategy() if SIZE > 1 else tf.distribute.get_strategy()
K = zoo.keras_module(DIALECT)
X = np.random.default_rng(0).normal(2, 3, size=(47, 6, 6, 3)).astype("float32")
Y = X.mean((1, 2))[:, :1]
#: Rows of each worker, by scenario: of unequal length, and none at all.
BOUNDS = {1: [0, 47], 2: [0, 11, 47], 3: [0, 11, 11, 47], 4: [0, 5, 11, 40, 47]}[SIZE]
HERE = slice(BOUNDS[RANK], BOUNDS[RANK + 1])


def functional():
    L = K.layers
    inputs = K.Input((6, 6, 3))
    x = L.BatchNormalization(name="one")(L.Conv2D(4, 3)(inputs))
    y = L.BatchNormalization(name="two")(L.Conv2D(4, 3)(L.ReLU()(x)))
    y = L.GlobalAveragePooling2D()(L.ReLU()(y))
    return K.Model(inputs, L.Dense(1)(L.BatchNormalization(name="three")(y)))


class Code(K.Model):
    """Goes by values, so that it has no graph."""

    def __init__(self):
        super().__init__()
        self.dense = K.layers.Dense(4)
        self.one = K.layers.BatchNormalization(name="one")
        self.two = K.layers.BatchNormalization(name="two")

    def call(self, x, training=None):
        x = self.one(self.dense(x), training=training)
        if float(tf.reduce_sum(tf.ones(2))) > 1:
            x = x + 1
        return self.two(self.dense(tf.nn.relu(x) @ tf.ones((4, 3))), training=training)


def told(model):
    """Every statistic of this worker, to the last bit."""
    norms = sorted(zoo.batch_norms(model), key=lambda layer: layer.name)
    found = [(layer.name, layer.moving_mean, layer.moving_variance) for layer in norms]
    return {name: [held(mean), held(variance)] for name, mean, variance in found}


def held(variable):
    variable = variable if isinstance(variable, tf.Variable) else variable.value
    part = STRATEGY.experimental_local_results(variable)[0] if SIZE > 1 else variable
    return [value.hex() for value in part.numpy().astype("float64").tolist()]


def made(build=functional, **options):
    K.utils.set_random_seed(0)
    with STRATEGY.scope():
        model = build()
        if options:
            model.compile(**options)
    return model


def show(**facts):
    print(json.dumps(facts), flush=True)


def measured(**options):
    model = made()
    _, report = bnfix.recalibrate(
        model, X[HERE], batch_size=4, verbose=0, return_report=True, **options
    )
    show(statistics=told(model), engine=report.engine, counts=[row.count for row in report.layers])


def exact():
    measured()


def streaming():
    model = made()
    bnfix.recalibrate(model, X[HERE], method="streaming", batch_size=4, verbose=0)
    show(statistics=told(model))


def lockstep():
    K.utils.set_random_seed(0)
    with STRATEGY.scope():
        model = Code()
        model.compile("sgd", "mse", run_eagerly=True)
    rows = X.reshape(-1, 3)[: 47 * 3]
    model(rows[:1])
    _, report = bnfix.recalibrate(
        model, rows[HERE.start * 3 : HERE.stop * 3], verbose=0, return_report=True
    )
    show(statistics=told(model), engine=report.engine)


def guarded():
    """New statistics are worse for all, though better for one of them."""
    model = made(loss="mse", optimizer="sgd")
    y = model(X, training=False).numpy()  # right as it stands
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        before = told(model)
        _, report = bnfix.recalibrate(
            model, (X[HERE], y[HERE]), batch_size=4, verbose=0, return_report=True
        )
    said = [str(one.message) for one in seen if issubclass(one.category, bnfix.BnfixWarning)]
    show(kept=report.kept, verdict=str(report.verdict), same=told(model) == before, said=len(said))


def refused(work):
    try:
        work()
    except bnfix.BnfixError as error:
        show(error=type(error).__name__, message=str(error))


def other_options():
    refused(lambda: measured(ddof=RANK))


def other_weights():
    model = made()
    if RANK:
        model.get_layer("three").gamma.assign([2.0] * 4)
    before = told(model)
    refused(lambda: bnfix.recalibrate(model, X[HERE], verbose=0))
    show(same=told(model) == before)


def bad_data():
    model, x = made(), X[HERE].copy()
    if RANK:
        x[3] = np.nan
    before = told(model)
    refused(lambda: bnfix.recalibrate(model, x, verbose=0))
    show(same=told(model) == before)


def no_data():
    refused(lambda: bnfix.recalibrate(made(), X[:0], verbose=0))


def fitted():
    model = made(loss="mse", optimizer="sgd")
    ds = tf.data.Dataset.from_tensor_slices((X[:40], Y[:40])).batch(8)
    seen = []

    class Look(K.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(told(model))

    callbacks = [bnfix.callbacks.RecalibrateBN(X[HERE], guard=False), Look()]
    model.fit(ds, epochs=2, verbose=0, callbacks=callbacks if "without" not in SCENARIO else Look())
    show(statistics=seen)


fitted_without = fitted


def dies():
    lost(signal.SIGKILL)


def stands_still():
    lost(signal.SIGSTOP)


def lost(how):
    """The last worker goes after its first meeting."""
    from bnfix.recalibration.meeting import Together

    model = made()
    before, meet = told(model), Together.merged

    def merged(self, found, *, at):
        if RANK == SIZE - 1:
            os.kill(os.getpid(), how)
        return meet(self, found, at=at)

    Together.merged = merged
    refused(lambda: bnfix.recalibrate(model, X[HERE], verbose=0))
    show(same=told(model) == before)


globals()[SCENARIO]()
sys.stdout.flush()
os._exit(0)  # TensorFlow waits for workers that are gone
