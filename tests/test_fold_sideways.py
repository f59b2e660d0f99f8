"""fold, sideways: an identity branch gives its BN to the convolution beside it."""

import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters.choose import adapter_of
from bnfix.numerics.window import Window
from bnfix.operations import proven
from bnfix.passes import sideways
from bnfix.passes.averaging import plus_mean

CLOSE = 1e-5
BIAS = {"bias_initializer": "glorot_uniform"}


def block(K, layer, *, shape=(6, 6, 4), axis=-1, before=None, more=(), outputs=None):
    """`Add(BN(layer(x)), BN(x))` behind an activation, as RepVGG has it."""
    L = K.layers
    K.utils.set_random_seed(0)
    inputs = K.Input(shape)
    x = L.ReLU()(inputs)
    identity = L.BatchNormalization(axis=axis, name="identity")(x if before is None else before(x))
    branches = [L.BatchNormalization(axis=axis)(layer(x)), identity]
    branches += [L.BatchNormalization(axis=axis)(other(x)) for other in more]
    joined = L.ReLU()(L.Add()(branches))
    model = K.Model(inputs, joined if outputs is None else [joined, identity])
    zoo.randomise_batch_norms(model, 0)
    return model


def folds(model):
    x = zoo.inputs_for(model, rows=3)
    wanted = ref.inferred(model, x)
    folded, report = bnfix.fold(model, return_report=True)
    assert not zoo.batch_norms(folded), str(report)
    ref.assert_close(ref.inferred(folded, x), wanted, CLOSE)
    return folded


def runs(model):
    adapter = adapter_of(model)
    try:
        adapter.infer(model, zoo.inputs_for(model, rows=1))
    except adapter.run_errors as error:
        pytest.skip(f"TensorFlow does not run it on this processor: {str(error)[:80]}")
    return model


SAME = {"padding": "same", **BIAS}
SIBLINGS = {
    "conv": ((6, 6, 4), lambda L: L.Conv2D(4, 3, **SAME)),
    "conv_without_bias": ((6, 6, 4), lambda L: L.Conv2D(4, 3, padding="same", use_bias=False)),
    "conv_1x1": ((6, 6, 4), lambda L: L.Conv2D(4, 1, **BIAS)),
    "conv_oblong": ((6, 6, 4), lambda L: L.Conv2D(4, (1, 5), **SAME)),
    "conv_even": ((6, 6, 4), lambda L: L.Conv2D(4, (2, 4), **SAME)),
    "conv_dilated": ((6, 6, 4), lambda L: L.Conv2D(4, 3, dilation_rate=2, **SAME)),
    "grouped": ((6, 6, 4), lambda L: L.Conv2D(4, 3, groups=2, **SAME)),
    "depthwise": ((6, 6, 4), lambda L: L.DepthwiseConv2D(3, **SAME)),
    "depthwise1d": ((6, 4), lambda L: L.DepthwiseConv1D(3, **SAME)),
    "conv1d": ((6, 4), lambda L: L.Conv1D(4, 3, **SAME)),
    "causal": ((6, 4), lambda L: L.Conv1D(4, 3, padding="causal", dilation_rate=2, **BIAS)),
    "conv3d": ((4, 4, 4, 2), lambda L: L.Conv3D(2, 3, **SAME)),
    "dense": ((4,), lambda L: L.Dense(4, **BIAS)),
    "dense_of_positions": ((5, 4), lambda L: L.Dense(4, use_bias=False)),
    "timed": ((5, 4), lambda L: L.TimeDistributed(L.Dense(4, **BIAS))),
}


@pytest.mark.every(2)
@pytest.mark.parametrize("name", SIBLINGS)
def test_an_identity_branch_gives_its_norm_to_the_layer_beside_it(K, name):
    shape, make = SIBLINGS[name]
    folds(block(K, make(K.layers), shape=shape))


