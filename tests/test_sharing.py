"""What is one layer before is one after, and what cannot be copied is kept or named."""

import numpy as np
import pytest
import references as ref
import zoo
from test_rebuild import nodes

import bnfix
from bnfix.adapters import carrying, reading, rebuilding
from bnfix.adapters.choose import adapter_of

CLOSE = 1e-5


def made(K, inputs, outputs):
    model = K.Model(inputs, outputs)
    zoo.randomise_batch_norms(model, 0)
    return model


def wrapped(K, wrapped_first):
    """A Dense called by the graph and by a wrapper, and a BN to fold elsewhere."""
    L = K.layers
    inputs = K.Input((5, 4))
    dense = L.Dense(4, name="both")
    timed = L.TimeDistributed(dense)
    x = dense(timed(inputs)) if wrapped_first else timed(dense(inputs))
    x = L.ReLU()(L.BatchNormalization()(x))
    return made(K, inputs, L.ReLU()(L.BatchNormalization()(L.Dense(3, name="last")(x))))


def wrapped_model(K, wrapped_first):
    L = K.layers
    inner = K.Input((4,))
    both = K.Model(inner, L.ReLU()(L.BatchNormalization()(L.Dense(4)(inner))), name="both")
    inputs = K.Input((4,))
    timed = L.TimeDistributed(both)
    if wrapped_first:
        x = both(L.Reshape((4,))(timed(L.Reshape((1, 4))(inputs))))
    else:
        x = L.Flatten()(timed(L.Reshape((1, 4))(both(inputs))))
    return made(K, inputs, L.ReLU()(L.BatchNormalization()(L.Dense(3, name="last")(x))))


@pytest.mark.parametrize("wrapped_first", [False, True])
@pytest.mark.parametrize("make", [wrapped, wrapped_model])
def test_what_the_graph_and_a_wrapper_share_stays_one(K, make, wrapped_first):
    model = make(K, wrapped_first)
    x = zoo.inputs_for(model, rows=3)
    calls = nodes(model)
    folded, report = bnfix.fold(model, return_report=True)
    norms = [4, 3] if make is wrapped_model else [3]  # channels of those that fold
    assert len(report.changed) == len(norms), str(report)
    assert nodes(model) == calls
    ref.assert_close(ref.inferred(folded, x), ref.inferred(model, x), CLOSE)
    assert folded.count_params() == model.count_params() - 4 * sum(norms)
    # And it is trained as one: without its kernel it makes its bias, folded or not.
    for one in (folded, model):
        kernel = one.get_layer("both").weights[0]
        kernel.assign(0 * np.asarray(kernel))
    ref.assert_close(ref.inferred(folded, x), ref.inferred(model, x), CLOSE)


def test_a_shared_layer_takes_up_no_map_for_the_wrapper_would_apply_it_too(K):
    L = K.layers
    inputs = K.Input((5, 4))
    dense = L.Dense(4, name="both")
    x = L.BatchNormalization()(dense(inputs))
    model = made(K, inputs, [L.ReLU()(x), L.TimeDistributed(dense)(inputs)])
    folded, report = bnfix.fold(model, return_report=True)
    assert folded is model
    assert "is called by the code of another layer as well" in report.declined[0].detail


def tied(K, *, told):
    """A head that takes the kernel of an Embedding; `told` in its configuration or not."""

    class Tied(K.layers.Layer):
        def __init__(self, embedding, **options):
            super().__init__(**options)
            if isinstance(embedding, dict):
                embedding = K.layers.deserialize(embedding)
            self.embedding = embedding

        def call(self, x):
            f = zoo.functions(K)
            return f.matmul(x, f.transpose(self.embedding.embeddings))

        def compute_output_shape(self, shape):
            return (*shape[:-1], self.embedding.input_dim)

        def get_config(self):
            if not told:
                raise NotImplementedError("get_config")
            return {
                **super().get_config(),
                "embedding": K.layers.serialize(self.embedding),
            }

    L = K.layers
    inputs = K.Input((5,), dtype="int32")
    embedding = L.Embedding(7, 4)
    x = L.ReLU()(L.BatchNormalization()(L.Dense(4)(embedding(inputs))))
    return made(K, inputs, Tied(embedding)(x))


