"""One worker of several; `test_workers.py` starts them.

    python workers_run.py KERAS SCENARIO RANK PORT,PORT,...

What a worker finds is printed as a line of JSON.
"""

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
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
BOUNDS = {1: [0, 47], 2: [0, 12, 47], 3: [0, 12, 12, 47], 4: [0, 4, 12, 40, 47]}[SIZE]
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

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = K.layers.Dense(4)
        self.one = K.layers.BatchNormalization(name="one")
        self.two = K.layers.BatchNormalization(name="two")
        self.last = K.layers.Dense(4)

    def call(self, x, training=None):
        x = self.one(self.dense(x), training=training)
        if float(tf.reduce_mean(x)) > -1e9:
            x = x + 1
        return self.two(self.last(tf.nn.relu(x)), training=training)


def code():
    model = Code()
    model(X[:1, 0, 0])
    return model


def made(build=functional, *, everywhere=True, **options):
    """The same model on all workers; a plain one if not `everywhere`."""
    K.utils.set_random_seed(0)
    with STRATEGY.scope() if everywhere else contextlib.nullcontext():
        model = build()
        if options:
            model.compile(**options)
    return model


def statistics(model):
    """Mean and variance of each layer, as this worker holds them."""
    norms = sorted(zoo.batch_norms(model), key=lambda layer: layer.name)
    return [(here(one.moving_mean), here(one.moving_variance)) for one in norms]


def here(variable):
    variable = variable if isinstance(variable, tf.Variable) else variable.value
    return STRATEGY.experimental_local_results(variable)[0].numpy()


def bits(model):
    """The same for the same statistics, to the last bit."""
    values = [part.tobytes() for pair in statistics(model) for part in pair]
    return hashlib.sha256(b"".join(values)).hexdigest()


def off(model, plain):
    """Largest difference in standard deviations."""
    return max(
        float(max(np.max(np.abs(m - n) / np.sqrt(w)), np.max(np.abs(np.sqrt(v / w) - 1))))
        for (m, v), (n, w) in zip(statistics(model), statistics(plain), strict=True)
    )


def show(scenario, **facts):
    print(json.dumps({"scenario": scenario, **facts}), flush=True)


def compared(scenario, build, x, part=None, **options):
    """`x` in parts on all workers against all of it in one process."""
    model, plain = made(build), made(build, everywhere=False)
    told = {"batch_size": 4, "verbose": 0, "return_report": True, **options}
    _, report = bnfix.recalibrate(model, x[HERE] if part is None else part, **told)
    _, whole = bnfix.recalibrate(plain, x, **told)
    counts = [[row.count for row in one.layers] for one in (report, whole)]
    facts = {"engine": report.engine, "same_counts": counts[0] == counts[1]}
    show(scenario, off=off(model, plain), bits=bits(model), **facts)


def exact():
    compared("exact", functional, X)


def streaming():
    compared("streaming", functional, X, method="streaming")


def lockstep():
    compared("lockstep", code, X[:, 0, 0])


def limited():
    compared("limited", functional, X, memory_limit="10 MB")


def from_context():
    """A function of an `InputContext`, as `distribute_datasets_from_function` takes it."""

    def part(context):
        ds = tf.data.Dataset.from_tensor_slices(X)
        return ds.shard(context.num_input_pipelines, context.input_pipeline_id).batch(4)

    compared("from_context", functional, X, part)


def distributed():
    """A dataset that the strategy has split, by rows, into parts of unequal length."""
    options = tf.data.Options()
    policy = tf.data.experimental.AutoShardPolicy.DATA
    options.experimental_distribute.auto_shard_policy = policy
    ds = tf.data.Dataset.from_tensor_slices(X).batch(8).with_options(options)
    compared("distributed", functional, X, STRATEGY.experimental_distribute_dataset(ds))


def guarded():
    """New statistics are worse for all together."""
    model = made(loss="mse", optimizer="sgd")
    y = made(everywhere=False)(X, training=False).numpy()  # right as it stands
    before = bits(model)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        _, report = bnfix.recalibrate(
            model, (X[HERE], y[HERE]), batch_size=4, verbose=0, return_report=True
        )
    said = sum(issubclass(one.category, bnfix.BnfixWarning) for one in seen)
    show(
        "guarded",
        kept=report.kept,
        same=bits(model) == before,
        verdict=str(report.verdict),
        said=said,
    )


