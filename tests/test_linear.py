"""What linear layers take up: scales and shifts on either side, their input, and each other."""

from dataclasses import replace

import numpy as np
import pytest

from bnfix.numerics.linear import (
    KERNEL_AXES,
    InputSide,
    Linear,
    plus,
    plus_input,
    scale_and_shift,
    scale_and_shift_input,
)
from bnfix.numerics.norm import NormSpec
from bnfix.numerics.window import Window, identity


def layer(kind, *shape, taps=None, bias=True, seed=0, **groups):
    """One of which the kernel has `shape`, with what it sees of its input."""
    rng = np.random.default_rng(seed)
    side = InputSide(2, taps=taps, **groups)
    made = Linear(kind, rng.normal(size=shape), None, 2, input=side)
    return replace(made, bias=rng.normal(size=made.channels) if bias else None)


def result(linear, x):
    """Of the layer where all its taps see `x`, (taps, input channels); by the definition."""
    kernel, groups = np.asarray(linear.kernel), linear.input.groups
    if linear.input.taps is not None:  # a depthwise kernel before; `x` is the same at its taps
        x = np.repeat(x, linear.input.taps.size // x.shape[-1], axis=-1) * linear.input.taps
    if linear.kind.endswith("Transpose"):  # (taps, outputs, inputs)
        y = np.einsum("toi,ti->o", kernel, x)
    elif linear.kind.startswith("Depthwise"):  # (taps, inputs, outputs of each)
        y = np.einsum("tim,ti->im", kernel, x).reshape(-1)
    else:
        parts = zip(np.split(kernel, groups, -1), np.split(x, groups, -1), strict=True)
        y = np.concatenate([np.einsum("tio,ti->o", *part) for part in parts])
    return y if linear.bias is None else y + linear.bias


#: Kind, shape of the kernel, groups where it has some.
SHAPES = {
    "conv": ("Conv1D", (3, 4, 6), {}),
    "square": ("Conv1D", (3, 4, 4), {}),
    "grouped": ("Conv1D", (3, 2, 6), {"groups": 3}),
    "grouped_square": ("Conv1D", (3, 2, 4), {"groups": 2}),
    "depthwise": ("DepthwiseConv1D", (3, 4, 1), {}),
    "multiplied": ("DepthwiseConv1D", (3, 4, 2), {}),
    "transposed": ("Conv1DTranspose", (1, 6, 4), {}),
}


def made(name, **options):
    kind, shape, groups = SHAPES[name]
    linear = layer(kind, *shape, **groups, **options)
    inputs = shape[-1] if name == "transposed" else shape[-2] * groups.get("groups", 1)
    return linear, np.random.default_rng(1).normal(size=(shape[0], inputs))


def numbers(channels, seed=2):
    return np.random.default_rng(seed).normal(size=(2, channels))


def same(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_a_scale_and_shift_goes_in_on_either_side(name, bias):
    linear, x = made(name, bias=bias)
    scale, shift = numbers(linear.channels)
    same(result(scale_and_shift(linear, scale, shift), x), scale * result(linear, x) + shift)
    scale, shift = numbers(x.shape[-1])
    taken = scale_and_shift_input(linear, linear.input, scale, shift)
    same(result(taken, x), result(linear, scale * x + shift))
    scaled = scale_and_shift_input(linear, linear.input, scale, 0 * shift)
    same(result(scaled, x), result(linear, scale * x))
    assert scaled.bias is linear.bias, "none is made for nothing"


@pytest.mark.parametrize("multiplier", [1, 3])
def test_a_separable_layer_takes_up_its_input_at_its_second_kernel(multiplier):
    taps = np.random.default_rng(5).normal(size=4 * multiplier)
    linear = layer("SeparableConv1D", 1, 4 * multiplier, 5, taps=taps)
    x, (scale, shift) = np.random.default_rng(1).normal(size=(1, 4)), numbers(4)
    taken = scale_and_shift_input(linear, linear.input, scale, shift)
    same(result(taken, x), result(linear, scale * x + shift))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["square", "grouped_square", "depthwise"])
def test_a_layer_takes_up_its_own_input(name, bias):
    linear, x = made(name, bias=bias)
    scale, shift = numbers(linear.channels)
    taken = plus_input(linear, (1,), scale, shift)
    same(result(taken, x), result(linear, x) + scale * x[1] + shift)


@pytest.mark.parametrize("biases", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("name", ["conv", "grouped", "multiplied"])
def test_a_layer_takes_up_another(name, biases):
    linear, x = made(name, bias=biases[0])
    kind, shape, groups = SHAPES[name]
    other = layer(kind, 2, *shape[1:], **groups, bias=biases[1], seed=7)
    both = plus(linear, other, ((0, 2),))
    same(result(both, x), result(linear, x) + result(other, x[[0, 2]]))
    assert (both.bias is None) == (biases == (False, False))


def test_nothing_is_written_into_the_layer_that_was_given():
    linear, _ = made("square")
    kernel = linear.kernel.copy()
    plus_input(linear, (1,), *numbers(4))
    plus(linear, linear, ((0, 1, 2),))
    np.testing.assert_array_equal(linear.kernel, kernel)


@pytest.mark.parametrize(
    ("name", "channels", "one_to_one"),
    [
        ("conv", 6, False), ("square", 4, True), ("grouped", 6, True), ("grouped_square", 4, True),
        ("depthwise", 4, True), ("multiplied", 8, False),
    ],
)  # fmt: skip
def test_a_layer_knows_its_channels(name, channels, one_to_one):
    linear, _ = made(name)
    assert linear.input.uniform, "unless it is told otherwise"
    assert linear.channels == channels
    assert linear.input.one_to_one(linear) == one_to_one


@pytest.mark.parametrize("kind", KERNEL_AXES)
def test_kernels_have_their_outputs_where_keras_lays_them(kind):
    """Inputs, then outputs; of a depthwise kernel both are; a transposed one has outputs first."""
    taps = (2,) * sum(int(letter) for letter in kind if letter.isdigit())
    linear = Linear(kind, np.zeros((*taps, 3, 5)), None, 1)
    wanted = 3 if "Transpose" in kind else 15 if "Depthwise" in kind else 5
    assert linear.channels == wanted


def test_axes_of_a_layer_of_its_own_count_before_those_of_its_kind():
    linear = Linear("EinsumDense", np.zeros((3, 4, 5)), None, 1)
    assert (linear.axes, linear.channels) == ((2,), 5)
    other = replace(linear, output_axes=(-2, -1))
    assert (other.axes, other.channels) == ((1, 2), 20)


def test_layers_are_alike_that_differ_in_their_positions_at_most():
    linear, _ = made("grouped")
    wider = replace(linear, kernel=np.zeros((5, 2, 6)), bias=None)
    assert linear.is_alike(wider)
    other = replace(linear.input, groups=1)
    for field, value in {
        "kind": "Conv2D", "axis": 1, "dtype": "float16", "kernel": np.zeros((3, 3, 6)),
        "input": other,
    }.items():  # fmt: skip
        assert not linear.is_alike(replace(wider, **{field: value})), field
    assert not linear.is_alike(replace(wider, input=None))
    assert not linear.is_alike(replace(wider, kernel=np.zeros((3, 2, 7))))
    assert replace(linear, input=None).is_alike(replace(wider, input=None))


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
def test_a_normalization_at_inference_is_its_scale_and_shift(scale, center):
    gamma, beta, mean, x = np.random.default_rng(0).normal(size=(4, 5))
    variance = np.arange(5.0)
    spec = NormSpec(1, gamma if scale else None, beta if center else None, mean, variance, 0.5)
    found = spec.affine()
    wanted = (x - mean) / np.sqrt(variance + 0.5) * (gamma if scale else 1)
    same(found[0] * x + found[1], wanted + (beta if center else 0))
    assert (spec.channels, spec.trainable) == (5, True)


# --- where the taps of kernels lie ----------------------------------------------------------------


def test_a_kernel_lies_by_its_padding_on_every_axis():
    """Counted by hand: 7 inputs in steps of 2 make 4 outputs, which take 9 inputs of 3 taps."""
    same_ = Window((3, 4), (2, 1), (1, 2), "same")
    assert same_.before((7, 9)) == (1, 3)
    assert same_.before((7, None)) == (1, 3), "in steps of one, the length is of no account"
    assert same_.before((None, 9)) is None
    assert same_.before((8, 9)) == (0, 3)
    assert Window((1,), (3,), (1,), "same").before((8,)) == (0,), "less than nothing is not padded"
    assert Window((3, 4), (2, 1), (1, 2), "causal").before((None, None)) == (2, 6)
    assert Window((3, 4), (2, 1), (1, 2), "valid").before((None, None)) == (0, 0)


def test_kernels_stand_within_others_where_taps_meet():
    ours = Window((3, 5), (1, 1), (1, 2), "same")
    assert ours.places(identity(2), (9, 9)) == ((1,), (2,))
    assert ours.places(Window((1, 3), (1, 1), (1, 2), "same"), (9, 9)) == ((1,), (1, 2, 3))
    assert ours.places(Window((3, 3), (1, 1), (1, 4), "same"), (9, 9)) == ((0, 1, 2), (0, 2, 4))
    assert ours.places(Window((1, 2), (1, 1), (1, 1), "same"), (9, 9)) is None, "between taps"
    assert ours.places(Window((5, 1), (1, 1), (1, 1), "same"), (9, 9)) is None, "beyond both ends"
    assert ours.places(Window((1, 1), (2, 1), (1, 1), "same"), (9, 9)) is None, "other steps"
    front, behind = Window((3,), (1,), (1,), "causal"), Window((3,), (1,), (1,), "valid")
    for size in (2, 3):
        assert front.places(replace(behind, size=(size,)), (9,)) is None, "beyond the end"
        assert behind.places(replace(front, size=(size,)), (9,)) is None, "before the beginning"
    assert front.places(Window((2,), (1,), (1,), "causal"), (9,)) == ((1, 2),)
    unknown = Window((3,), (2,), (1,), "same")
    assert unknown.places(unknown, (None,)) is None
    assert unknown.places(Window((1,), (2,), (1,), "valid"), (None,)) is None