@pytest.mark.parametrize("kind", ["conv", "depthwise", "grouped"])
def test_channels_first_as_well(K, kind):
    L, first = K.layers, {"data_format": "channels_first", **SAME}
    layer = {
        "conv": lambda: L.Conv2D(4, 3, **first),
        "depthwise": lambda: L.DepthwiseConv2D(3, **first),
        "grouped": lambda: L.Conv2D(4, 3, groups=2, **first),
    }[kind]()
    # As wide as it has channels, Keras 3 would add a bias along the width.
    folds(runs(block(K, layer, shape=(4, 6, 6), axis=1)))


def test_a_repvgg_block_of_three_branches_folds_whole_and_survives_saving(K, tmp_path):
    L = K.layers
    model = block(K, L.Conv2D(4, 3, **SAME), more=[L.Conv2D(4, 1, use_bias=False)])
    folded = folds(model)
    x, file = zoo.inputs_for(model, rows=3), str(tmp_path / "folded.keras")
    folded.save(file)
    loaded = K.models.load_model(file)
    ref.assert_close(ref.inferred(loaded, x), ref.inferred(model, x), CLOSE)
    ref.assert_close([loaded.predict(x, verbose=0)], ref.inferred(model, x), CLOSE)
    assert bnfix.fold(folded) is folded


@pytest.mark.parametrize("order", ["identity_last", "identity_first"])
def test_a_sum_of_sums_is_a_sum(K, order):
    L = K.layers
    K.utils.set_random_seed(0)
    inputs = K.Input((6, 6, 4))
    x = L.ReLU()(inputs)
    a, b = (L.BatchNormalization()(L.Conv2D(4, size, **SAME)(x)) for size in (3, 1))
    c = L.BatchNormalization()(x)
    model = K.Model(inputs, L.ReLU()(a + b + c if order == "identity_last" else c + a + b))
    zoo.randomise_batch_norms(model, 0)
    folds(model)


def test_blocks_in_a_row_and_in_nested_models_fold(K):
    L = K.layers
    K.utils.set_random_seed(0)

    def make(x):
        branches = [L.Conv2D(4, 3, padding="same", use_bias=False), L.Conv2D(4, 1, use_bias=False)]
        sums = [L.BatchNormalization()(layer(x)) for layer in branches]
        return L.ReLU()(L.Add()([*sums, L.BatchNormalization()(x)]))

    inner = K.Input((6, 6, 4))
    nested = K.Model(inner, make(make(L.ReLU()(inner))))
    inputs = K.Input((6, 6, 4))
    model = K.Model(inputs, make(nested(make(L.ReLU()(inputs)))))
    zoo.randomise_batch_norms(model, 0)
    folds(model)


POOLED = {
    "conv": ((7, 6, 4), lambda L: (L.Conv2D(4, 3, **BIAS), L.AveragePooling2D(3, 1))),
    "depthwise": (
        (8, 6, 4),
        lambda L: (L.DepthwiseConv2D(2, strides=2, **SAME), L.AveragePooling2D(2, padding="same")),
    ),
    "conv1d": ((7, 4), lambda L: (L.Conv1D(4, 3, use_bias=False), L.AveragePooling1D(3, 1))),
}


@pytest.mark.parametrize("name", POOLED)
def test_a_branch_of_average_pooling_gives_its_norm_as_well(K, name):
    shape, make = POOLED[name]
    conv, pooling = make(K.layers)
    folded = folds(block(K, conv, shape=shape, before=pooling))
    assert any("Pooling" in type(layer).__name__ for layer in folded.layers)


def test_a_mean_of_fewer_positions_at_the_border_keeps_its_norm(K):
    pooling = K.layers.AveragePooling2D(3, 1, padding="same")
    model = block(K, K.layers.Conv2D(4, 3, **SAME), before=pooling)
    _, report = bnfix.fold(model, return_report=True)
    (declined,) = report.declined
    assert declined.path == "identity"
    assert "no linear layer beside it reads what it reads" in declined.detail


