"""fold, row by row: what each kind of layer lets through, takes up, or stops, and why."""

import re

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters.choose import adapter_of
from bnfix.numerics.affine import Affine
from bnfix.operations import proven
from bnfix.passes import backward, forward, moving

CLOSE = 1e-5
FORMATS = ["channels_last", "channels_first"]


def image(format, channels=4, size=8):
    """Results never as wide as they have channels: Keras 3 then adds a bias along the width."""
    return (channels, size, size) if format == "channels_first" else (size, size, channels)


def chain(K, shape, *layers):
    K.utils.set_random_seed(0)
    x = inputs = K.Input(shape)
    for layer in layers:
        x = layer(x)
    model = K.Model(inputs, x)
    zoo.randomise_batch_norms(model, 0)
    return model


def bn(L, format="channels_last", **options):
    return L.BatchNormalization(axis=1 if format == "channels_first" else -1, **options)


BIAS = {"bias_initializer": "glorot_uniform"}


def positive_scales(model):
    for norm in zoo.batch_norms(model):
        if norm.scale:
            norm.gamma.assign(np.abs(np.asarray(norm.gamma)) + 0.1)
    return model


def folds(model, left=0):
    """Fold `model`, prove it equal on inputs of our own, and return the report."""
    x = zoo.inputs_for(model, rows=3)
    wanted = ref.inferred(model, x)
    folded, report = bnfix.fold(model, return_report=True)
    assert len(zoo.batch_norms(folded)) == left, str(report)
    ref.assert_close(ref.inferred(folded, x), wanted, CLOSE)
    return report


def stays(model, *reasons):
    _, report = bnfix.fold(model, return_report=True)
    details = " | ".join(outcome.detail for outcome in report.declined)
    for reason in reasons:
        assert re.search(reason, details), f"{reason!r} is not in: {report}"


# --- up, into the layer that feeds it -------------------------------------------------------------

PRODUCERS = {
    "conv2d": lambda L, f: L.Conv2D(5, 3, data_format=f, **BIAS),
    "conv2d_strided_same": lambda L, f: L.Conv2D(5, 3, strides=2, padding="same", data_format=f),
    "conv2d_dilated": lambda L, f: L.Conv2D(5, 3, dilation_rate=2, use_bias=False, data_format=f),
    "depthwise": lambda L, f: L.DepthwiseConv2D(3, depth_multiplier=3, data_format=f, **BIAS),
    "separable": lambda L, f: L.SeparableConv2D(5, 3, depth_multiplier=2, data_format=f, **BIAS),
    "transposed": lambda L, f: L.Conv2DTranspose(5, 3, strides=2, data_format=f, **BIAS),
}


@pytest.mark.every(2)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", PRODUCERS)
def test_a_convolution_takes_up_what_follows_it(K, name, format):
    layer = PRODUCERS[name](K.layers, format)
    model = chain(K, image(format), layer, bn(K.layers, format), K.layers.ReLU())
    if name == "transposed" and format == "channels_first":
        _skip_unless_runs(model)
    report = folds(model)
    assert report.changed[0].detail == f"folded into {layer.name}"


def _skip_unless_runs(model):
    adapter = adapter_of(model)
    try:
        adapter.infer(model, zoo.inputs_for(model, rows=1))
    except adapter.run_errors as error:
        pytest.skip(f"TensorFlow does not run it on this processor: {str(error)[:80]}")


OTHER_PRODUCERS = {
    "conv1d_causal": ((9, 4), lambda L: L.Conv1D(6, 3, padding="causal", **BIAS)),
    "conv3d": ((4, 5, 6, 2), lambda L: L.Conv3D(3, 2, **BIAS)),
    "grouped": ((8, 8, 4), lambda L: L.Conv2D(6, 3, groups=2, **BIAS)),
    "depthwise1d": ((9, 4), lambda L: L.DepthwiseConv1D(3, depth_multiplier=2, **BIAS)),
    "separable1d": ((9, 4), lambda L: L.SeparableConv1D(6, 3, **BIAS)),
    "transposed1d": ((9, 4), lambda L: L.Conv1DTranspose(6, 3, strides=2, **BIAS)),
    "transposed3d": ((3, 4, 4, 2), lambda L: L.Conv3DTranspose(3, 2, strides=2, **BIAS)),
    "dense_rank4": ((3, 4, 5), lambda L: L.Dense(6, **BIAS)),
    "einsum": ((5, 4), lambda L: L.EinsumDense("abc,cd->abd", (5, 6), bias_axes="d", **BIAS)),
    "einsum_no_bias": ((5, 4), lambda L: L.EinsumDense("abc,cd->abd", (5, 6))),
    "einsum_wide_bias": (
        (5, 4),
        lambda L: L.EinsumDense("abc,cde->abde", (5, 3, 6), bias_axes="de", **BIAS),
    ),
    "timed_dense": ((5, 4), lambda L: L.TimeDistributed(L.Dense(6, use_bias=False))),
    "timed_conv": ((3, 6, 6, 4), lambda L: L.TimeDistributed(L.Conv2D(5, 3, **BIAS))),
}


