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
from bnfix.adapters.choose import adapter_of
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
    model = K.Model(inputs, L.Dense(1)(L.GlobalAveragePooling2D()(y)))
    for layer in zoo.batch_norms(model):
        ones = np.ones(layer.moving_mean.shape)
        layer.moving_mean.assign(ones + off)
        layer.moving_variance.assign(2 * ones + off)
    if compile_options:
        model.compile(**compile_options)
    return model


def stored(model):
    norms = sorted(zoo.batch_norms(model), key=lambda layer: layer.name)
    return [np.stack([one.moving_mean.numpy(), one.moving_variance.numpy()]) for one in norms]


def recalibrated(models, parts, options, adapters=None):
    """What each worker returns or raises."""
    shared = {}, threading.Barrier(len(models))
    adapters = adapters or [adapter_of(model) for model in models]

    def one(rank):
        worker = Threads(rank, len(models), shared)
        try:
            return together(adapters[rank], models[rank], worker, parts[rank], options[rank])
        except BaseException as error:
            return error

    with ThreadPoolExecutor(len(models)) as pool:
        return list(pool.map(one, range(len(models))))


def assert_all_find_what_one_finds_on_the_mean_of_what_they_hold(K):
    """Between two syncs each has statistics of its own, and reading them gives the mean."""
    models = [network(K, off=off) for off in (0.0, 0.3, 0.9)]
    before = [stored(model) for model in models]
    options = [Options(layers=lambda path: path == "two", batch_size=size, verbose=0)
               for size in (2, 3, 32)]  # fmt: skip
    reports = recalibrated(models, [X[:5], X[:0], X[5:]], options)
    plain = bnfix.recalibrate(network(K, off=0.4), X, layers=["two"], verbose=0)
    wanted = stored(plain)[1]
    for model, held, report in zip(models, before, reports, strict=True):
        assert [(row.path, row.count) for row in report.layers] == [("two", 96)], report
        np.testing.assert_array_equal(stored(model)[0], held[0])
        np.testing.assert_allclose(stored(model)[1], wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(stored(model)[1], stored(models[0])[1])


def test_all_find_what_one_finds_on_the_mean_of_what_they_hold(K):
    assert_all_find_what_one_finds_on_the_mean_of_what_they_hold(K)


def test_the_law_rejects_workers_that_each_measure_on_what_they_hold(monkeypatch):
    from bnfix.recalibration import together as module

    monkeypatch.setattr(module, "_equalize", lambda *_: None)
    with pytest.raises(AssertionError):
        assert_all_find_what_one_finds_on_the_mean_of_what_they_hold(zoo.keras_module("keras3"))


def test_what_is_worse_on_all_the_data_is_kept_by_none(K):
    """Labels of two rows agree with the new statistics, those of the others with the old."""
    models = [network(K, optimizer="sgd", loss="mse") for _ in range(2)]
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
    adapters = [adapter_of(models[0]), Interrupted(adapter_of(models[1]))]
    waited, stopped = recalibrated(models, [X[:9], X[9:]], [QUIET] * 2, adapters)
    assert isinstance(stopped, KeyboardInterrupt)
    assert isinstance(waited, bnfix.WorkerError), waited
    assert "worker 1 failed" in str(waited)
    for model in models:
        ref.assert_same_weights(model, before)
