"""Subclassed models as tutorials write them, through everything that bnfix does to a model."""

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters.choose import adapter_of
from bnfix.recalibration import estimate

#: Of sigma: what two exact engines may differ by in float32; measured are up to 2.9e-7.
SAME = 1e-6


def relu(x):
    return (abs(x) + x) / 2


def resnet(K):
    L = K.layers

    class Block(L.Layer):
        def __init__(self, filters, strides=1, **kwargs):
            super().__init__(**kwargs)
            self.conv1 = L.Conv2D(filters, 3, strides, padding="same", use_bias=False)
            self.bn1 = L.BatchNormalization()
            self.conv2 = L.Conv2D(filters, 3, padding="same", use_bias=False)
            self.bn2 = L.BatchNormalization()
            self.shortcut = None
            if strides > 1:
                self.shortcut = K.Sequential(
                    [L.Conv2D(filters, 1, strides), L.BatchNormalization()]
                )
            self.relu = L.ReLU()

        def call(self, x, training=None):
            y = self.relu(self.bn1(self.conv1(x), training=training))
            y = self.bn2(self.conv2(y), training=training)
            x = x if self.shortcut is None else self.shortcut(x, training=training)
            return self.relu(y + x)

    class ResNet(K.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.stem = L.Conv2D(4, 3, padding="same")
            self.blocks = [Block(4), Block(6, 2), Block(6)]
            self.pool = L.GlobalAveragePooling2D()
            self.head = L.Dense(3)

        def call(self, x, training=None):
            x = self.stem(x)
            for block in self.blocks:
                x = block(x, training=training)
            return self.head(self.pool(x))

    return ResNet()


def unet(K):
    L = K.layers

    class Double(L.Layer):
        def __init__(self, filters, **kwargs):
            super().__init__(**kwargs)
            self.steps = [
                (L.Conv2D(filters, 3, padding="same"), L.BatchNormalization()) for _ in range(2)
            ]

        def call(self, x, training=None):
            for conv, bn in self.steps:
                x = relu(bn(conv(x), training=training))
            return x

    class UNet(K.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.down1, self.down2, self.up1 = Double(3), Double(4), Double(3)
            self.pool, self.up = L.MaxPooling2D(), L.UpSampling2D()
            self.join, self.out = L.Concatenate(), L.Conv2D(1, 1)

        def call(self, x, training=None):
            a = self.down1(x, training=training)
            b = self.down2(self.pool(a), training=training)
            return self.out(self.up1(self.join([a, self.up(b)]), training=training))

    return UNet()


def generator(K):
    L = K.layers

    class Generator(K.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = L.Dense(4 * 4 * 3, use_bias=False)
            self.bn0 = L.BatchNormalization()
            self.shape_ = L.Reshape((4, 4, 3))
            self.deconvs = [L.Conv2DTranspose(3, 3, 2, padding="same") for _ in range(2)]
            self.bns = [L.BatchNormalization() for _ in range(2)]

        def call(self, z, training=None):
            x = self.shape_(relu(self.bn0(self.dense(z), training=training)))
            for deconv, bn in zip(self.deconvs, self.bns, strict=True):
                x = relu(bn(deconv(x), training=training))
            return x

    return Generator()


def discriminator(K):
    L = K.layers

    class Discriminator(K.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.body = K.Sequential(
                [
                    L.Conv2D(4, 3, 2),
                    L.LeakyReLU(),
                    L.Conv2D(4, 3),
                    L.BatchNormalization(),
                    L.Dropout(0.3),
                    L.Flatten(),
                ]
            )
            self.head = L.Dense(1)

        def call(self, x, training=None):
            return self.head(self.body(x, training=training))

    return Discriminator()


def siamese(K):
    L = K.layers

    class Siamese(K.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.conv, self.bn = L.Conv2D(4, 3), L.BatchNormalization()
            self.pool = L.GlobalAveragePooling2D()

        def encoded(self, x, training):
            return self.pool(self.bn(self.conv(x), training=training))

        def call(self, inputs, training=None):
            left, right = inputs
            return abs(self.encoded(left, training) - self.encoded(right, training))

    return Siamese()


def transformer(K):
    L = K.layers

    class Layer(L.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.attention = L.MultiHeadAttention(2, 4)
            self.bn1, self.bn2 = L.BatchNormalization(), L.BatchNormalization()
            self.ffn = K.Sequential([L.Dense(12, activation="relu"), L.Dense(8)])

        def call(self, x, training=None):
            x = self.bn1(x + self.attention(x, x), training=training)
            return self.bn2(x + self.ffn(x), training=training)

    class Transformer(K.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.project = L.Dense(8)
            self.encoders = [Layer(), Layer()]
            self.pool, self.head = L.GlobalAveragePooling1D(), L.Dense(2)

        def call(self, x, training=None):
            x = self.project(x)
            for encoder in self.encoders:
                x = encoder(x, training=training)
            return self.head(self.pool(x))

    return Transformer()


def tcn(K):
    L = K.layers

    class Residual(L.Layer):
        def __init__(self, dilation, **kwargs):
            super().__init__(**kwargs)
            self.conv = L.Conv1D(4, 3, padding="causal", dilation_rate=dilation)
            self.bn, self.act = L.BatchNormalization(), L.Activation("relu")

        def call(self, x, training=None):
            return x + self.act(self.bn(self.conv(x), training=training))

    class TCN(K.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.first = L.Conv1D(4, 1)
            self.stack = {f"d{d}": Residual(d) for d in (1, 2, 4)}
            self.head = L.Dense(2)

        def call(self, x, training=None):
            x = self.first(x)
            for block in self.stack.values():
                x = block(x, training=training)
            return self.head(x[:, -1])

    return TCN()


def crnn(K):
    L = K.layers

    class CRNN(K.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.conv, self.bn = L.Conv2D(4, 3, padding="same"), L.BatchNormalization()
            self.columns = L.Reshape((8, 32))
            self.lstm, self.head = L.Bidirectional(L.LSTM(3, return_sequences=True)), L.Dense(5)

        def call(self, x, training=None):
            x = relu(self.bn(self.conv(x), training=training))
            return self.head(self.lstm(self.columns(x)))

    return CRNN()


def multi_task(K):
    L = K.layers

    class MultiTask(K.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.conv, self.bn = L.Conv2D(4, 3), L.BatchNormalization()
            self.pool = L.GlobalAveragePooling2D()
            self.kind = K.Sequential([L.Dense(4), L.BatchNormalization(), L.Dense(3)])
            self.place = L.Dense(4)

        def call(self, x, training=None):
            x = self.pool(relu(self.bn(self.conv(x), training=training)))
            return {"kind": self.kind(x, training=training), "place": self.place(x)}

    return MultiTask()


def own_step(K):
    L = K.layers

    class OwnStep(K.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense, self.bn, self.out = L.Dense(6), L.BatchNormalization(), L.Dense(2)
            self.tracker = K.metrics.Mean(name="loss")

        def call(self, x, training=None):
            return self.out(relu(self.bn(self.dense(x), training=training)))

        def train_step(self, data):
            return {**super().train_step(data), "extra": 1.0}

        @property
        def metrics(self):
            return [self.tracker]

    return OwnStep()


def drawn(*shape):
    return np.random.default_rng(3).normal(size=(40, *shape)).astype("float32")


IMAGES = (8, 8, 3)
TUTORIALS = {
    "resnet": (resnet, drawn(*IMAGES)),
    "unet": (unet, drawn(*IMAGES)),
    "generator": (generator, drawn(5)),
    "discriminator": (discriminator, drawn(*IMAGES)),
    "siamese": (siamese, [drawn(*IMAGES), drawn(*IMAGES)[::-1].copy()]),
    "transformer": (transformer, drawn(6, 5)),
    "tcn": (tcn, drawn(10, 3)),
    "crnn": (crnn, drawn(*IMAGES)),
    "multi_task": (multi_task, drawn(*IMAGES)),
    "own_step": (own_step, drawn(5)),
}


def made(K, name):
    make, x = TUTORIALS[name]
    K.utils.set_random_seed(0)
    model = make(K)
    model([part[:2] for part in x] if isinstance(x, list) else x[:2])
    zoo.randomise_batch_norms(model, 0)
    return model, x


@pytest.fixture(params=TUTORIALS)
def built(request, K):
    return made(K, request.param)


def statistics_of(model):
    return [ref.statistics(norm) for norm in zoo.batch_norms(model)]


@pytest.mark.every(5)
@pytest.mark.since(keras3="3.7")  # older ones do not open all of the files that they write
def test_folding_and_opening_keep_what_predict_answers_and_load_without_the_class(
    K, built, tmp_path
):
    model, x = built
    wanted = ref.numbers(model.predict(x, verbose=0))
    weights = ref.weights_of(model)
    folded, report = bnfix.fold(model, return_report=True)
    norms = len(zoo.batch_norms(model))
    assert len(report.outcomes) == norms
    assert len(zoo.batch_norms(folded)) == norms - len(report.changed)
    for name, made in (("folded", bnfix.open_up(folded)), ("opened", bnfix.open_up(model))):
        made.save(str(tmp_path / f"{name}.keras"))
        loaded = K.models.load_model(str(tmp_path / f"{name}.keras"))
        ref.assert_close(ref.numbers(loaded.predict(x, verbose=0)), wanted, 2e-5)
    ref.assert_same_weights(model, weights)


def assert_both_engines_agree(model, x, monkeypatch, *, within):
    before = ref.weights_of(model)
    _, report = bnfix.recalibrate(model, x, batch_size=16, return_report=True)
    assert report.engine == "exact"
    found = statistics_of(model)
    for weight, value in zip(model.weights, before, strict=True):
        weight.assign(value)
    monkeypatch.setattr(estimate, "opened", lambda *args, held: (None, args[1]))
    _, report = bnfix.recalibrate(model, x, batch_size=16, return_report=True)
    assert report.engine == "lockstep"
    for norm, ours in zip(zoo.batch_norms(model), found, strict=True):
        assert ref.deviation(norm, ours, ref.statistics(norm)) <= within


@pytest.mark.every(4)
def test_the_graph_gives_the_statistics_that_running_the_code_gives(built, monkeypatch):
    assert_both_engines_agree(*built, monkeypatch, within=SAME)


def test_only_rounding_parts_the_engines(K, monkeypatch):
    zoo.need_precision("float64")
    with ref.in_dtype(K, "float64"):
        assert_both_engines_agree(*made(K, "resnet"), monkeypatch, within=1e-12)


@pytest.mark.every(5)
@pytest.mark.filterwarnings("ignore:to_group_norm. :bnfix.BnfixWarning")  # chance made the weights
def test_examined_repaired_and_without_the_batch(built):
    model, x = built
    assert bnfix.check(model, x if isinstance(x, list) else x[:8]).ok
    assert bnfix.diagnose(model, x).batch_norms == len(zoo.batch_norms(model))
    repaired = bnfix.repair(model, x)
    assert adapter_of(repaired).batch_norms(repaired)
    grouped, report = bnfix.to_group_norm(model, x, return_report=True)
    stay = [layer for layer in report.layers if not layer.changed]
    assert len(zoo.batch_norms(grouped)) == len(stay)
    assert all("values to normalize by" in layer.detail for layer in stay), str(report)
