"""fold(merge=True): layers that read the same and are added become one."""

import numpy as np
import pytest
import references as ref
import zoo
from hypothesis import given
from hypothesis import strategies as st

import bnfix
from bnfix.numerics import linear as linear_numbers
from bnfix.numerics.window import Window
from bnfix.operations import proven
from bnfix.passes import averaging
from bnfix.passes import merge as merge_pass

CLOSE = 1e-5
BIAS = {"bias_initializer": "glorot_uniform"}
SAME = {"padding": "same", **BIAS}


def summed(K, branches, *, shape=(7, 6, 4), norms=True, add=None, name=None):
    """Layers on one tensor, each with a BN, added; None stands for the identity."""
    L = K.layers
    K.utils.set_random_seed(0)
    inputs = K.Input(shape)
    x = L.ReLU()(inputs)
    made = [x if layer is None else layer(x) for layer in branches]
    axis = 1 if getattr(branches[0], "data_format", "") == "channels_first" else -1
    if norms:
        made = [L.BatchNormalization(axis=axis)(one) for one in made]
    joined = L.Add(name=name)(made) if add is None else add(*made)
    model = K.Model(inputs, joined if name else L.ReLU()(joined))
    zoo.randomise_batch_norms(model, 0)
    return model


def linear_layers(model):
    return [one for one in model.layers if hasattr(one, "kernel") or "Depth" in type(one).__name__]


def merges(model, left=1):
    x = zoo.inputs_for(model, rows=3)
    wanted, before = ref.inferred(model, x), ref.weights_of(model)
    merged, report = bnfix.fold(model, merge=True, return_report=True)
    assert not zoo.batch_norms(merged), str(report)
    assert len(linear_layers(merged)) == left, [one.name for one in merged.layers]
    ref.assert_close(ref.inferred(merged, x), wanted, CLOSE)
    ref.assert_close([merged.predict(x, verbose=0)], wanted, CLOSE)
    ref.assert_same_weights(model, before)
    return merged, report


MERGED = {
    "repvgg": ((7, 6, 4), lambda L: [L.Conv2D(4, 3, **SAME), L.Conv2D(4, 1, **BIAS), None]),
    "no_bias": (
        (7, 6, 4),
        lambda L: [L.Conv2D(4, 3, padding="same", use_bias=False), L.Conv2D(4, 1, use_bias=False)],
    ),
    "strided_odd": (
        (7, 7, 4),
        lambda L: [L.Conv2D(5, 3, strides=2, **SAME), L.Conv2D(5, 1, strides=2, **BIAS)],
    ),
    "strided_even": (
        (8, 6, 4),
        lambda L: [L.Conv2D(5, 3, strides=2, **SAME), L.Conv2D(5, 1, strides=2, **BIAS)],
    ),
    "three_kernels": (
        (7, 6, 4),
        lambda L: [L.Conv2D(4, (1, 3), **SAME), L.Conv2D(4, 5, **SAME), L.Conv2D(4, 3, **SAME)],
    ),
    "dilated": (
        (7, 6, 4),
        lambda L: [L.Conv2D(4, 3, dilation_rate=2, **SAME), L.Conv2D(4, 5, **SAME)],
    ),
    "grouped": (
        (7, 6, 4),
        lambda L: [L.Conv2D(4, 3, groups=2, **SAME), L.Conv2D(4, 1, groups=2), None],
    ),
    "depthwise": (
        (7, 6, 4),
        lambda L: [L.DepthwiseConv2D(5, **SAME), L.DepthwiseConv2D(3, **SAME), None],
    ),
    "conv1d": ((7, 4), lambda L: [L.Conv1D(4, 3, **SAME), L.Conv1D(4, 1), None]),
    "causal": (
        (7, 4),
        lambda L: [L.Conv1D(4, 3, padding="causal", **BIAS), L.Conv1D(4, 2, padding="causal")],
    ),
    "dense": ((4,), lambda L: [L.Dense(4, **BIAS), L.Dense(4, use_bias=False), None]),
}


MEANS = {
    "two": (
        (7, 6, 4),
        lambda L: [L.Conv2D(4, 3, **BIAS), L.AveragePooling2D(3, 1)],
    ),
    "of_blocks": (
        (8, 6, 4),
        lambda L: [
            L.DepthwiseConv2D(2, strides=2, **SAME),
            L.AveragePooling2D(2, padding="same"),
        ],
    ),
    "along_one_axis": ((7, 4), lambda L: [L.Conv1D(4, 3, **BIAS), L.AveragePooling1D(3, 1)]),
}