def test_a_tied_embedding_stays_tied(K):
    model = tied(K, told=True)
    x = np.array([[1, 2, 3, 4, 5], [0, 6, 5, 4, 3]])
    folded = bnfix.fold(model, x=x, strict=True)
    ref.assert_close(ref.inferred(folded, x), ref.inferred(model, x), CLOSE)
    assert folded.count_params() == model.count_params() - 16


def test_what_cannot_be_kept_one_is_named(K):
    model = tied(K, told=False)
    before = ref.weights_of(model)
    with pytest.raises(bnfix.UnsupportedModelError, match=r"embedding\S* and tied\S* .*share weig"):
        bnfix.fold(model, open="never")
    ref.assert_same_weights(model, before)


# --- layers that do not tell how to make them -----------------------------------------------------


def foreign(K, weights=True, base=None, refuse=True):
    class Foreign(base or K.layers.Layer):
        def __init__(self, function, size=4, **options):
            super().__init__(**options)
            self.function = function
            self.inner = K.layers.Dense(size, bias_initializer="ones") if weights else None

        def call(self, x):
            return self.function(x if self.inner is None else self.inner(x))

        def compute_output_shape(self, shape):
            return shape

        def get_config(self):
            if refuse:
                raise NotImplementedError("get_config")
            return K.layers.Layer.get_config(self)

    return Foreign(lambda x: 2 * x, name="foreign")


def around(K, layer):
    L = K.layers
    inputs = K.Input((4,))
    x = layer(L.ReLU()(L.BatchNormalization()(L.Dense(4)(inputs))))
    return made(K, inputs, L.ReLU()(L.BatchNormalization(name="last")(L.Dense(16)(x))))


@pytest.mark.parametrize("weights", [False, True])
def test_a_layer_that_tells_nothing_is_kept_and_the_rest_is_folded(K, weights):
    model = around(K, foreign(K, weights))
    x = zoo.inputs_for(model, rows=3)
    calls, before = nodes(model), ref.weights_of(model)
    layer = model.get_layer("foreign")
    if weights:
        layer.inner.trainable = False
    folded, report = bnfix.fold(model, strict=True, open="never", return_report=True)
    assert not zoo.batch_norms(folded)
    assert nodes(model) == calls
    assert len(layer._inbound_nodes) == 1
    ref.assert_same_weights(model, before)
    assert not (weights and layer.inner.trainable)
    ref.assert_close(ref.inferred(folded, x), ref.inferred(model, x), CLOSE)
    kept = folded.get_layer("foreign")
    assert kept is not layer
    shares = any("shares its weights with the model given" in note for note in report.notes)
    assert shares == any(a is b for a, b in zip(kept.weights, layer.weights, strict=True))
    changed = bnfix.to_group_norm(model, groups=1, layers="last", open="never")
    assert len(zoo.batch_norms(changed)) == 1


def test_a_linear_layer_that_tells_nothing_is_not_changed(K):
    """Its class is not Keras's own, so it takes up nothing and is kept."""
    model = around(K, foreign(K))
    assert bnfix.graph_of(model, open="never").of_kind("Custom")
    _, report = bnfix.fold(model, open="never", return_report=True)
    assert not any("foreign" in outcome.detail for outcome in report.changed)


# --- shown able to fail ---------------------------------------------------------------------------


def test_a_second_copy_would_be_refused(K, monkeypatch):
    monkeypatch.setattr(rebuilding._Rebuilding, "_join", lambda self, old, new: None)
    with pytest.raises(bnfix.UnsupportedModelError, match="share weights"):
        bnfix.fold(wrapped(K, False))
    monkeypatch.setattr(carrying.Carrying, "_check_sharing", lambda self: None)
    with pytest.raises(AssertionError):
        test_what_the_graph_and_a_wrapper_share_stays_one(K, wrapped, False)


def test_a_map_taken_up_by_a_shared_layer_would_be_seen(K, monkeypatch):
    monkeypatch.setattr(
        reading.Reading, "_holders", property(lambda self: __import__("collections").Counter())
    )
    with pytest.raises((AssertionError, bnfix.BnfixError)):
        test_a_shared_layer_takes_up_no_map_for_the_wrapper_would_apply_it_too(K)


def test_calls_recorded_at_the_source_would_be_seen(K, monkeypatch):
    adapter = type(adapter_of(around(K, foreign(K))))
    monkeypatch.setattr(adapter, "without_copying", lambda self, layer: (layer, True))
    with pytest.raises(AssertionError):
        test_a_layer_that_tells_nothing_is_kept_and_the_rest_is_folded(K, True)