@pytest.mark.every(3)
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}], ids=str)
@pytest.mark.parametrize("name", OTHER_PRODUCERS)
def test_every_linear_layer_takes_up_what_follows_it(K, name, options):
    shape, make = OTHER_PRODUCERS[name]
    folds(chain(K, shape, make(K.layers), bn(K.layers, **options), K.layers.ReLU()))


STOPPED_ABOVE = {
    "einsum_sums_the_axis": ((5, 4), lambda L: [L.EinsumDense("abc,bcd->ad", 6), bn(L)], None),
    "einsum_keeps_an_input_axis": (
        (5, 4),
        lambda L: [L.EinsumDense("abc,cd->adb", (6, 5)), bn(L)],
        r"einsum_dense\S* \(EinsumDense\), which is not a linear layer",
    ),
    "fused_activation": (
        (8, 8, 3),
        lambda L: [L.Conv2D(4, 3, activation="relu"), bn(L)],
        "applies relu before the normalization",
    ),
    "foreign_axis": (
        (4, 4, 4),
        lambda L: [L.Conv2D(4, 1), L.BatchNormalization(axis=1)],
        "normalizes axis 1, but the channels of conv.* lie along axis 3",
    ),
    "wrapped_activation": (
        (5, 4),
        lambda L: [L.TimeDistributed(L.Dense(6, activation="tanh")), bn(L)],
        "applies tanh",
    ),
    "softmax": ((6,), lambda L: [L.Dense(4), L.Softmax(), bn(L)], r"\(Softmax\), which is not"),
}


@pytest.mark.parametrize("name", STOPPED_ABOVE)
def test_what_cannot_be_taken_up_stays_with_its_reason(K, name):
    shape, make, reason = STOPPED_ABOVE[name]
    model = chain(K, shape, *make(K.layers), K.layers.ReLU())
    if reason is None:
        folds(model)
    else:
        stays(model, reason, r"it feeds re_lu\S* \(ReLU\), which is not a linear layer")


