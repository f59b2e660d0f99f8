"""What code may do that a recording of it has to make good."""

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.keras3 import Keras3

CLOSE = 1e-5


def images(rows=3):
    return np.random.default_rng(0).normal(size=(rows, 4, 4, 3)).astype("float32")


def model_of(K, layer, *, first=None):
    """Convolution, `layer` and a BatchNormalization, as a Functional model."""
    L = K.layers
    inputs = K.Input((4, 4, 3))
    x = layer((first or L.Conv2D(3, 3, padding="same"))(inputs))
    model = K.Model(inputs, L.BatchNormalization(name="last")(L.Dense(2)(x)))
    zoo.randomise_batch_norms(model, 0)
    return model


def assert_folds_and_opens(model, path):
    x = images()
    wanted = ref.inferred(model, x)
    folded, report = bnfix.fold(model, strict=True, return_report=True)
    ref.assert_close(ref.inferred(folded, x), wanted, CLOSE)
    opened, told = bnfix.open_up(model, return_report=True)
    assert not told.declined, str(told)
    bnfix.save(opened, path / "opened.keras")
    loaded = bnfix.load(path / "opened.keras")
    ref.assert_close(ref.inferred(loaded, x[:1]), ref.inferred(model, x[:1]), CLOSE)
    return report


def reshaping(K):
    """Code that asks a tensor for its sizes, the number of rows included."""
    module = K.ops if hasattr(K, "ops") else __import__("tensorflow")

    class Tokens(K.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = K.layers.Dense(3)
            self.bn = K.layers.BatchNormalization(name="bn")

        def call(self, x):
            shape = module.shape(x)
            rows = module.reshape(x, (shape[0], -1, x.shape[3]))  # (n, 16, 3)
            y = self.bn(self.dense(rows))
            y = module.reshape(y, (shape[0], -1, 1, x.shape[3]))
            return module.reshape(y, (shape[0], x.shape[1], x.shape[2], x.shape[3]))

    return Tokens(name="tokens")


def test_code_that_asks_for_the_number_of_rows_is_opened(K, tmp_path):
    assert_folds_and_opens(model_of(K, reshaping(K)), tmp_path)


def test_a_size_that_was_told_as_none_would_be_seen(monkeypatch, tmp_path):
    K = zoo.keras_module("keras3")
    monkeypatch.setattr(Keras3, "without_sizes", lambda self, model: model)
    with pytest.raises(bnfix.VerificationError, match="predict raises"):
        assert_folds_and_opens(model_of(K, reshaping(K)), tmp_path)


def test_code_that_needs_the_number_of_rows_stays_closed():
    K = zoo.keras_module("keras3")

    class Spread(K.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.bn = K.layers.BatchNormalization(name="bn")

        def call(self, x):
            top = K.ops.max(self.bn(x), axis=(1, 2), keepdims=True)
            return K.ops.broadcast_to(top, (K.ops.shape(x)[0], 4, 4, 3))

    model = model_of(K, Spread(name="spread"))
    _, report = bnfix.fold(model, return_report=True)
    assert "needs the size of a batch" in report.declined[0].detail


def passing_on(K):
    class Maybe(K.layers.Layer):
        def call(self, x, training=None):
            return x * 0.5 if training else x

    class Block(K.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense, self.maybe = K.layers.Dense(3), Maybe(name="maybe")
            self.bn = K.layers.BatchNormalization(name="bn")

        def call(self, x, training=None):
            y = self.maybe(self.bn(self.dense(x), training=training), training=training)
            return x + self.maybe(y, training=training)

    return Block(name="block")


def test_a_layer_that_hands_on_its_input_is_opened(K, tmp_path):
    assert_folds_and_opens(model_of(K, passing_on(K)), tmp_path)


def telling_wrongly(K):
    """In Keras 3 a layer may say itself what it makes; for other arguments than it is given."""

    class Inner(K.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.bn = K.layers.BatchNormalization(name="bn")

        def call(self, x, training=None):
            return self.bn(x, training=training)

        def compute_output_spec(self, x):
            return K.KerasTensor(x.shape, dtype=x.dtype)

    class Outer(K.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = Inner(name="inner")

        def call(self, x, training=None):
            return self.inner(x, training=training)

        def compute_output_spec(self, x, training=None):
            return K.KerasTensor(x.shape, dtype=x.dtype)

        def build(self, shape):
            self.inner.bn.build(shape)
            self.inner.built = True

    return Outer(name="outer")


def test_what_a_layer_says_wrongly_of_its_outputs_is_found_by_running_it(tmp_path):
    K = zoo.keras_module("keras3")
    assert_folds_and_opens(model_of(K, telling_wrongly(K)), tmp_path)


def test_what_a_layer_says_wrongly_would_be_seen(monkeypatch, tmp_path):
    K = zoo.keras_module("keras3")
    monkeypatch.setattr(Keras3, "infer_specs", lambda self, layers, found: None)
    with pytest.raises(bnfix.UnsupportedModelError, match="unexpected keyword argument"):
        assert_folds_and_opens(model_of(K, telling_wrongly(K)), tmp_path)


def test_a_weight_in_a_configuration_is_copied_by_its_value(K):
    """`self.factor` was a number when it was given, and is a weight since the layer is built."""

    class Factor(K.layers.Layer):
        def __init__(self, factor, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def build(self, shape):
            start = K.initializers.Constant(self.factor)
            self.factor = self.add_weight(name="factor", shape=(1,), initializer=start)

        def call(self, x):
            return x * self.factor

        def get_config(self):
            return {**super().get_config(), "factor": self.factor}

    model = model_of(K, Factor(2.0, name="factor"))
    folded = bnfix.fold(model, strict=True)
    mine, theirs = model.get_layer("factor"), folded.get_layer("factor")
    assert len(theirs.weights) == 1
    assert theirs.weights[0] is not mine.weights[0]
    ref.assert_close(ref.inferred(folded, images()), ref.inferred(model, images()), CLOSE)


def counted(K):
    """A subclassed model of two layers of layers, one in the other, that count their calls."""
    calls = []

    class Inner(K.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense, self.bn = K.layers.Dense(3), K.layers.BatchNormalization(name="bn")

        def call(self, x, training=None):
            calls.append("inner")
            return self.bn(self.dense(x), training=training)

    class Outer(K.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.first, self.second = Inner(name="first"), Inner(name="second")

        def call(self, x, training=None):
            calls.append("outer")
            return self.second(self.first(x, training=training), training=training)

    class Whole(K.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.outer = Outer(name="outer")

        def call(self, x, training=None):
            calls.append("whole")
            return self.outer(x, training=training)

    model = Whole()
    model(images())
    zoo.randomise_batch_norms(model, 0)
    return model, calls


def test_code_is_recorded_once(K, tmp_path):
    """However deep it lies; both Kerases run it once more at each depth to learn of shapes."""
    model, calls = counted(K)
    calls.clear()
    bnfix.graph_of(model)
    assert sorted(calls) == ["inner", "inner", "outer", "whole"]
    assert_folds_and_opens(model, tmp_path)


def test_code_that_is_run_to_learn_of_shapes_would_be_counted(monkeypatch, dialect):
    K = zoo.keras_module(dialect)
    model, calls = counted(K)
    monkeypatch.setattr(type(adapter_of(model)), "infer_specs", lambda self, layers, found: None)
    calls.clear()
    bnfix.graph_of(model)
    assert calls.count("inner") > 2