def refused(scenario, x=X[HERE], model=None, **options):
    model = made() if model is None else model
    before, error = bits(model), None
    try:
        bnfix.recalibrate(model, x, verbose=0, **options)
    except (bnfix.BnfixError, KeyboardInterrupt) as refusal:
        error = refusal
    show(scenario, error=type(error).__name__, said=str(error), same=bits(model) == before)


def other_options():
    refused("other_options", ddof=RANK % 2)


def other_weights():
    model = made()
    if RANK:
        model.get_layer("three").gamma.assign([2.0] * 4)
    refused("other_weights", model=model)


def bad_data():
    x = X[HERE].copy()
    if RANK == SIZE - 1:
        x[3] = np.nan
    refused("bad_data", x)


def too_few():
    refused("too_few", min_count=10**6)


def no_data():
    refused("no_data", X[:0])


def diagnosed():
    """What is seen of all the data, although one worker's alone would look well."""
    model, plain = (made(everywhere=one, loss="mse", optimizer="sgd") for one in (True, False))
    for one in (model, plain):
        one.get_layer("one").moving_mean.assign(np.full(4, 9.0))
    before = bits(model)
    report = bnfix.diagnose(model, (X[HERE], Y[HERE]), batch_size=4, verbose=0)
    alone = bnfix.diagnose(plain, (X, Y), batch_size=4, verbose=0)
    text, wanted = ([f"{s.cause} {s.paths}" for s in one.symptoms] for one in (report, alone))
    near = bool(np.isclose(report.losses.of_data, alone.losses.of_data, rtol=1e-5))
    show("diagnosed", text=text, wanted=wanted, near=near, same=bits(model) == before)


def alone_only():
    model = made(loss="mse", optimizer="sgd")
    before, said = bits(model), []
    for verb in (bnfix.repair, bnfix.to_group_norm):
        try:
            verb(model, X[HERE], verbose=0)
        except bnfix.UnsupportedModelError as refusal:
            said.append("works in one process" in str(refusal))
    show("alone_only", said=said, same=bits(model) == before)


def calls():
    """One call after the other, refused ones among them: all workers stay in step."""
    for scenario in (
        exact, bad_data, streaming, other_options, lockstep, other_weights, limited, no_data,
        guarded, diagnosed, from_context, distributed, alone_only, too_few, exact,
    ):  # fmt: skip
        scenario()


def fitted(callback=True):
    model = made(loss="mse", optimizer="sgd")
    ds = tf.data.Dataset.from_tensor_slices((X[:40], Y[:40])).batch(8)
    seen = []

    class Look(K.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(bits(model))

    first = [bnfix.callbacks.RecalibrateBN(X[HERE], guard=False)] if callback else []
    model.fit(ds, epochs=2, verbose=0, callbacks=[*first, Look()])
    show("fitted", bits=seen)


def fitted_without():
    fitted(callback=False)


def dies():
    lost(signal.SIGKILL)


def stands_still():
    lost(signal.SIGSTOP)


def interrupted():
    """Ctrl-C, which only one of them is told."""
    lost(signal.SIGINT)


def absent():
    """One worker is well, and never comes."""
    from bnfix.adapters.backends import tensorflow_workers

    tensorflow_workers.PATIENCE = 10.0
    if RANK == SIZE - 1:
        made()
        time.sleep(600)
    started = time.monotonic()
    refused("lost")
    show("waited", seconds=time.monotonic() - started)


def lost(how):
    """One worker goes where the others wait for it."""
    from bnfix.recalibration.meeting import Together

    meet, gone, meetings = Together._meet, int(os.environ.get("GONE", SIZE - 1)), []

    def met(self, how_said, said, *, at):
        meetings.append(at)
        if gone == RANK and len(meetings) == 5:  # in the middle of the levels
            os.kill(os.getpid(), how)
        return meet(self, how_said, said, at=at)

    Together._meet = met
    started = time.monotonic()
    refused("lost")
    show("waited", seconds=time.monotonic() - started)


globals()[SCENARIO]()
sys.stdout.flush()
os._exit(0)  # TensorFlow waits for workers that are gone
