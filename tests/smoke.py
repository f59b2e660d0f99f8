"""Every public call and every kind of file once, in whatever environment runs this.

    python tests/smoke.py

Needs nothing but bnfix, installed, and what it works on: no pytest. Each Keras that is there is
tried, and a file of the one that is not has to be refused with what to install. A step prints
`passed`, `failed` with the traceback, or `skipped` with the reason; the last line counts them, and
the exit status is 1 if any failed.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import hostile
import numpy as np

import bnfix
from bnfix import cli
from bnfix.adapters import kerases

ROWS = 64
Step = Callable[["Bench"], str | None]
STEPS: list[Step] = []


class Bench:
    """One Keras, data, and models that a step may spoil.

    Attributes:
        K: The Keras module.
        x: Images (64, 8, 8, 3).
        y: Their labels.
        folder: For files.
    """

    def __init__(self, K: Any, folder: Path) -> None:
        self.K, self.folder = K, folder
        rng = np.random.default_rng(0)
        self.x = rng.normal(3, 2, (ROWS, 8, 8, 3)).astype(np.float32)
        self.y = rng.integers(0, 2, ROWS)

    def model(self, *, training: bool | None = None) -> Any:
        """Two BNs, the second called with `training`."""
        L, seeded = self.K.layers, self.K.initializers.GlorotUniform
        inputs = self.K.Input((8, 8, 3), name="images")
        x = L.Conv2D(4, 3, use_bias=False, kernel_initializer=seeded(seed=0), name="conv1")(inputs)
        x = L.ReLU()(L.BatchNormalization(name="bn1")(x))
        x = L.Conv2D(8, 3, strides=2, kernel_initializer=seeded(seed=1), name="conv2")(x)
        baked = {} if training is None else {"training": training}
        x = L.ReLU()(L.BatchNormalization(name="bn2")(x, **baked))
        dense = L.Dense(2, activation="softmax", kernel_initializer=seeded(seed=2))
        outputs = dense(L.GlobalAveragePooling2D()(x))
        return self.K.Model(inputs, outputs, name="bench")

    def subclassed(self) -> Any:
        K = self.K

        class Small(K.Model):
            def __init__(self) -> None:
                super().__init__()
                self.conv = K.layers.Conv2D(4, 3)
                self.bn = K.layers.BatchNormalization()
                self.pool = K.layers.GlobalAveragePooling2D()

            def call(self, inputs: Any, training: bool | None = None) -> Any:
                return self.pool(self.bn(self.conv(inputs), training=training))

        model = Small()
        model(self.x[:2])
        return model

    def answers(self, model: Any) -> Any:
        return model.predict(self.x, verbose=0)

    def agree(self, one: Any, other: Any) -> None:
        np.testing.assert_allclose(self.answers(one), self.answers(other), rtol=1e-4, atol=1e-5)

    @property
    def backend(self) -> str:
        return "tensorflow" if self.generation == 2 else str(self.K.backend.backend())

    @property
    def generation(self) -> int:
        return kerases.generation(str(self.K.__name__))


def step(function: Step) -> Step:
    STEPS.append(function)
    return function


# --- looking at a model --------------------------------------------------------------------------


@step
def check(bench: Bench) -> None:
    assert bnfix.check(bench.model(), bench.x).ok
    found = bnfix.check(bench.model(training=True), bench.x)
    assert found.culprit == "bn2", found
    assert "batch_statistics" in str(found)


@step
def check_training(bench: Bench) -> None:
    assert not bnfix.check(bench.model(), bench.x, training=True).ok


@step
def check_export(bench: Bench) -> str | None:
    if bench.backend == "jax":
        return "model.export writes a SavedModel, which TensorFlow alone reads"
    found = bnfix.check(bench.model(training=True), bench.x, export=True)
    assert any("export" in one.entry_point for one in found.findings), found
    return None


@step
def assert_batch_invariant(bench: Bench) -> None:
    bnfix.assert_batch_invariant(bench.model(), bench.x)
    with raises(bnfix.BatchDependenceError):
        bnfix.assert_batch_invariant(bench.model(training=True), bench.x)


@step
def diagnose(bench: Bench) -> None:
    assert not bnfix.diagnose(bench.model(training=True)).ok
    bnfix.diagnose(bench.model(), bench.x)


@step
def graph_of(bench: Bench) -> None:
    graph = bnfix.graph_of(bench.model())
    found = [graph.producer(call.inputs[0]).path for call in graph.of_kind("BatchNormalization")]
    assert found == ["conv1", "conv2"]


# --- changing it ---------------------------------------------------------------------------------


@step
def freeze(bench: Bench) -> None:
    model = bnfix.freeze(bench.model())
    assert not model.get_layer("bn1").trainable
    assert not model.get_layer("bn2").trainable


@step
def strip_training(bench: Bench) -> None:
    assert bnfix.check(bnfix.strip_training(bench.model(training=True)), bench.x).ok


@step
def strip_augmentation(bench: Bench) -> None:
    L = bench.K.layers
    inputs = bench.K.Input((8, 8, 3))
    outputs = L.BatchNormalization()(L.RandomFlip(seed=1)(inputs))
    model = bnfix.strip_augmentation(bench.K.Model(inputs, outputs), x=bench.x)
    assert bnfix.check(model, bench.x).ok


@step
def recalibrate(bench: Bench) -> None:
    model = bnfix.recalibrate(bench.model(), bench.x, batch_size=16, min_count=1)
    conv = bench.K.Model(model.input, model.get_layer("conv1").output)
    seen = np.asarray(bench.answers(conv)).reshape(-1, 4)
    bn = model.get_layer("bn1")
    np.testing.assert_allclose(np.asarray(bn.moving_mean), seen.mean(0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(np.asarray(bn.moving_variance), seen.var(0), rtol=1e-3, atol=1e-4)


@step
def statistics(bench: Bench) -> None:
    model, other = bench.model(), bench.model()
    shards = bench.x[:10], bench.x[10:]
    parts = [bnfix.statistics(model, one, method="streaming") for one in shards]
    parts[0].save(bench.folder / "shard.npz")
    total = bnfix.Statistics.load(bench.folder / "shard.npz") + parts[1]
    total.apply(model)
    bnfix.recalibrate(other, bench.x, min_count=1)
    ours, theirs = (np.asarray(m.get_layer("bn1").moving_mean) for m in (model, other))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@step
def recalibrate_without_a_graph(bench: Bench) -> None:
    model = bench.subclassed()
    bnfix.recalibrate(model, bench.x, batch_size=16)
    made = model.conv(bench.x)
    seen = np.asarray(made.detach() if bench.backend == "torch" else made).reshape(-1, 4)
    mean = np.asarray(model.bn.moving_mean)
    np.testing.assert_allclose(mean, seen.mean(0), rtol=1e-3, atol=1e-4)


@step
def recalibrate_streaming(bench: Bench) -> None:
    bnfix.recalibrate(bench.model(), bench.x, method="streaming", min_count=1)


@step
def recalibrate_within_a_memory_limit(bench: Bench) -> None:
    bnfix.recalibrate(bench.model(), bench.x, batch_size=8, memory_limit=50_000, min_count=1)


@step
def recalibrate_with_labels(bench: Bench) -> None:
    model = bench.model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    bnfix.recalibrate(model, (bench.x, bench.y), min_count=1, guard=False)


@step
def fold(bench: Bench) -> None:
    model = bnfix.recalibrate(bench.model(), bench.x, min_count=1)
    folded, report = bnfix.fold(model, return_report=True)
    assert [outcome.changed for outcome in report.outcomes] == [True, True], report
    bench.agree(model, folded)


@step
def fold_and_merge(bench: Bench) -> None:
    bnfix.fold(bench.model(), merge=True, lower=True)


@step
def open_up(bench: Bench) -> None:
    model = bench.subclassed()
    opened = bnfix.open_up(model)
    assert [type(layer).__name__ for layer in opened.layers][1:3] == [
        "Conv2D",
        "BatchNormalization",
    ]
    bench.agree(model, opened)


@step
def to_group_norm(bench: Bench) -> None:
    model = bnfix.recalibrate(bench.model(), bench.x, min_count=1)
    assert bnfix.check(bnfix.to_group_norm(model, bench.x), bench.x).ok


@step
def replace(bench: Bench) -> None:
    norm = bench.K.layers.LayerNormalization
    model = bnfix.replace(bench.model(), lambda spec: norm(axis=spec.axis, epsilon=spec.epsilon))
    assert "LayerNormalization" in {type(layer).__name__ for layer in model.layers}


@step
def repair(bench: Bench) -> None:
    model, report = bnfix.repair(bench.model(training=True), bench.x, return_report=True)
    assert bnfix.check(model, bench.x).ok, report


@step
def batch_invariant(bench: Bench) -> None:
    answers = bnfix.batch_invariant(bench.model())
    alone, beside = answers(bench.x[:1]), answers(bench.x[:5])
    assert np.array_equal(np.asarray(alone)[0], np.asarray(beside)[0])


@step
def callbacks(bench: Bench) -> None:
    model = bench.model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(
        bench.x,
        bench.y,
        epochs=1,
        validation_split=0.25,
        verbose=0,
        callbacks=[bnfix.callbacks.RecalibrateBN(bench.x)],
    )


@step
def callback_that_freezes(bench: Bench) -> None:
    model, inside = bench.model(), [bnfix.callbacks.FreezeBN(1)]
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(bench.x, bench.y, epochs=2, verbose=0, callbacks=inside)
    assert not model.get_layer("bn1").trainable


# --- files ---------------------------------------------------------------------------------------


def round_trip(bench: Bench, suffix: str) -> None:
    model, file = bench.model(training=True), bench.folder / f"trip{suffix}"
    model.compile("adam", "sparse_categorical_crossentropy")
    bnfix.save(model, file)
    told = bnfix.inspect(file)
    assert not told.ok
    assert [norm.path for norm in told.batch_norms] == ["bn1", "bn2"]
    again = bnfix.load(file)
    assert type(again).__module__.partition(".")[0] == bench.K.__name__
    bench.agree(bnfix.strip_training(model), bnfix.strip_training(again))
    stripped = bnfix.repair_file(file, bench.folder / f"stripped{suffix}")
    assert bnfix.check(bnfix.load(stripped), bench.x).ok
    mended = bnfix.repair_file(file, bench.folder / f"mended{suffix}", ds=bench.x)
    assert bnfix.diagnose(bnfix.load(mended), bench.x).ok


@step
def file_h5(bench: Bench) -> None:
    round_trip(bench, ".h5")


@step
def file_keras(bench: Bench) -> None:
    round_trip(bench, ".keras")


@step
def file_saved_model(bench: Bench) -> str | None:
    if bench.generation == 3:
        return "Keras 3 writes no SavedModel that holds a model"
    model, folder = bench.model(), bench.folder / "saved_model"
    model.save(folder, save_format="tf")
    assert len(bnfix.inspect(folder).batch_norms) == 2
    bench.agree(model, bnfix.load(folder))
    return None


# --- the command ---------------------------------------------------------------------------------


@step
def command(bench: Bench) -> None:
    file, data, out = (str(bench.folder / name) for name in ("m.keras", "x.npy", "out.keras"))
    bnfix.save(bench.model(training=True), file)
    np.save(data, bench.x)
    for status, line in (
        (1, ["inspect", file]),
        (1, ["check", file, "--data", data]),
        (1, ["diagnose", file]),
        (0, ["repair", file, "--data", data, "-o", out]),
        (0, ["check", out, "--data", data, "--json"]),
        (0, ["fold", out, "-o", out, "--overwrite"]),
    ):
        assert cli.main(line) == status, line


# --- what is not there ---------------------------------------------------------------------------


def refused(generation: int, folder: Path) -> None:
    """A file of a Keras that is not installed is refused with what to install."""
    file = folder / "model"
    (hostile.plain_h5 if generation == 2 else hostile.plain_keras)(file)
    assert bnfix.inspect(file).layers  # that needs no Keras
    with raises(bnfix.FileError, "pip install"):
        bnfix.load(file)


# --- running it ----------------------------------------------------------------------------------


@contextlib.contextmanager
def raises(kind: type[Exception], said: str = "") -> Iterator[None]:
    try:
        yield
    except kind as error:
        if said in str(error):
            return
        raise
    raise AssertionError(f"{kind.__name__} was not raised")


def outcome(run: Callable[[Path], str | None]) -> tuple[str, str]:
    """`passed`, `failed` or `skipped`, and why."""
    said = io.StringIO()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            reason = run(Path(folder))
    except Exception:  # whatever goes wrong is what this is to find
        return "failed", said.getvalue() + traceback.format_exc()
    return ("skipped", reason) if reason else ("passed", "")


def runs() -> Iterator[tuple[str, Callable[[Path], str | None]]]:
    """Each step for each Keras that is there, and a refusal for each that is not."""
    for generation in (2, 3):
        root = kerases.root_of(generation)
        if root is None or kerases.lack(generation):
            yield f"without Keras {generation}", partial(refused, generation)
            continue
        for run in STEPS:
            name = f"{kerases.title(root)}: {run.__name__.replace('_', ' ')}"
            yield name, lambda folder, run=run, K=sys.modules[root]: run(Bench(K, folder))


def main() -> int:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(", ".join(f"{name} {version}" for name, version in kerases.versions().items()))
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    begin = time.perf_counter()
    for name, run in runs():
        result, why = outcome(run)
        counts[result] += 1
        print(f"{name}: {result}{': ' + why if why else ''}", flush=True)
    seconds = time.perf_counter() - begin
    print(", ".join(f"{n} {name}" for name, n in counts.items()), f"in {seconds:.0f} s")
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
