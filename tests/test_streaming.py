"""The streaming engine: one pass, as close as its batches are large, and honest about it."""

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.subject import Subject
from bnfix.numerics.moments import ChannelMoments
from bnfix.recalibration import compiled_pass, streaming
from bnfix.recalibration.compiled_pass import CompiledPass
from bnfix.recalibration.meeting import Meeting
from bnfix.recalibration.streaming import StreamingEngine
from bnfix.tree import map_leaves

IMAGE = (8, 8, 3)


def streamed(model, x, batch_size, *, norms=None):
    """The engine after a pass over `x`; weights and layers are as they were."""
    adapter = adapter_of(model)
    norms = dict(adapter.batch_norms(model)) if norms is None else norms
    engine = StreamingEngine(Subject.of(model), norms, ddof=0, meeting=Meeting())
    rows = range(0, len(next(iter(ref.leaves(x)))), batch_size)
    fed = (map_leaves(adapter.fed, ref.rows_of(x, slice(i, i + batch_size))) for i in rows)
    before = ref.weights_of(model)
    try:
        with adapter.preserved(model):
            engine.run(fed, lambda: None)
    finally:
        ref.assert_same_weights(model, before)
        assert not any("call" in vars(layer) for _, layer in adapter.batch_norms(model))
    return engine


def chain(K, *layers, shape=IMAGE):
    K.utils.set_random_seed(0)
    model = K.Sequential([K.Input(shape), *layers])
    zoo.randomise_batch_norms(model, 0)
    return model


def deep(K, dropout=0.0):
    L = K.layers
    blocks = [
        layer
        for _ in range(4)
        for layer in (
            L.Conv2D(8, 3, padding="same"),
            L.BatchNormalization(),
            L.ReLU(),
            L.Dropout(dropout),
        )
    ]
    return chain(K, *blocks)


def images(rows=256):
    """Bright and dark ones, so that batches differ."""
    rng = np.random.default_rng(1)
    light = rng.gamma(2.0, 1.0, (rows, 1, 1, 1))
    return (light * rng.gamma(2.0, 1.0, (rows, *IMAGE))).astype("float32")


def population(values):
    rows = values.reshape(-1, values.shape[-1]).astype("float64")
    return rows.mean(axis=0), rows.var(axis=0)


def deviation(model, engine, wanted):
    return [
        ref.deviation(layer, (m.mean, m.variance()), wanted[path])
        for path, layer in adapter_of(model).batch_norms(model)
        for m in [engine.moments[path]]
    ]


def exact(model, x):
    _, report = bnfix.recalibrate(model, x, return_report=True, verbose=0)
    return {layer.path: (layer.mean, layer.variance) for layer in report.layers}


def test_the_first_bn_gets_the_population_statistics_whatever_the_batches(K):
    model, x = chain(K, K.layers.BatchNormalization(name="bn")), images(40)
    for batch_size in (1, 7, 40):
        found = streamed(model, x, batch_size).moments["bn"]
        pair = found.mean, found.variance()
        assert ref.deviation(model.layers[-1], pair, population(x)) <= 1e-5


