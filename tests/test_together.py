"""Several workers, here threads with a model each, recalibrate as one would; processes are slow."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import references as ref
import zoo
from test_workers import Threads

import bnfix
from bnfix.adapters.subject import Subject
from bnfix.recalibration.procedure import Options
from bnfix.recalibration.together import together

X = np.random.default_rng(0).normal(2, 3, size=(24, 5, 5, 3)).astype("float32")
QUIET = Options(verbose=0)


def network(K, *, off=0.0, seed=0, **compile_options):
    """Moving statistics are 1 and 2, and `off` more."""
    K.utils.set_random_seed(seed)
    L = K.layers
    inputs = K.Input((5, 5, 3))
    x = L.BatchNormalization(name="one")(L.Conv2D(2, 3)(inputs))
    y = L.BatchNormalization(name="two")(L.Conv2D(5, 2)(L.ReLU()(x)))
    z = L.BatchNormalization(name="three")(L.Conv2D(3, 1)(L.ReLU()(y)))
    model = K.Model(inputs, L.Dense(1)(L.GlobalAveragePooling2D()(z)))
    for layer in zoo.batch_norms(model):
        ones = np.ones(layer.moving_mean.shape)
        layer.moving_mean.assign(ones + off)
        layer.moving_variance.assign(2 * ones + off)
    if compile_options:
        model.compile(**compile_options)
    return model


def stored(model):
    norms = {layer.name: layer for layer in zoo.batch_norms(model)}
    norms = [norms[name] for name in ("one", "two", "three")]
    return [np.stack([one.moving_mean.numpy(), one.moving_variance.numpy()]) for one in norms]


def recalibrated(models, parts, options, subjects=None):
    """What each worker returns or raises."""
    shared = {}, threading.Barrier(len(models))
    subjects = subjects or [Subject.of(model) for model in models]

    def one(rank):
        worker = Threads(rank, len(models), shared)
        try:
            return together(subjects[rank], worker, parts[rank], options[rank])
        except BaseException as error:
            return error

    with ThreadPoolExecutor(len(models)) as pool:
        return list(pool.map(one, range(len(models))))


def reading(model, x, held):
    """`x` in batches, at each of which `model` holds what it has `held`."""
    for start in range(0, len(x), 2):
        for found, wanted in zip(stored(model), held, strict=True):
            np.testing.assert_array_equal(found, wanted)
        yield x[start : start + 2]


def assert_all_find_what_one_finds_on_the_mean_of_what_they_hold(K):
    """Between two syncs each has statistics of its own, and reading them gives the mean.

    Each measures on a model of its own, so that nothing is written until all have ended.
    """
    models = [network(K, off=off) for off in (0.0, 0.3, 0.9)]
    before = [stored(model) for model in models]
    options = [Options(layers=lambda path: path == "three", verbose=0) for _ in models]
    parts = [
        reading(model, x, held)
        for model, x, held in zip(models, (X[:5], X[:0], X[5:]), before, strict=True)
    ]
    reports = recalibrated(models, parts, options)
    plain = bnfix.recalibrate(network(K, off=0.4), X, layers=["three"], verbose=0)
    wanted = stored(plain)[2]
    for model, held, report in zip(models, before, reports, strict=True):
        assert [(row.path, row.count) for row in report.layers] == [("three", 96)], report
        *left_out, found = stored(model)
        for part, old in zip(left_out, held[:2], strict=True):
            np.testing.assert_array_equal(part, old)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found, stored(models[0])[2])


def test_all_find_what_one_finds_on_the_mean_of_what_they_hold(K):
    assert_all_find_what_one_finds_on_the_mean_of_what_they_hold(K)


def test_the_law_rejects_workers_that_each_measure_on_what_they_hold(monkeypatch):
    from bnfix.recalibration import together as module

    monkeypatch.setattr(module, "_equalize", lambda *_: None)
    with pytest.raises(AssertionError):
        assert_all_find_what_one_finds_on_the_mean_of_what_they_hold(zoo.keras_module("keras3"))


@pytest.mark.parametrize("first", [0, len(X)])
def test_one_of_two_may_have_no_data(K, first):
    models = [network(K) for _ in range(2)]
    reports = recalibrated(models, [X[:first], X[first:]], [QUIET] * 2)
    wanted = stored(bnfix.recalibrate(network(K), X, verbose=0))
    for model, report in zip(models, reports, strict=True):
        assert [row.path for row in report.layers] == ["one", "two", "three"], report
        for found, one in zip(stored(model), wanted, strict=True):
            np.testing.assert_allclose(found, one, rtol=1e-5, atol=1e-6)


def test_if_none_has_data_all_say_so(K):
    for said in recalibrated([network(K) for _ in range(2)], [X[:0]] * 2, [QUIET] * 2):
        assert isinstance(said, bnfix.DataError), said


def test_code_that_cannot_be_copied_is_made_again_on_rows_of_the_data(K):
    class Code(K.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.bn = K.layers.BatchNormalization(name="bn")

        def call(self, x, training=None):
            return self.bn(x if float(x[0, 0]) < 1e9 else -x, training=training)

        def __deepcopy__(self, memory):
            raise TypeError("not this one")

    models, rows = [Code(), Code()], X[:, 0].reshape(-1, 15)
    for model in models:
        model(rows[:1])
    options = Options(min_count=len(rows), verbose=0)
    for report in recalibrated(models, [rows[:9], rows[9:]], [options] * 2):
        assert [row.count for row in report.layers] == [len(rows)], report
    for model in models:
        np.testing.assert_allclose(model.bn.moving_mean.numpy(), rows.mean(0), rtol=1e-5)


def test_what_is_worse_on_all_the_data_is_kept_by_none(K):
    """Labels of two rows agree with the new statistics, those of the others with the old."""
    models = [network(K, optimizer="sgd", loss="mae") for _ in range(2)]
    before = [ref.weights_of(model) for model in models]
    new = bnfix.recalibrate(network(K), X, verbose=0)
    y = [new.predict(X[:2], verbose=0), models[1].predict(X[2:], verbose=0)]
    reports = recalibrated(models, [(X[:2], y[0]), (X[2:], y[1])], [QUIET] * 2)
    for model, held, report in zip(models, before, reports, strict=True):
        assert not report.kept, report
        assert report.verdict == reports[0].verdict
        assert report.verdict.groups == len(X)
        ref.assert_same_weights(model, held)


@pytest.mark.parametrize(
    "other",
    [
        {"method": "streaming"}, {"layers": ["two"]}, {"include_frozen": False}, {"min_count": 33},
        {"ddof": 1}, {"guard": False}, {"metric": lambda y, shown: 0.0},
    ],
    ids=lambda other: next(iter(other)),
)  # fmt: skip
def test_other_options_are_refused_by_all(other):
    K = zoo.keras_module("keras3")
    models, options = [network(K), network(K)], [replace(QUIET, layers=["one"]), QUIET]
    options = [options[0], replace(options[0], **other)]
    before = ref.weights_of(models[0])
    for told in recalibrated(models, [X[:9], X[9:]], options):
        assert isinstance(told, bnfix.WorkerError), told
        assert "have not the same options" in str(told)
    ref.assert_same_weights(models[0], before)


def test_other_weights_are_refused_by_all(K):
    models = [network(K), network(K, seed=1)]
    for told in recalibrated(models, [X[:9], X[9:]], [QUIET] * 2):
        assert isinstance(told, bnfix.WorkerError), told
        assert "have not the same weights" in str(told)


def test_a_model_without_a_batch_normalization_is_refused_by_all(K):
    models = [K.Sequential([K.Input((3,)), K.layers.Activation("relu")]) for _ in range(2)]
    for told in recalibrated(models, [X[:9, 0, 0], X[9:, 0, 0]], [QUIET] * 2):
        assert isinstance(told, (bnfix.UnsupportedModelError, bnfix.WorkerError)), told
        assert "has no BatchNormalization" in str(told)


class Interrupted:
    """The adapter of a worker in which Ctrl-C comes while its thread works."""

    def __init__(self, adapter):
        self._adapter = adapter

    def __getattr__(self, name):
        return getattr(self._adapter, name)

    def outside_of_strategies(self, work):
        def alone():
            with pytest.raises(bnfix.ModelError, match="interrupted"):
                work()

        threading.Thread(target=alone).start()
        raise KeyboardInterrupt


def test_after_ctrl_c_in_one_worker_none_writes_anything(K):
    models = [network(K), network(K)]
    before = ref.weights_of(models[0])
    subjects = [Subject.of(model) for model in models]
    subjects[1] = Subject(Interrupted(subjects[1].adapter), models[1])
    waited, stopped = recalibrated(models, [X[:9], X[9:]], [QUIET] * 2, subjects)
    assert isinstance(stopped, KeyboardInterrupt)
    assert isinstance(waited, bnfix.WorkerError), waited
    assert "worker 1 failed" in str(waited)
    for model in models:
        ref.assert_same_weights(model, before)