def test_layers_that_compute_their_weights_or_have_code_of_their_own_are_left_alone(K):
    L = K.layers

    class Doubling(L.Dense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    class Halving(L.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return super().call(inputs, training=training) / 2

    if K.__name__ == "keras":  # that of tf_keras takes an InputSpec of Keras 3 and cannot be built
        spectral = chain(K, (6,), L.SpectralNormalization(L.Dense(4)), bn(L), L.ReLU())
        stays(spectral, r"\(SpectralNormalization\), which is not a linear layer")
    stays(chain(K, (6,), Doubling(4), bn(L), L.ReLU()), r"\(Custom\), which is not a linear")
    stays(chain(K, (6,), L.Dense(4), Halving(), L.ReLU()), "is a subclass of BatchNormalization")


@pytest.mark.parametrize("mode", ["int8", "lora"])
def test_quantized_layers_are_left_alone(mode):
    K = zoo.keras_module("keras3")  # tf_keras has neither
    dense = K.layers.Dense(4)
    model = chain(K, (6,), dense, bn(K.layers), K.layers.ReLU())
    if mode == "lora":
        dense.enable_lora(2)
    else:
        dense.quantize("int8")
    stays(model, "has LoRA weights" if mode == "lora" else r"is quantized \(int8\)")


def test_masks_go_on_past_a_folded_layer(K):
    L = K.layers
    inputs = K.Input((5, 3))
    x = L.LSTM(4)(bn(L)(L.Dense(4, **BIAS)(L.Masking()(inputs))))
    model = K.Model(inputs, x)
    zoo.randomise_batch_norms(model, 0)
    x = np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32")
    x[1, 3:] = 0
    x[2, 1:] = 0
    folded = bnfix.fold(model, x=x)
    assert not zoo.batch_norms(folded)
    ref.assert_close(ref.inferred(folded, x), ref.inferred(model, x), CLOSE)


def test_a_kernel_that_two_layers_hold_is_left_alone(K):
    first, second = (K.layers.Dense(4, use_bias=False) for _ in range(2))
    model = chain(
        K, (4,), first, bn(K.layers), K.layers.ReLU(), second, bn(K.layers), K.layers.ReLU()
    )
    if K.__name__ == "keras":
        second._tracker.unlock()
        second._kernel = first._kernel
    else:
        second.kernel = first.kernel
    stays(model, "shares its kernel with another layer")


# --- up, past what commutes -----------------------------------------------------------------------

PASSED = {
    "dropout": lambda L, f: [L.Dropout(0.5)],
    "spatial_dropout": lambda L, f: [L.SpatialDropout2D(0.5, data_format=f)],
    "noise": lambda L, f: [
        L.GaussianNoise(1.0),
        L.GaussianDropout(0.3),
        L.ActivityRegularization(),
    ],
    "linear_activation": lambda L, f: [L.Activation("linear")],
    "average_pooling_same": lambda L, f: [L.AveragePooling2D(3, 2, padding="same", data_format=f)],
    "average_pooling_valid": lambda L, f: [L.AveragePooling2D(2, data_format=f)],
    "global_average": lambda L, f: [L.GlobalAveragePooling2D(data_format=f)],
    "global_average_keepdims": lambda L, f: [
        L.GlobalAveragePooling2D(data_format=f, keepdims=True)
    ],
    "max_pooling": lambda L, f: [L.MaxPooling2D(2, data_format=f)],
    "global_max": lambda L, f: [L.GlobalMaxPooling2D(data_format=f)],
    "upsampling": lambda L, f: [L.UpSampling2D(2, data_format=f)],
    "upsampling_bilinear": lambda L, f: [
        L.UpSampling2D(2, interpolation="bilinear", data_format=f)
    ],
    "cropping": lambda L, f: [L.Cropping2D(1, data_format=f)],
}
RANK_1 = ("global_average", "global_max")


@pytest.mark.every(3)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", PASSED)
def test_a_normalization_passes_what_treats_channels_apart(K, name, format):
    L = K.layers
    norm = bn(L) if name in RANK_1 else bn(L, format)
    conv = L.Conv2D(5, 3, data_format=format, **BIAS)
    model = positive_scales(chain(K, image(format), conv, *PASSED[name](L, format), norm, L.ReLU()))
    _skip_unless_runs(model)
    folds(model)


RESHAPED = {
    "reshape": ((6, 8), lambda L: [L.Dense(4), L.Reshape((3, 2, 4)), bn(L)]),
    "reshape_with_open_length": ((None, 8), lambda L: [L.Dense(4), L.Reshape((-1, 1, 4)), bn(L)]),
    "permute": ((6, 8), lambda L: [L.Dense(4), L.Permute((2, 1)), L.BatchNormalization(axis=1)]),
    "repeat": ((8,), lambda L: [L.Dense(4), L.RepeatVector(3), bn(L)]),
    "flatten_one_pixel": ((3, 3, 2), lambda L: [L.Conv2D(4, 3), L.Flatten(), bn(L)]),
    "pooling1d": ((8, 3), lambda L: [L.Dense(4), L.AveragePooling1D(2), bn(L)]),
    "pooling3d": ((4, 4, 4, 2), lambda L: [L.Conv3D(3, 1), L.AveragePooling3D(2), bn(L)]),
    "three_in_a_row": ((6,), lambda L: [L.Dense(4), bn(L), L.Dropout(0.1), bn(L), bn(L)]),
}


@pytest.mark.parametrize("name", RESHAPED)
def test_a_normalization_passes_what_moves_channels_as_a_whole(K, name):
    shape, make = RESHAPED[name]
    folds(chain(K, shape, *make(K.layers), K.layers.ReLU()))


STOPPED_ON_THE_WAY = {
    "flatten_many_pixels": (
        lambda L: [L.Conv2D(4, 3), L.Flatten(), bn(L)],
        r"channels of conv\S+ lie along axis 3",
    ),
    "permuted_to_another_axis": (
        lambda L: [L.Conv2D(6, 3), L.Permute((3, 1, 2)), bn(L)],
        "normalizes axis 2, but the channels",
    ),
    "max_pooling_of_mixed_signs": (
        lambda L: [L.Conv2D(4, 3), L.MaxPooling2D(2), bn(L)],
        "some scales of the normalization are not positive",
    ),
    "global_max_of_mixed_signs": (
        lambda L: [L.Conv2D(4, 3), L.GlobalMaxPooling2D(), bn(L)],
        r"GlobalMaxPooling2D\) takes the largest .* some scales of the normalization are not",
    ),
    "zero_padding": (
        lambda L: [L.Conv2D(4, 3), L.ZeroPadding2D(1), bn(L)],
        "adds zeros, which the normalization shifts",
    ),
    "bicubic": (
        lambda L: [L.Conv2D(4, 3), L.UpSampling2D(2, interpolation="bicubic"), bn(L)],
        "interpolates by bicubic",
    ),
    "average_over_foreign_axis": (
        lambda L: [L.Conv2D(8, 1), L.AveragePooling2D(1), L.BatchNormalization(axis=1)],
        "joins positions that the normalization treats differently",
    ),
    "active_dropout": (
        lambda L: [L.Conv2D(4, 3), lambda x: L.Dropout(0.5)(x, training=True), bn(L)],
        "is called with training=True and is random",
    ),
}


@pytest.mark.parametrize("name", STOPPED_ON_THE_WAY)
def test_a_normalization_does_not_pass_what_would_change(K, name):
    make, reason = STOPPED_ON_THE_WAY[name]
    model = chain(K, (8, 8, 3), *make(K.layers), K.layers.ReLU())
    for norm in zoo.batch_norms(model):
        gamma = np.abs(np.asarray(norm.gamma))
        gamma[0] = -gamma[0]
        norm.gamma.assign(gamma)
    stays(model, reason)


def branches(K, join, *, shared=False, format="channels_last", extra=False):
    L = K.layers
    K.utils.set_random_seed(0)
    inputs = K.Input(image(format))
    make = lambda: L.Conv2D(4, 3, padding="same", data_format=format, **BIAS)  # noqa: E731
    left = make()
    right = left if shared else make()
    a, b = left(inputs), right(L.ReLU()(inputs))
    joined = join(L)([a, b])
    x = L.ReLU()(bn(L, format)(joined))
    outputs = [x, a] if extra else x
    model = K.Model(inputs, outputs)
    zoo.randomise_batch_norms(model, 0)
    return positive_scales(model)


JOINS = ("Add", "Average", "Maximum", "Minimum")


@pytest.mark.parametrize("join", JOINS)
def test_branches_of_a_join_take_it_up_each(K, join):
    report = folds(branches(K, lambda L: getattr(L, join)()))
    assert report.changed[0].detail.count("conv2d") == 2


@pytest.mark.parametrize("format", FORMATS)
def test_joined_channels_take_up_their_part_each(K, format):
    axis = 1 if format == "channels_first" else -1
    model = branches(K, lambda L: L.Concatenate(axis=axis), format=format)
    _skip_unless_runs(model)
    folds(model)


def test_positions_joined_side_by_side_take_it_up_each(K):
    folds(branches(K, lambda L: L.Concatenate(axis=2)))


@pytest.mark.parametrize(
    ("join", "options", "reason"),
    [
        ("Multiply", {}, r"\(Multiply\), which is not a linear layer"),
        ("Add", {"extra": True}, "is an output of the model as well"),
        ("Add", {"shared": True}, "would need different weights"),
    ],
)
def test_a_join_that_cannot_be_split_stays(K, join, options, reason):
    stays(branches(K, lambda L: getattr(L, join)(), **options), reason)


def test_a_sum_of_one_branch_with_itself_stays(K):
    L = K.layers
    inputs = K.Input((5,))
    x = L.Dense(4)(inputs)
    stays(K.Model(inputs, L.ReLU()(bn(L)(L.Add()([x, x])))), "reads the same tensor twice")


def test_a_sum_of_different_shapes_stays(K):
    L = K.layers
    inputs = K.Input((6, 5))
    x = L.Add()([L.Dense(4)(inputs), L.Dense(4)(L.AveragePooling1D(6)(inputs))])
    stays(K.Model(inputs, L.ReLU()(bn(L)(x))), "joins tensors of different shapes")


# --- down, into what it feeds ---------------------------------------------------------------------

CONSUMERS = {
    "dense": ((5,), lambda L: [L.Dense(4, **BIAS)]),
    "dense_no_bias": ((3, 5), lambda L: [L.Dense(4, use_bias=False, activation="relu")]),
    "conv1x1_same": ((6, 6, 3), lambda L: [L.Conv2D(4, 1, padding="same", strides=2)]),
    "conv_valid": ((6, 6, 3), lambda L: [L.Conv2D(4, 3, dilation_rate=2, **BIAS)]),
    "conv1d_valid": ((7, 3), lambda L: [L.Conv1D(4, 3, activation="tanh")]),
    "conv3d_valid": ((4, 4, 4, 2), lambda L: [L.Conv3D(3, 2)]),
    "grouped": ((6, 6, 4), lambda L: [L.Conv2D(6, 3, groups=2, **BIAS)]),
    "depthwise": ((6, 6, 3), lambda L: [L.DepthwiseConv2D(3, depth_multiplier=2)]),
    "depthwise1d": ((7, 3), lambda L: [L.DepthwiseConv1D(3, depth_multiplier=2)]),
    "separable": ((6, 6, 3), lambda L: [L.SeparableConv2D(4, 3, depth_multiplier=2, **BIAS)]),
    "separable1d": ((7, 3), lambda L: [L.SeparableConv1D(4, 3)]),
    "transposed_1x1": ((6, 6, 3), lambda L: [L.Conv2DTranspose(4, 1)]),
    "flatten_dense": ((3, 4, 2), lambda L: [L.Flatten(), L.Dense(4)]),
    "pool_flatten_dense": (
        (4, 4, 3),
        lambda L: [L.AveragePooling2D(2), L.Dropout(0.2), L.Flatten(), L.Dense(4)],
    ),
    "global_dense": ((4, 4, 3), lambda L: [L.GlobalAveragePooling2D(), L.Dense(4)]),
    "reshape_dense": ((4, 6), lambda L: [L.Reshape((2, 12)), L.Dense(4)]),
    "permute_dense": ((4, 6), lambda L: [L.Permute((2, 1)), L.Flatten(), L.Dense(4)]),
    "repeat_dense": ((6,), lambda L: [L.RepeatVector(3), L.Dense(4)]),
    "timed_dense": ((4, 6), lambda L: [L.TimeDistributed(L.Dense(3))]),
    "two_in_a_row": ((6,), lambda L: [bn(L), L.Dense(4)]),
}


@pytest.mark.every(2)
@pytest.mark.parametrize("name", CONSUMERS)
def test_a_linear_layer_takes_up_what_feeds_it(K, name):
    shape, make = CONSUMERS[name]
    folds(chain(K, shape, bn(K.layers), *make(K.layers)))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D", "flatten"])
def test_data_formats_are_followed_down(K, kind, format):
    L = K.layers
    if kind == "flatten":
        layers = [L.Flatten(data_format=format), L.Dense(3)]
    elif kind == "Conv2D":
        layers = [L.Conv2D(6, 3, data_format=format, **BIAS)]
    else:
        layers = [L.DepthwiseConv2D(3, data_format=format, **BIAS)]
    model = chain(K, image(format, size=7), bn(L, format), *layers)
    _skip_unless_runs(model)
    folds(model)


def test_zero_padding_takes_a_pure_scale(K):
    model = chain(
        K, (6, 6, 3), bn(K.layers, center=False), K.layers.Conv2D(4, 3, padding="same", **BIAS)
    )
    norm = zoo.batch_norms(model)[0]
    norm.moving_mean.assign(np.zeros(3))
    folds(model)


STOPPED_BELOW = {
    "same_padding": (
        (6, 6, 3),
        lambda L: [L.Conv2D(4, 3, padding="same")],
        r"conv2d\S* \(Conv2D\), which adds zeros around its input",
    ),
    "causal": ((7, 3), lambda L: [L.Conv1D(4, 3, padding="causal")], "adds zeros around"),
    "transposed": ((6, 6, 3), lambda L: [L.Conv2DTranspose(4, 2, strides=2)], "adds zeros around"),
    "activation": ((5,), lambda L: [L.ReLU(), L.Dense(4)], r"\(ReLU\), which is not a linear"),
    "nothing_behind": ((5,), lambda L: [L.Dropout(0.1)], "is an output of the model"),
    "einsum": ((5, 4), lambda L: [L.EinsumDense("abc,cd->abd", (5, 3))], "only takes up what"),
}


@pytest.mark.parametrize("name", STOPPED_BELOW)
def test_what_would_be_wrong_below_stays_with_its_reason(K, name):
    shape, make, reason = STOPPED_BELOW[name]
    stays(chain(K, shape, bn(K.layers), *make(K.layers)), r"\(InputLayer\)", reason)


def test_every_reader_has_to_take_it_up(K):
    L = K.layers
    inputs = K.Input((5,))
    x = bn(L)(L.ReLU()(inputs))
    both = K.Model(inputs, [L.Dense(3)(x), L.Dense(2)(x)])
    zoo.randomise_batch_norms(both, 0)
    folds(both)
    x = bn(L)(L.ReLU()(inputs))
    stays(K.Model(inputs, [L.Dense(3)(x), L.ReLU()(x)]), r"it feeds re_lu\S* \(ReLU\)")
    x = bn(L)(L.ReLU()(inputs))
    dense = L.Dense(3)
    stays(K.Model(inputs, [dense(x), dense(inputs)]), "is called 2 times and not every call")


def test_part_of_a_join_is_taken_up_below_it(K):
    L = K.layers
    inputs = K.Input((6, 6, 3))
    x = L.Concatenate()([bn(L)(L.ReLU()(inputs)), L.ReLU()(inputs)])
    model = K.Model(inputs, L.Conv2D(4, 3, **BIAS)(x))
    zoo.randomise_batch_norms(model, 0)
    folds(model)


def test_borders_of_nested_models_are_no_obstacle(K):
    L = K.layers
    inner = K.Input((6, 6, 4))
    encoder = K.Model(inner, bn(L)(L.ReLU()(bn(L)(inner))), name="encoder")
    inputs = K.Input((8, 8, 3))
    x = L.Dense(5)(L.Flatten()(encoder(L.Conv2D(4, 3)(inputs))))
    model = K.Model(inputs, x)
    zoo.randomise_batch_norms(model, 0)
    folds(model)


# --- shown able to fail ---------------------------------------------------------------------------


MUTANTS = {
    "max_pooling_reorders": "keeps_order",
    "zeros_are_shifted": "only_scales",
}


def _max_pooling(K):
    model = chain(K, (8, 8, 3), K.layers.Conv2D(4, 3), K.layers.MaxPooling2D(2), bn(K.layers))
    norm = zoo.batch_norms(model)[0]
    norm.gamma.assign(-np.abs(np.asarray(norm.gamma)))
    return model


def _into_padding(K):
    return chain(K, (6, 6, 3), bn(K.layers), K.layers.Conv2D(4, 3, padding="same"))


WRONG = {
    "max_pooling_reorders": _max_pooling,
    "zeros_are_shifted": _into_padding,
}


@pytest.mark.parametrize("name", WRONG)
def test_the_models_own_proof_withholds_a_wrong_move(K, name, monkeypatch):
    monkeypatch.setattr(Affine, MUTANTS[name], property(lambda self: True))
    with pytest.raises(bnfix.VerificationError, match="withheld"):
        bnfix.fold(WRONG[name](K))


def test_these_laws_see_a_wrong_sum_if_the_proof_is_off(K, monkeypatch):
    monkeypatch.setattr(proven, "verify", ref.not_checked)
    monkeypatch.setitem(moving._JOINS, "Add", moving._mean_before)
    with pytest.raises(AssertionError):
        folds(branches(K, lambda L: L.Add()))


@pytest.mark.parametrize(
    ("room", "name"), [(backward, "scale_and_shift"), (forward, "scale_and_shift_input")]
)
def test_these_laws_see_a_lost_shift_if_the_proof_is_off(K, monkeypatch, room, name):
    right = getattr(room, name)
    monkeypatch.setattr(proven, "verify", ref.not_checked)
    monkeypatch.setattr(room, name, lambda *args: right(*args[:-1], 0 * args[-1]))
    dense, norm = K.layers.Dense(4, **BIAS), bn(K.layers)
    layers = [dense, norm, K.layers.ReLU()] if room is backward else [norm, dense]
    with pytest.raises(AssertionError):
        folds(chain(K, (5,), *layers))