@pytest.mark.every(3)
@pytest.mark.parametrize("name", MERGED)
def test_branches_of_one_geometry_become_one_layer(K, name, tmp_path):
    shape, make = MERGED[name]
    merged, report = merges(summed(K, make(K.layers), shape=shape))
    assert any(outcome.detail.startswith("merged into ") for outcome in report.changed)
    assert not [one for one in merged.layers if type(one).__name__ == "Add"]
    file, x = str(tmp_path / "merged.keras"), zoo.inputs_for(merged, rows=2)
    merged.save(file)
    ref.assert_close(ref.inferred(K.models.load_model(file), x), ref.inferred(merged, x), CLOSE)


@pytest.mark.parametrize("norms", [False, True], ids=["bare", "normalized"])
@pytest.mark.parametrize("name", MEANS)
def test_a_mean_of_positions_is_a_kernel_too(K, name, norms):
    shape, make = MEANS[name]
    merged, report = merges(summed(K, make(K.layers), shape=shape, norms=norms))
    assert len(report.changed) == (3 if norms else 1)
    assert not [one for one in merged.layers if "Pooling" in type(one).__name__]


def chained(K, branches, *, adds):
    """`branches` on one tensor, added by `adds`, which nests its sums."""
    L = K.layers
    K.utils.set_random_seed(0)
    inputs = K.Input((7, 6, 4))
    x = L.ReLU()(inputs)
    made = [x if layer is None else layer(x) for layer in branches]
    model = K.Model(inputs, L.ReLU()(adds(L, *made)))
    zoo.randomise_batch_norms(model, 0)
    return model


CHAINS = {
    "operators": lambda L, a, b, c: a + b + c,
    "large_one_last": lambda L, a, b, c: L.Add()([L.Add()([b, c]), a]),  # nothing is left of one
    "large_one_first": lambda L, a, b, c: L.Add()([L.Add()([a, b]), c]),
}


@pytest.mark.parametrize("adds", CHAINS.values(), ids=CHAINS)
def test_sums_of_sums_are_one_sum(K, adds):
    branches = [large(K), small(K), None]
    merged, report = merges(chained(K, branches, adds=adds))
    assert len(report.changed) == 2, str(report)
    assert not [one for one in merged.layers if type(one).__name__ == "Add"]


def large(K):
    return K.layers.Conv2D(4, 3, **SAME)


def small(K):
    return K.layers.Conv2D(4, 1, **BIAS)


def test_a_sum_that_others_read_stays(K):
    def adds(L, a, b, c):
        first = L.Add(name="first")([b, c])
        return L.Multiply()([L.Add()([first, a]), first])

    merged, _ = merges(chained(K, [large(K), small(K), small(K)], adds=adds), left=2)
    assert "first" not in [one.name for one in merged.layers if type(one).__name__ == "Add"]


def test_branches_without_norms_and_operators_merge_as_well(K):
    make = MERGED["repvgg"][1]
    _, report = merges(summed(K, make(K.layers), norms=False))
    assert len(report.changed) == 2
    merges(summed(K, make(K.layers)[:2], add=lambda a, b: a + b))


def test_what_is_left_of_a_sum_goes_on_being_added(K):
    L = K.layers
    branches = [L.Conv2D(4, 3, **SAME), L.Conv2D(4, 1, **BIAS), L.DepthwiseConv2D(3, **SAME), None]
    merged, _ = merges(summed(K, branches), left=2)
    assert len([one for one in merged.layers if type(one).__name__ == "Add"]) == 1


def test_an_output_that_a_sum_gave_its_name_keeps_it(K):
    merged, _ = merges(summed(K, MERGED["repvgg"][1](K.layers), name="logits"))
    assert merged.output_names == ["logits"]


def test_nothing_is_merged_unless_it_is_asked_for(K):
    folded = bnfix.fold(summed(K, MERGED["repvgg"][1](K.layers)))
    assert len(linear_layers(folded)) == 2


STAYS = {
    "other_strides": lambda L: [L.Conv2D(4, 3, strides=1, **SAME), L.MaxPooling2D(1)],
    "activation": lambda L: [L.Conv2D(4, 3, **SAME), L.Conv2D(4, 1, activation="relu")],
    "no_tap_between": lambda L: [
        L.Conv2D(4, 3, dilation_rate=3, **SAME),
        L.Conv2D(4, 3, dilation_rate=2, **SAME),
    ],
    "mean_of_fewer_at_the_border": lambda L: [
        L.Conv2D(4, 5, **SAME),  # within which it would fit
        L.AveragePooling2D(3, 1, padding="same"),
    ],
    "other_groups": lambda L: [L.Conv2D(4, 3, groups=2, **SAME), L.Conv2D(4, 1)],
    "transposed": lambda L: [L.Conv2DTranspose(4, 3, **SAME), L.Conv2D(4, 1)],
}


@pytest.mark.parametrize("name", STAYS)
def test_what_has_another_geometry_stays_apart(K, name):
    model = summed(K, STAYS[name](K.layers), norms=False)
    merged, report = bnfix.fold(model, merge=True, return_report=True)
    assert merged is model, str(report)