def assert_as_layers_do(K, monkeypatch, *, scale, epsilon=0.1):
    L = K.layers
    norms = (L.BatchNormalization(scale=scale, center=scale, epsilon=epsilon) for _ in range(2))
    model = chain(K, next(norms), L.Conv2D(4, 3), next(norms))
    x = images(24)
    with monkeypatch.context() as without:
        without.setattr(CompiledPass, "run", lambda *args, **options: None)
        wanted = streamed(model, x, 4).moments
    for uncompiled in (1, 99):
        monkeypatch.setattr(streaming, "_UNCOMPILED", uncompiled)
        found = streamed(model, x, 4).moments
        for path, by_layers in wanted.items():
            np.testing.assert_allclose(found[path].mean, by_layers.mean, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(found[path].variance(), by_layers.variance(), rtol=1e-4)
            assert found[path].count == by_layers.count


@pytest.mark.parametrize(("scale", "epsilon"), [(True, 0.1), (False, 0.1), (True, 1e-9)])
def test_batches_are_normalized_and_measured_as_layers_do(K, scale, epsilon, monkeypatch):
    """Images take a kernel that does both in one pass."""
    assert_as_layers_do(K, monkeypatch, scale=scale, epsilon=epsilon)


def test_the_law_rejects_the_variance_of_a_sample_which_the_kernel_tells(monkeypatch):
    def taken_as_it_is(adapter, layer, fused):
        moments = ChannelMoments(fused.mean.shape[0])
        count = int(fused.size) // moments.mean.size
        moments.merge(count, fused.mean, fused.sample_variance)
        return moments

    monkeypatch.setattr(compiled_pass, "of_sample", taken_as_it_is)
    with pytest.raises(AssertionError):
        assert_as_layers_do(zoo.keras_module("tf_keras"), monkeypatch, scale=True)


def test_an_average_of_batch_variances_would_not_do():
    """The mutant: without the variance between batches, dark and bright ones look alike."""
    x = images(40)
    within = np.mean([population(x[i : i + 2])[1] for i in range(0, 40, 2)], axis=0)
    assert np.all(within < 0.9 * population(x)[1])


def test_larger_batches_come_closer_and_one_batch_of_all_is_exact(K):
    model, x = deep(K), images()
    wanted = exact(model, x)
    worst = [max(deviation(model, streamed(model, x, size), wanted)) for size in (8, 32, 256)]
    assert worst[0] > 2 * worst[1] > 4 * worst[2]
    assert worst[2] <= 1e-4
    assert worst[1] <= (2 / 32) ** 0.5, "the note calls this the largest error to expect"


def test_dropout_is_off_and_a_second_pass_finds_the_same(K):
    plain, dropping, x = deep(K), deep(K, dropout=0.5), images(64)
    plain.set_weights(dropping.get_weights())
    one, two, other = (streamed(m, x, 16) for m in (dropping, dropping, plain))
    for a, b, c in zip(*(e.moments.values() for e in (one, two, other)), strict=True):
        np.testing.assert_array_equal(a.mean, b.mean)
        np.testing.assert_array_equal(a.mean, c.mean)


def test_models_without_a_graph_are_streamed_too(dialect):
    for name in ("subclassed_lists_and_dicts", "subclassed_with_functional_part"):
        model = zoo.build(next(e for e in zoo.MODELS if e.name == name), dialect)
        engine = streamed(model, zoo.inputs_for(model, rows=12), 12)
        assert engine.moments.keys() == dict(adapter_of(model).batch_norms(model)).keys()
        assert engine.notes == (), "a single batch has nothing to be biased against"


def test_a_model_with_a_graph_runs_compiled(K):
    """Uncompiled it would be as right, and several times slower."""
    model = chain(K, K.layers.Dense(4), K.layers.BatchNormalization(), shape=(5,))
    adapter, x = adapter_of(model), np.random.default_rng(0).normal(size=(9, 5)).astype("f")
    compiled = CompiledPass(Subject.of(model), dict(adapter.batch_norms(model)))
    with adapter.preserved(model), compiled.ready():
        (arrival,) = compiled.run(adapter.fed(x))
    (wanted,) = ref.numbers(model.layers[0](x))
    np.testing.assert_allclose(arrival.moments.mean, wanted.mean(axis=0), atol=1e-6)


def test_a_fully_masked_batch_contributes_nothing(K):
    L = K.layers
    layers = L.Masking(), L.BatchNormalization(name="one"), L.BatchNormalization(name="two")
    model = chain(K, *layers, shape=(6, 2))
    x = np.random.default_rng(0).normal(3, 2, (12, 6, 2)).astype("float32")
    x[4:8] = 0
    found = streamed(model, x, 4).moments
    assert [moments.count for moments in found.values()] == [48, 48]
    wanted = population(np.concatenate([x[:4], x[8:]]))
    one = found["one"]
    assert ref.deviation(model.layers[-2], (one.mean, one.variance()), wanted) <= 1e-5


def test_the_notes_say_how_far_the_result_may_be_off(K):
    small, large = (streamed(deep(K), images(144), size).notes for size in (8, 72))
    # 8 rows of 64 values: sqrt(2 / 512) and sqrt(2 / 8).
    assert "off by 6.2% to 50.0% at" in small[0]
    assert "(8 rows, 512 values per channel a batch)" in small[0]
    assert "batches of 8 rows: with fewer than 64" in small[1]
    assert len(large) == 1
    single = chain(K, K.layers.BatchNormalization())
    assert streamed(single, images(64), 8).notes == ()


class Fails(Exception):
    """Something that no one expects."""


def test_a_layer_that_raises_is_named_with_its_batch(K, monkeypatch):
    monkeypatch.setattr(streaming, "_UNCOMPILED", 9)  # compiled code knows no number of rows

    class Fuse(K.layers.Layer):
        def call(self, inputs):
            if inputs.shape[0] == 4:
                raise Fails("blown")
            return inputs

    model = chain(K, Fuse(name="fuse"), K.layers.BatchNormalization(name="bn"))
    with pytest.raises(bnfix.ModelError, match="fuse raised Fails: blown on batch 1") as caught:
        streamed(model, images(12), 8)
    assert isinstance(caught.value.__cause__, Fails)


def test_data_that_breaks_off_passes_its_own_error(K):
    def breaks_off():
        yield adapter_of(model).fed(images(4))
        raise Fails("disk")

    model = chain(K, K.layers.BatchNormalization(name="bn"))
    adapter = adapter_of(model)
    before = ref.weights_of(model)
    engine = StreamingEngine(
        Subject.of(model), dict(adapter.batch_norms(model)), ddof=0, meeting=Meeting()
    )
    with pytest.raises(Fails):
        engine.run(breaks_off(), lambda: None)
    ref.assert_same_weights(model, before)


def test_no_data_values_that_are_not_finite_and_a_bn_without_inputs_are_refused(K):
    model = chain(K, K.layers.BatchNormalization(name="bn"))
    with pytest.raises(bnfix.DataError, match="empty"):
        streamed(model, images(0), 4)
    x = images(12)
    x[5, 0, 0, 1] = np.nan
    with pytest.raises(bnfix.StatisticsError, match=r"bn: 1 of 3 channels .* in batch 1"):
        streamed(model, x, 4)
    other = K.layers.BatchNormalization(name="other")
    other.build((None, *IMAGE))
    with pytest.raises(bnfix.ModelError, match=r"other is not called.*batches 0 to 2"):
        streamed(model, images(12), 4, norms={"other": other})


@pytest.mark.both
def test_a_refusal_within_the_model_is_told_without_what_keras_adds(K, monkeypatch):
    model = chain(K, K.layers.Rescaling(1e38), K.layers.BatchNormalization(name="bn"))
    monkeypatch.setattr(CompiledPass, "run", lambda *args, **options: None)
    with pytest.raises(bnfix.StatisticsError) as refusal:
        streamed(model, images(40), 40)
    assert refusal.value.path == "bn"
    assert str(refusal.value).startswith("bn: 3 of 3 channels")
