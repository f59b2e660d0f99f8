"""Fitting a GroupNormalization by sums: what least squares on the standardized values gives."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnfix.numerics import groups as rules
from bnfix.numerics.regression import Regression, RowSums, normalizing, row_sums

EPSILON = 1e-3
#: Errors stay within this many units in the last place.
ULPS = 64


def drawn(seed, shape, axis, offset, dtype):
    """Inputs, and outputs that depend on them in part; channels differ in mean and size."""
    rng = np.random.default_rng(seed)
    along = [size if at == axis else 1 for at, size in enumerate(shape)]
    x = rng.normal(size=shape) * rng.uniform(0.5, 2, along) + rng.normal(size=along) + offset
    y = 0.4 * (x - offset) + rng.normal(size=shape) + rng.normal(size=along)
    return x.astype(dtype), y.astype(dtype)


def by_least_squares(x, y, axis, groups):
    """Gamma, beta and the share explained, as numpy's own solver has them in float64."""
    x, y = (np.moveaxis(v.astype(np.float64), axis, -1) for v in (x, y))
    rows, channels = len(x), x.shape[-1]
    x, y = (v.reshape(rows, -1, channels) for v in (x, y))
    grouped = x.reshape(rows, x.shape[1], groups, -1)
    mean, variance = (f(grouped, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    z = ((grouped - mean) / np.sqrt(variance + EPSILON)).reshape(x.shape)
    found = []
    left = 0.0
    for channel in range(channels):
        ours, theirs = z[..., channel].ravel(), y[..., channel].ravel()
        solved = np.linalg.lstsq(np.stack([ours, np.ones_like(ours)], 1), theirs, rcond=None)[0]
        found.append(solved)
        left += np.square(ours * solved[0] + solved[1] - theirs).sum()
    total = np.square(y - y.mean(axis=(0, 1))).sum()
    gamma, beta = np.transpose(found)
    return gamma, beta, 1 - left / total


def assert_fits_by_least_squares(regression, x, y, axis, cuts):
    channels, positions = x.shape[axis], x[0].size // x.shape[axis]
    candidates = rules.candidates(channels, positions)
    fitting = regression(candidates, channels, EPSILON)
    for start, stop in itertools.pairwise([0, *cuts, len(x)]):
        if stop > start:
            fitting.add(row_sums(x[start:stop], y[start:stop], axis=axis))
    assert candidates
    # A value far from zero is itself known to a unit of its size only.
    unit = float(np.finfo(x.dtype).eps) * float(1 + np.max(np.abs(x)) / x.std())
    for fit in fitting.fits():
        gamma, beta, explained = by_least_squares(x, y, axis, fit.groups)
        scale = np.max(np.abs(gamma)) + np.max(np.abs(beta))
        assert np.max(np.abs(fit.gamma - gamma)) <= ULPS * unit * scale
        assert np.max(np.abs(fit.beta - beta)) <= ULPS * unit * scale
        assert fit.explained == pytest.approx(explained, abs=ULPS * unit)


SHAPES = [
    ((9, 6, 5, 8), 3),
    ((9, 8, 6, 5), 1),
    ((40, 16), 1),
    ((5, 30, 12), 2),
    ((6, 3, 8, 4, 2), 2),
]


@given(
    seed=st.integers(0, 99),
    which=st.sampled_from(SHAPES),
    offset=st.sampled_from([0.0, 1e3]),
    dtype=st.sampled_from(["float32", "float64"]),
    data=st.data(),
)
def test_any_split_into_parts_gives_the_least_squares_of_the_whole(
    seed, which, offset, dtype, data
):
    shape, axis = which
    cuts = sorted(data.draw(st.lists(st.integers(0, shape[0]), max_size=4), label="cuts"))
    x, y = drawn(seed, shape, axis, offset, dtype)
    assert_fits_by_least_squares(Regression, x, y, axis, cuts)


def test_rows_of_many_values_are_summed_in_parts():
    """More than a block holds, so that positions of a row are split."""
    x, y = drawn(0, (2, 70_000, 8), 2, 0.0, "float32")
    assert_fits_by_least_squares(Regression, x, y, 2, [1])
    x, y = drawn(0, (2, 8, 70_000), 1, 0.0, "float32")
    assert_fits_by_least_squares(Regression, x, y, 1, [1])


class MeanOfFits(Regression):
    """Each part is fitted by itself, and what comes out is averaged."""

    def __init__(self, candidates, channels, epsilon):
        super().__init__(candidates, channels, epsilon)
        self.parts = []
        self.new = lambda: Regression(candidates, channels, epsilon)

    def add(self, sums):
        one = self.new()
        one.add(sums)
        self.parts.append(one.fits())

    def fits(self):
        return [
            type(group[0])(
                group[0].groups,
                np.mean([fit.gamma for fit in group], axis=0),
                np.mean([fit.beta for fit in group], axis=0),
                float(np.mean([fit.explained for fit in group])),
            )
            for group in zip(*self.parts, strict=True)
        ]


class ForgetsThePivot(Regression):
    """As if nothing had been subtracted."""

    def add(self, sums):
        none = np.zeros_like(sums.x_pivot)
        super().add(RowSums(sums.positions, sums.sums, none, none))


class OneGroupForAll(Regression):
    """Standardizes by all channels, whatever the number of groups."""

    def __init__(self, candidates, channels, epsilon):
        super().__init__([1] * len(candidates), channels, epsilon)
        self.names = candidates

    def fits(self):
        alike = super().fits()
        return [
            type(fit)(groups, fit.gamma, fit.beta, fit.explained)
            for groups, fit in zip(self.names, alike, strict=True)
        ]


@pytest.mark.parametrize("mutant", [MeanOfFits, ForgetsThePivot, OneGroupForAll])
def test_the_law_rejects_wrong_regressions(mutant):
    x, y = drawn(1, (9, 6, 5, 8), 3, 1e3, "float64")
    with pytest.raises(AssertionError):
        assert_fits_by_least_squares(mutant, x, y, 3, [2, 3])


def test_the_best_number_of_groups_is_the_one_that_made_the_outputs():
    x, _ = drawn(2, (30, 4, 4, 16), 3, 0.0, "float64")
    for groups in (1, 2, 4, 8, 16):
        parts = x.reshape(30, 4, 4, groups, -1)
        mean, variance = (f(parts, axis=(1, 2, 4), keepdims=True) for f in (np.mean, np.var))
        made = ((parts - mean) / np.sqrt(variance + EPSILON)).reshape(x.shape) * 3 - 1
        fitting = Regression(rules.candidates(16, 16), 16, EPSILON)
        fitting.add(row_sums(x, made, axis=3))
        best = fitting.best()
        assert best.groups == groups
        assert best.explained == pytest.approx(1.0, abs=1e-12)
        np.testing.assert_allclose(best.gamma, 3, rtol=1e-9)
        np.testing.assert_allclose(best.beta, -1, rtol=1e-9)


def test_a_channel_that_is_constant_gets_its_value_as_beta():
    x = np.zeros((5, 4, 8), "float32")
    y = np.full((5, 4, 8), 7.0, "float32")
    fitting = Regression([1], 8, EPSILON)
    fitting.add(row_sums(x, y, axis=2))
    (fit,) = fitting.fits()
    np.testing.assert_array_equal(fit.gamma, 0)
    np.testing.assert_array_equal(fit.beta, 7)
    assert fit.explained == 1.0


def test_of_equals_the_fewest_groups_are_best():
    fitting = Regression([4, 1, 2], 8, EPSILON)
    fitting.add(row_sums(np.zeros((5, 4, 8)), np.full((5, 4, 8), 7.0), axis=2))
    assert [fit.explained for fit in fitting.fits()] == [1.0] * 3
    assert fitting.best().groups == 1


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_scale_and_shift_of_rows_make_what_the_fitted_layer_makes(offset):
    x, y = drawn(3, (5, 6, 8), 2, offset, "float64")
    fitting, sums = Regression([4], 8, EPSILON), row_sums(x, y, axis=2)
    fitting.add(sums)
    scale, shift = normalizing(sums, fitting.best(), EPSILON)
    parts = x.reshape(5, 6, 4, 2)
    mean, variance = (f(parts, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    z = ((parts - mean) / np.sqrt(variance + EPSILON)).reshape(x.shape)
    made = x * scale[:, np.newaxis] + shift[:, np.newaxis]
    best = fitting.best()
    np.testing.assert_allclose(made, best.gamma * z + best.beta, atol=1e-8)


# --- numbers of groups --------------------------------------------------------------------------

channels_and_values = {
    "channels": st.integers(1, 300) | st.sampled_from([512, 528, 960, 992]),
    "values": st.sampled_from([None, 1, 2, 49]),
}


def assert_sensible(groups, channels, values):
    assert channels % groups == 0
    assert not (values == 1 and groups == channels), "a group of one value is its own mean"


@given(wanted=st.integers(1, 64), **channels_and_values)
def test_a_number_of_groups_is_the_largest_divisor_that_erases_nothing(channels, values, wanted):
    found = rules.at_most(channels, values, wanted)
    fitting = [
        groups
        for groups in range(1, wanted + 1)
        if channels % groups == 0 and not (values == 1 and groups == channels)
    ]
    assert found == (max(fitting) if fitting else None)


@given(**channels_and_values)
def test_the_usual_number_has_16_channels_a_group_and_at_most_32_groups(channels, values):
    found = rules.usual(channels, values)
    if found is None:
        assert (channels, values) == (1, 1)
        return
    assert_sensible(found, channels, values)
    assert found <= 32
    assert found == 1 or channels // found >= 16
    for more in range(found + 1, 33):
        assert channels % more or channels // more < 16, "no fewer than it takes"


@given(**channels_and_values)
def test_every_candidate_is_sensible_and_one_group_is_among_them(channels, values):
    found = rules.candidates(channels, values)
    assert found == sorted(set(found))
    for groups in found:
        assert_sensible(groups, channels, values)
        assert groups == 1 or (values or 8) * channels // groups >= 8, "few values fit anything"
    assert 1 in found or (channels, values) == (1, 1)
    for power in (1, 2, 4, 8, 16, 32):
        enough = channels % power == 0 and (values or 8) * channels // power >= 8
        assert power in found or not enough or (values == 1 and power == channels)


def test_the_greatest_common_divisor_with_32_would_erase_rows_of_32_channels():
    """What an earlier tool did."""
    with pytest.raises(AssertionError, match="its own mean"):
        assert_sensible(np.gcd(32, 32), 32, 1)