def test_a_layer_that_others_need_stays(K):
    L = K.layers
    K.utils.set_random_seed(0)
    inputs = K.Input((7, 6, 4))
    x = L.ReLU()(inputs)
    one, both = L.Conv2D(4, 3, **SAME)(x), L.Conv2D(4, 1)
    model = K.Model(inputs, [L.Add()([one, both(x)]), both(L.ReLU()(one))])
    assert bnfix.fold(model, merge=True) is model
    model = K.Model(inputs, [L.Add()([one, L.Conv2D(4, 1)(x)]), one])
    assert bnfix.fold(model, merge=True) is model


def test_a_second_time_there_is_nothing_left_to_merge(K):
    merged, _ = merges(summed(K, MERGED["repvgg"][1](K.layers)))
    assert bnfix.fold(merged, merge=True) is merged


# --- where taps lie -------------------------------------------------------------------------------

windows = st.builds(
    Window,
    st.tuples(st.integers(1, 5)),
    st.tuples(st.integers(1, 3)),
    st.tuples(st.integers(1, 3)),
    st.sampled_from(["valid", "same", "causal"]),
)


def seen(window, length, output):
    """Input positions that the taps of `window` see, counted by hand from the padding."""
    size, step, dilation = window.size[0], window.strides[0], window.dilation[0]
    reach = (size - 1) * dilation
    front = {"valid": 0, "causal": reach}.get(window.padding)
    if front is None:
        outputs = (length + step - 1) // step
        front = max((outputs - 1) * step + reach + 1 - length, 0) // 2
    return [output * step + tap * dilation - front for tap in range(size)]


def assert_taps_see_the_same(ours, theirs, length, output):
    places = ours.places(theirs, [length])
    if places is not None:
        mine = seen(ours, length, output)
        assert [mine[tap] for tap in places[0]] == seen(theirs, length, output)


@given(windows, windows, st.integers(1, 12), st.integers(0, 3))
def test_a_tap_is_placed_where_it_sees_the_same_position(ours, theirs, length, output):
    if ours.strides == theirs.strides:
        assert_taps_see_the_same(ours, theirs, length, output)
    else:
        assert ours.places(theirs, [length]) is None


def test_a_tap_placed_by_the_middle_would_be_seen(monkeypatch):
    monkeypatch.setattr(Window, "before", lambda self, lengths: (self.size[0] // 2,))
    even = Window((3,), (2,), (1,), "same"), Window((1,), (2,), (1,), "same")
    with pytest.raises(AssertionError):
        assert_taps_see_the_same(*even, 8, 1)


# --- shown able to fail ---------------------------------------------------------------------------


def forgets_the_bias(linear, other, places):
    return linear_numbers.replace(linear_numbers.plus(linear, other, places), bias=linear.bias)


def at_the_corner(linear, other, places):
    corner = tuple(tuple(range(len(taps))) for taps in places)
    return linear_numbers.plus(linear, other, corner)


def a_sum_for_a_mean(linear, places, scale, shift):
    number = np.prod([len(taps) for taps in places])
    return averaging.plus_mean(linear, places, scale * number, shift)


def test_a_sum_for_a_mean_is_withheld(K, monkeypatch):
    monkeypatch.setattr(merge_pass, "plus_mean", a_sum_for_a_mean)
    shape, make = MEANS["two"]
    with pytest.raises(bnfix.VerificationError, match="withheld"):
        bnfix.fold(summed(K, make(K.layers), shape=shape, norms=False), merge=True)


@pytest.mark.parametrize("mutant", [forgets_the_bias, at_the_corner])
def test_a_wrong_merge_is_withheld_and_would_be_seen(K, monkeypatch, mutant):
    monkeypatch.setattr(merge_pass, "plus", mutant)
    model = summed(K, MERGED["repvgg"][1](K.layers))
    with pytest.raises(bnfix.VerificationError, match="withheld"):
        bnfix.fold(model, merge=True)
    monkeypatch.setattr(proven, "verify", ref.not_checked)
    with pytest.raises(AssertionError):
        merges(model)


def test_layers_on_other_tensors_that_are_merged_would_be_seen(K, monkeypatch):
    monkeypatch.setattr(proven, "verify", ref.not_checked)
    monkeypatch.setattr(merge_pass, "origin", lambda graph, value, done: None)
    L = K.layers
    K.utils.set_random_seed(0)
    inputs = K.Input((7, 6, 4))
    x = L.ReLU()(inputs)
    pair = [L.Conv2D(4, 3, **SAME)(x), L.Conv2D(4, 1)(L.Activation("tanh")(x))]
    model = K.Model(inputs, L.Add()(pair))
    data = np.random.default_rng(0).normal(size=(2, 7, 6, 4)).astype("f4")
    merged = bnfix.fold(model, merge=True)
    with pytest.raises(AssertionError):
        ref.assert_close(ref.inferred(merged, data), ref.inferred(model, data), CLOSE)
