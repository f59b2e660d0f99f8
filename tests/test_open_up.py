"""open_up and what stands on it: subclassed models and layers made of layers as plain graphs."""

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters.choose import adapter_of

OPENS = {"subclassed", "opaque_bn"}
CASES = zoo.cases(
    having={"custom", "bn"}, where=lambda entry, dialect: bool(OPENS & entry.tags_in(dialect))
)


def images(rows=4, size=8):
    return np.random.default_rng(0).normal(size=(rows, size, size, 3)).astype("float32")


def made_of(K, layers, call, base=None, x=None, **options):
    """A model or layer with `layers`, whose `call(self, x, training)` is given."""

    class Made(base or K.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.parts = layers(K.layers)

        def call(self, x, training=None):
            return call(self, x, training)

        def get_config(self):
            return super().get_config()

    made = Made(**options)
    if x is not None:
        made(x)
        zoo.randomise_batch_norms(made, 0)
    return made


def recorded(model):
    """How many calls each layer remembers."""
    adapter = adapter_of(model)
    layers = [model, *(layer for _, layer in adapter.tree(model))]
    return [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in layers]


def attributes(model):
    adapter = adapter_of(model)
    layers = [model, *(layer for _, layer in adapter.tree(model))]
    return [{name: id(value) for name, value in vars(layer).items()} for layer in layers]


def two_convs(L):
    return [
        L.Conv2D(4, 3, use_bias=False, name="conv1"),
        L.BatchNormalization(name="bn1"),
        L.Conv2D(3, 3, name="conv2"),
        L.BatchNormalization(name="bn2"),
    ]


def in_a_row(self, x, training):
    conv1, bn1, conv2, bn2 = self.parts
    return bn2(conv2(abs(bn1(conv1(x), training=training))), training=training)


# --- opened ---------------------------------------------------------------------------------------


@pytest.mark.every(2)
@pytest.mark.parametrize(("entry", "dialect"), CASES)
def test_an_opened_model_computes_the_same_and_loads_without_its_classes(entry, dialect, tmp_path):
    model, K = zoo.build(entry, dialect), zoo.keras_module(dialect)
    x = zoo.inputs_for(model, rows=3)
    weights, calls = ref.weights_of(model), recorded(model)
    opened, report = bnfix.open_up(model, x=x, return_report=True)
    assert recorded(model) == calls
    ref.assert_same_weights(model, weights)
    assert report.changed, str(report)
    assert not report.declined, str(report)
    ref.assert_close(ref.inferred(opened, x), ref.inferred(model, x), 1e-6)
    assert len(zoo.batch_norms(opened)) == len(zoo.batch_norms(model))
    opened.save(str(tmp_path / "opened.keras"))
    loaded = K.models.load_model(str(tmp_path / "opened.keras"))
    ref.assert_close(ref.inferred(loaded, x), ref.inferred(model, x), 1e-6)
    assert bnfix.open_up(opened) is opened


@pytest.mark.parametrize(("entry", "dialect"), CASES)
def test_reading_what_code_calls_leaves_nothing_in_the_model(entry, dialect):
    model = zoo.build(entry, dialect)
    x = zoo.inputs_for(model, rows=3)
    before, weights = attributes(model), ref.weights_of(model)
    graph = bnfix.graph_of(model, x=x, open="all")
    assert attributes(model) == before
    ref.assert_same_weights(model, weights)
    shown = {call.path for call in graph.of_kind("BatchNormalization")}
    assert shown == {path for path, _ in adapter_of(model).batch_norms(model)}


def test_a_subclassed_model_folds_completely_and_without_its_shape_being_told(K):
    model = made_of(K, two_convs, in_a_row, x=images())
    folded, report = bnfix.fold(model, strict=True, return_report=True)
    assert [outcome.path for outcome in report.changed] == ["bn1", "bn2"]
    assert not zoo.batch_norms(folded)
    ref.assert_close(folded.predict(images(), verbose=0), model.predict(images(), verbose=0), 1e-5)
    assert any("is a Functional model now" in note for note in report.notes)


def test_inputs_tell_what_a_model_takes_that_does_not_know(K, monkeypatch):
    model, x = made_of(K, two_convs, in_a_row, x=images()), images()
    monkeypatch.setattr(type(adapter_of(model)), "input_signature", lambda self, model: None)

    def identity(norm):
        return K.layers.Activation("linear")

    with pytest.raises(bnfix.UnsupportedModelError, match="pass inputs as x="):
        bnfix.replace(model, identity)
    with pytest.raises(bnfix.UnsupportedModelError, match="pass inputs as x="):
        bnfix.to_group_norm(model, groups=1)
    assert not zoo.batch_norms(bnfix.replace(model, identity, x=x))
    assert not zoo.batch_norms(bnfix.to_group_norm(model, groups=1, x=x))


def test_flags_of_layers_survive_opening(K):
    model = made_of(K, two_convs, in_a_row, x=images())
    model.parts[2].trainable = False
    opened = bnfix.open_up(model)
    assert [w.shape for w in opened.trainable_weights] == [w.shape for w in model.trainable_weights]
    assert not opened.get_layer("conv2").trainable


def test_training_that_the_caller_passes_on_stays_with_the_caller(K):
    model = made_of(K, two_convs, in_a_row, x=images())
    opened = bnfix.open_up(model)
    assert all(call.training is None for call in bnfix.graph_of(opened))
    before = ref.weights_of(opened)
    opened(images(), training=True)
    moved = [not np.array_equal(a, b) for a, b in zip(ref.weights_of(opened), before, strict=True)]
    assert sum(moved) == 4


@pytest.mark.parametrize("written", [True, False])
def test_a_training_flag_written_into_code_is_seen_as_baked_and_stripped(K, written, tmp_path):
    def call(self, x, training):
        conv1, bn1, conv2, bn2 = self.parts
        return bn2(conv2(bn1(conv1(x), training=written)), training=training)

    model = made_of(K, two_convs, call, x=images())
    assert {c.path: c.training for c in bnfix.graph_of(model) if c.training is not None} == {
        "bn1": written
    }
    stripped, report = bnfix.strip_training(model, return_report=True)
    assert [outcome.path for outcome in report.changed] == ["bn1"]
    wanted = made_of(K, two_convs, calm, x=images())
    for ours, theirs in zip(wanted.weights, model.weights, strict=True):
        ours.assign(theirs)
    stripped.save(str(tmp_path / "stripped.keras"))
    loaded = K.models.load_model(str(tmp_path / "stripped.keras"))
    for each in (stripped, loaded):
        weights = ref.weights_of(each)
        answer = ref.numbers(each(images()))
        ref.assert_close(answer, ref.inferred(wanted, images()), 1e-6)
        ref.assert_same_weights(each, weights)


def calm(self, x, training):
    conv1, bn1, conv2, bn2 = self.parts
    return bn2(conv2(bn1(conv1(x), training=training)), training=training)


def test_a_composite_layer_stays_closed_where_nothing_in_it_changes(K):
    def block(L):
        return [L.Conv2D(3, 3, name="conv"), L.ReLU(), L.BatchNormalization(name="bn")]

    def call(self, x, training):
        conv, relu, bn = self.parts
        return abs(bn(relu(conv(x)), training=training))

    layer = made_of(K, block, call, base=K.layers.Layer)
    inputs = K.Input((8, 8, 3))
    x = K.layers.BatchNormalization(name="outer")(K.layers.Conv2D(4, 3)(inputs))
    model = K.Model(inputs, layer(x))
    zoo.randomise_batch_norms(model, 0)
    folded, report = bnfix.fold(model, return_report=True)
    assert [outcome.path for outcome in report.changed] == ["outer"]
    assert isinstance(folded.layers[-1], type(layer))
    assert any(outcome.path == f"{layer.name}/bn" for outcome in report.declined)
    ref.assert_close(ref.inferred(folded, images()), ref.inferred(model, images()), 1e-5)


def test_layers_of_one_name_are_told_apart_and_keep_theirs(K):
    def block(L):
        return [L.Dense(4, name="dense"), L.BatchNormalization(name="bn")]

    def one(self, x, training):
        dense, bn = self.parts
        return bn(dense(x), training=training)

    def blocks(L):
        return [made_of(K, block, one, base=L.Layer, name="block") for _ in range(2)]

    def both(self, x, training):
        for part in self.parts:
            x = part(x, training=training)
        return x

    x = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    model = made_of(K, blocks, both, x=x)
    opened, folded = bnfix.open_up(model), bnfix.fold(model, strict=True)
    assert [part.name for part in model.parts] == ["block", "block"]
    assert [layer.name for layer in opened.layers[1:]] == ["block", "block_1"]
    for made in (opened, folded):
        ref.assert_close(ref.inferred(made, x), ref.inferred(model, x), 1e-5)


def test_training_given_to_a_layer_that_takes_none_is_no_matter(K):
    def call(self, x, training):
        dense, bn, flat = self.parts
        return flat(bn(dense(x), training=training), training=training)

    def parts(L):
        class Loose(L.Layer):
            def call(self, x, **_):
                return x * 2.0

        return [L.Dense(4), L.BatchNormalization(), Loose()]

    x = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    model = made_of(K, parts, call, x=x)
    folded = bnfix.fold(model, strict=True)
    ref.assert_close(ref.inferred(folded, x), ref.inferred(model, x), 1e-5)


# --- closed ---------------------------------------------------------------------------------------


def by_value(K):
    def call(self, x, training):
        conv1, bn1, conv2, bn2 = self.parts
        y = bn1(conv1(x), training=training)
        if zoo.functions(K).sum(y) > 0:
            y = -y
        return bn2(conv2(y), training=training)

    return call


def test_code_that_goes_by_values_stays_closed_with_the_reason(K):
    model = made_of(K, two_convs, by_value(K))
    model.run_eagerly = True
    inputs = images()
    import contextlib

    with contextlib.suppress(TypeError):
        model(inputs)
    before = attributes(model)
    for verb in (bnfix.fold, bnfix.open_up, bnfix.strip_training, bnfix.graph_of):
        with pytest.raises(bnfix.UnsupportedModelError, match="does not run on placeholders"):
            verb(model, x=inputs)
    assert attributes(model) == before


def test_strict_counts_what_the_graph_does_not_show(K):
    class Scaled(K.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.bn = K.layers.BatchNormalization(name="bn")

        def build(self, shape):
            self.gain = self.add_weight(name="gain", shape=(shape[-1],), initializer="ones")
            self.bn.build(shape)

        def call(self, x):
            return self.bn(x) * self.gain

    model = K.Sequential([K.Input((5,)), K.layers.Dense(4), Scaled(name="scaled")])
    with pytest.raises(bnfix.UnsupportedModelError, match=r"scaled/bn: .*weights of its own"):
        bnfix.fold(model, strict=True)
    _, report = bnfix.fold(model, lower=True, return_report=True)
    assert [outcome.path for outcome in report.declined] == ["scaled/bn"]


@pytest.mark.parametrize("what", ["loss", "assignment"])
def test_code_that_does_more_than_compute_stays_closed_and_undone(K, what):
    class Busy(K.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.bn = K.layers.BatchNormalization(name="bn")
            self.kept = None

        def build(self, shape):
            self.bn.build(shape)

        def call(self, x):
            y = self.bn(x)
            self.kept = y
            if what == "loss":
                self.add_loss(0.0 * zoo.functions(K).sum(y))
            else:
                self.bn.moving_mean.assign(self.bn.moving_mean * 0.5)
            return y

    model = K.Sequential([K.Input((5,)), K.layers.Dense(4), Busy(name="busy")])
    zoo.randomise_batch_norms(model, 0)
    before, weights = attributes(model), ref.weights_of(model)
    bnfix.graph_of(model)
    assert attributes(model) == before
    _, report = bnfix.fold(model, return_report=True)
    assert [outcome.path for outcome in report.declined] == ["busy/bn"]
    assert "stays closed" in report.declined[0].detail
    ref.assert_same_weights(model, weights)


# --- shown able to fail ---------------------------------------------------------------------------


def spoiled(rebuild):
    """Rebuilding that loses what one layer has learned."""

    def rebuild_and_spoil(*args, **options):
        made = rebuild(*args, **options)
        made.model.weights[0].assign(0 * made.model.weights[0])
        return made

    return rebuild_and_spoil


def test_a_graph_that_computes_something_else_than_the_code_is_withheld(K, monkeypatch):
    from bnfix.operations import proven

    model = made_of(K, two_convs, in_a_row, x=images())
    before = ref.weights_of(model)
    monkeypatch.setattr(proven, "rebuild", spoiled(proven.rebuild))
    with pytest.raises(bnfix.VerificationError, match="open_up gave a model that does not"):
        bnfix.open_up(model)
    ref.assert_same_weights(model, before)


def test_calls_that_are_not_those_of_the_code_are_withheld(K, monkeypatch):
    """What was found in the code is run by itself, before anything is built of it."""
    from bnfix.operations import reference

    def baked(self, x, training):
        conv1, bn1, conv2, bn2 = self.parts
        return bn2(conv2(abs(bn1(conv1(x), training=True))), training=training)

    model = made_of(K, two_convs, baked, x=images())
    bnfix.strip_training(model)
    right = reference.call_by_call
    monkeypatch.setattr(
        reference, "call_by_call", lambda *args: [2 * output for output in right(*args)]
    )
    with pytest.raises(bnfix.VerificationError, match="found in it computes something else"):
        bnfix.strip_training(model)


def test_a_training_flag_that_a_graph_would_overrule_is_said(K):
    def baked(self, x, training):
        conv1, bn1, conv2, bn2 = self.parts
        return bn2(conv2(abs(bn1(conv1(x), training=True))), training=training)

    model = made_of(K, two_convs, baked, x=images())
    if K.__name__ == "tf_keras":  # where it means the same in a graph
        assert adapter_of(model).has_graph(bnfix.open_up(model))
        return
    with pytest.raises(bnfix.UnsupportedModelError, match=r"Run bnfix\.strip_training first"):
        bnfix.open_up(model)