STAYS = {
    "strided": (
        lambda L: L.Conv2D(4, 3, strides=1, padding="valid"),
        {"before": lambda L: L.Cropping2D(1)},
        "no linear layer beside it reads what it reads",
    ),
    "even_and_dilated": (
        lambda L: L.Conv2D(4, 2, dilation_rate=3, **SAME),
        {},
        "no tap of conv.* beside it sees the very position",
    ),
    "transposed": (lambda L: L.Conv2DTranspose(4, 3, **SAME), {}, "no tap of"),
    "separable": (lambda L: L.SeparableConv2D(4, 3, **SAME), {}, "no tap of"),
    "activation": (lambda L: L.Conv2D(4, 3, activation="relu", **SAME), {}, "no linear|applies"),
    "other_input": (
        lambda L: L.Conv2D(4, 3, **SAME),
        {"before": lambda L: L.Activation("tanh")},
        "no linear layer beside it reads what it reads",
    ),
    "returned": (lambda L: L.Conv2D(4, 3, **SAME), {"outputs": 2}, "is an output of the model"),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_no_sibling_can_take_up_stays_with_its_reason(K, name):
    import re

    make, options, reason = STAYS[name]
    options = {k: v(K.layers) if callable(v) else v for k, v in options.items()}
    _, report = bnfix.fold(block(K, make(K.layers), **options), return_report=True)
    declined = {outcome.path: outcome.detail for outcome in report.declined}
    assert "identity" in declined
    assert re.search(reason, declined["identity"]), str(report)


def test_a_sibling_that_is_called_elsewhere_is_left_alone(K):
    L = K.layers
    K.utils.set_random_seed(0)
    inputs = K.Input((6, 6, 4))
    x, conv = L.ReLU()(inputs), L.Conv2D(4, 3, **SAME)
    summed = L.Add()([conv(x), L.BatchNormalization(name="identity")(x)])
    model = K.Model(inputs, [L.ReLU()(summed), conv(L.Activation("tanh")(x))])
    zoo.randomise_batch_norms(model, 0)
    _, report = bnfix.fold(model, return_report=True)
    assert "is called 2 times and not every call" in report.declined[0].detail


# --- shown able to fail ---------------------------------------------------------------------------


def forgets_the_identity(linear, places, scale, shift):
    return plus_mean(linear, places, scale + 1, shift)


def forgets_the_shift(linear, places, scale, shift):
    return plus_mean(linear, places, scale, 0 * shift)


@pytest.mark.parametrize("mutant", [forgets_the_identity, forgets_the_shift])
def test_a_wrong_map_is_withheld_and_would_be_seen(K, monkeypatch, mutant):
    monkeypatch.setattr(sideways, "plus_mean", mutant)
    model = block(K, K.layers.Conv2D(4, 3, **SAME))
    with pytest.raises(bnfix.VerificationError, match="withheld"):
        bnfix.fold(model)
    monkeypatch.setattr(proven, "verify", ref.not_checked)
    with pytest.raises(AssertionError):
        folds(model)


@pytest.mark.parametrize("name", ["conv_even", "causal", "conv_dilated"])
def test_a_wrong_tap_would_be_seen(K, monkeypatch, name):
    monkeypatch.setattr(proven, "verify", ref.not_checked)
    monkeypatch.setattr(Window, "before", lambda self, lengths: (0,) * len(self.size))
    with pytest.raises(AssertionError):
        test_an_identity_branch_gives_its_norm_to_the_layer_beside_it(K, name)


class Whatever(dict):
    """Is read by every layer."""

    def __contains__(self, key):
        return True

    def __missing__(self, key):
        return None


def test_a_sibling_of_another_input_would_be_seen(K, monkeypatch):
    monkeypatch.setattr(proven, "verify", ref.not_checked)
    monkeypatch.setattr(sideways, "_read", lambda source, norm, done: Whatever())
    make, options, _ = STAYS["other_input"]
    with pytest.raises(AssertionError):
        folds(block(K, make(K.layers), before=options["before"](K.layers)))
