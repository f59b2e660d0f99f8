"""What is not opened, or only with what belongs to it: masks, cells, wrappers that use weights."""

import numpy as np
import pytest
import references as ref
import zoo

import bnfix

CLOSE = 1e-5


def made(K, inputs, outputs):
    model = K.Model(inputs, outputs)
    zoo.randomise_batch_norms(model, 0)
    return model


def pooling(K, *, told):
    """A layer made of layers, one of which heeds the mask; whether its own code is told of it."""
    L = K.layers

    class Pooled(L.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense, self.bn = L.Dense(3, name="dense"), L.BatchNormalization(name="bn")
            self.pool = L.GlobalAveragePooling1D(name="pool")
            self.supports_masking = True

        def build(self, shape):
            self.dense.build(shape)
            self.bn.build((*shape[:-1], 3))

        def get_config(self):
            return super().get_config()

    class Told(Pooled):
        def call(self, x, mask=None):
            return self.pool(self.bn(self.dense(x)), mask=mask)

        def compute_mask(self, x, mask=None):
            return None

    class Untold(Pooled):
        def call(self, x):
            return self.pool(self.bn(self.dense(x)))

        def compute_mask(self, x, mask=None):
            return None

    return (Told if told else Untold)(name="pooled")


@pytest.mark.parametrize("told", [True, False])
def test_a_mask_that_goes_into_code_is_heeded_or_nothing_is_changed(K, told):
    L = K.layers
    words = K.Input((5,), dtype="int32")
    x = L.Embedding(7, 4, mask_zero=True)(words)
    model = made(K, words, L.Dense(2)(pooling(K, told=told)(x)))
    x = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 0, 0], [6, 1, 2, 3, 4]], "int32")
    wanted = ref.inferred(model, x)
    folded, report = bnfix.fold(model, return_report=True)
    ref.assert_close(ref.inferred(folded, x), wanted, CLOSE)
    ref.assert_close(ref.numbers(folded.predict(x, verbose=0)), wanted, CLOSE)
    assert len(zoo.batch_norms(folded)) == len(report.declined)
    if told and K.__name__ == "tf_keras":  # which does not record that it hands on a mask
        assert "a mask comes to its code" in report.declined[0].detail


def in_a_cell(K):
    L = K.layers

    class Cell(L.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.state_size = self.output_size = 3
            self.dense, self.bn = L.Dense(3, name="dense"), L.BatchNormalization(name="bn")

        def build(self, shape):
            self.dense.build(shape)
            self.bn.build((None, 3))
            self.built = True

        def call(self, x, states):
            y = self.bn(self.dense(x)) + states[0]
            return y, [y]

        def get_config(self):
            return super().get_config()

    return L.RNN(Cell(name="cell"), name="rnn")


def test_a_norm_in_a_cell_stays_with_the_reason(K):
    L = K.layers
    inputs = K.Input((4, 2))
    x = in_a_cell(K)(L.BatchNormalization(name="first")(L.Dense(2)(inputs)))
    model = made(K, inputs, x)
    folded, report = bnfix.fold(model, return_report=True)
    assert [outcome.path for outcome in report.changed] == ["first"]
    [stays] = report.declined
    assert stays.path == "rnn/cell/bn"
    assert "is called by the code of rnn (RNN)" in stays.detail
    assert "step by step" in stays.detail
    x = np.random.default_rng(0).normal(size=(20, 4, 2)).astype("float32")
    ref.assert_close(ref.inferred(folded, x), ref.inferred(model, x), CLOSE)
    _, report = bnfix.recalibrate(model, x, batch_size=5, return_report=True)
    assert report.engine == "lockstep"


def test_a_layer_whose_kernel_is_normalized_takes_up_nothing():
    K = zoo.keras_module("keras3")  # that of tf_keras cannot be built here
    L = K.layers
    inputs = K.Input((4,))
    x = L.SpectralNormalization(L.Dense(3), name="spectral")(inputs)
    model = made(K, inputs, L.ReLU()(L.BatchNormalization(name="bn")(x)))
    folded, report = bnfix.fold(model, return_report=True)
    assert folded is model
    assert "spectral (SpectralNormalization)" in report.declined[0].detail
