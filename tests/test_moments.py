"""Moments of channels: any split into parts gives those of the whole."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnfix.errors import StatisticsError
from bnfix.numerics import moments as module
from bnfix.numerics.moments import ChannelMoments
from bnfix.recalibration import pooling

#: Errors of float32 sums over a block stay within this many units in the last place.
ULPS = 16


def drawn(seed, shape, offset, dtype):
    return (np.random.default_rng(seed).normal(offset, 1.0, shape)).astype(dtype)


def assert_moments_of_the_whole(estimator, values, cuts, axis, mask=None):
    """As numpy has them in extended precision, to a few units in the last place of the values."""
    moments = estimator(values.shape[axis])
    edges = [0, *cuts, len(values)]
    for start, stop in itertools.pairwise(edges):
        part = None if mask is None else mask[start:stop]
        moments.update(values[start:stop], axis=axis, mask=part)
    rows = np.moveaxis(values.astype(np.longdouble), axis, -1)
    rows = rows.reshape(-1, rows.shape[-1]) if mask is None else rows[mask]
    sigma = rows.std(axis=0) + 1e-300
    unit = np.finfo(values.dtype).eps if values.dtype == np.float64 else np.finfo(np.float32).eps
    # In deviations: a value far from zero is itself known to a unit of its size only.
    tolerance = ULPS * unit * (1 + np.max(np.abs(rows).max(axis=0) / sigma))
    assert np.all(moments.counts == len(rows))
    assert np.max(np.abs(moments.mean - rows.mean(axis=0)) / sigma) <= tolerance
    relative = np.abs(moments.variance() / rows.var(axis=0) - 1)
    assert np.max(relative) <= tolerance


@given(
    seed=st.integers(0, 99),
    offset=st.sampled_from([0.0, 1e3, -1e5]),
    dtype=st.sampled_from(["float32", "float64"]),
    shape=st.sampled_from([(40, 3), (20, 5, 3), (12, 3, 40), (9, 40, 20, 3), (30, 3, 41, 50)]),
    data=st.data(),
)
def test_any_split_into_parts_gives_the_moments_of_the_whole(seed, offset, dtype, shape, data):
    axis = shape.index(3)
    cuts = sorted(data.draw(st.lists(st.integers(0, shape[0]), max_size=6), label="cuts"))
    assert_moments_of_the_whole(ChannelMoments, drawn(seed, shape, offset, dtype), cuts, axis)


@pytest.mark.parametrize("shape", [(700, 3), (90, 5, 3), (90, 3, 7)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("short", [1, 4, 50])
def test_blocks_of_any_size_give_the_moments_of_the_whole(monkeypatch, shape, dtype, short):
    """In rising order, so that every block has a mean of its own."""
    monkeypatch.setattr(module, "_SHORT", short)
    values = np.sort(drawn(0, shape, 20.0, dtype), axis=0)
    for block in (1, 100, 1000):
        monkeypatch.setattr(module, "_BLOCK", block)
        assert_moments_of_the_whole(ChannelMoments, values, [40], shape.index(3))


def test_a_block_is_read_in_whole_short_sums_and_holds_no_more_than_it_may(monkeypatch):
    seen = []

    def watched(pivot, block, scratch):
        seen.append(len(block))
        return about(pivot, block, scratch)

    about = module._about
    monkeypatch.setattr(module, "_about", watched)
    ChannelMoments(100).update(np.zeros((10_000, 100), "float32"), axis=1)
    assert seen == [2560, 2560, 2560, 2320], "a block has room for 2621"
    seen.clear()
    ChannelMoments(10_000).update(np.zeros((60, 10_000), "float32"), axis=1)
    assert seen == [26, 26, 8], "and not for a short sum of 128"


@pytest.mark.parametrize("ddof", [0, 1])
def test_the_variance_is_divided_as_numpy_divides_it(ddof):
    values, moments = drawn(0, (9, 3), 0.0, "float64"), ChannelMoments(3)
    moments.update(values, axis=1)
    np.testing.assert_allclose(moments.variance(ddof=ddof), values.var(axis=0, ddof=ddof))


@pytest.mark.parametrize("count", [0, 1])
def test_a_variance_of_too_few_values_is_refused(count):
    moments = ChannelMoments(3)
    moments.update(np.zeros((count, 3)), axis=1)
    with pytest.raises(StatisticsError, match=f"more than {count} values per channel; got {count}"):
        moments.variance(ddof=count)


def test_what_is_absorbed_with_a_weight_was_seen_so_many_times():
    parts = drawn(0, (9, 3), 5.0, "float64"), drawn(1, (7, 3), 2.0, "float64")
    both, twice = ChannelMoments(3), ChannelMoments(3)
    both.update(parts[0], axis=1)
    twice.update(parts[1], axis=1)
    both.absorb(twice, weight=2.0)
    whole = np.concatenate([parts[0], parts[1], parts[1]])
    assert both.count == len(whole)
    np.testing.assert_allclose(both.mean, whole.mean(axis=0))
    np.testing.assert_allclose(both.variance(), whole.var(axis=0))


@given(seed=st.integers(0, 99), rows=st.integers(4, 30), data=st.data())
def test_masked_values_count_for_nothing_whatever_they_are(seed, rows, data):
    values = drawn(seed, (rows, 7, 3), 1e3, "float32")
    mask = np.random.default_rng(seed).random((rows, 7)) < 0.7
    mask[:2] = True
    cut = data.draw(st.integers(0, rows))
    assert_moments_of_the_whole(ChannelMoments, values, [cut], 2, mask)
    spoiled = ChannelMoments(3)
    spoiled.update(np.where(mask[..., None], values, np.nan), axis=2, mask=mask)
    assert spoiled.not_finite == 0


def test_a_masked_or_empty_part_changes_nothing():
    moments, values = ChannelMoments(3), drawn(0, (8, 3), 5.0, "float32")
    moments.update(values, axis=1)
    before = moments.mean, moments.variance()
    moments.update(values, axis=1, mask=np.zeros(8, bool))
    moments.update(values[:0], axis=1)
    moments.merge([0, 0, 0], [np.nan, np.inf, 1.0], [np.nan, 1.0, np.inf])
    np.testing.assert_array_equal(moments.mean, before[0])
    np.testing.assert_array_equal(moments.variance(), before[1])


def test_where_nothing_was_seen_the_variance_is_0():
    moments = ChannelMoments(2)
    np.testing.assert_array_equal(moments.part, np.zeros((3, 2)))
    moments.absorb(ChannelMoments(2))
    assert (moments.count, moments.not_finite) == (0, 0)
    assert ChannelMoments(0).count == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_counted_by_channel(bad):
    values = drawn(0, (50, 3), 0.0, "float32")
    values[7, 1] = bad
    moments = ChannelMoments(3)
    moments.update(values, axis=1)
    assert moments.not_finite == 1


def test_a_mean_that_is_finite_does_not_hide_a_variance_that_is_not():
    moments = ChannelMoments(2)
    moments.update(np.array([[1e200, 1.0], [-1e200, 2.0]]), axis=1)
    assert np.isfinite(moments.mean).all()
    assert moments.not_finite == 1


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_large_samples_of_low_precision_do_not_lose_digits(dtype):
    values = drawn(0, (300, 20, 20, 2), 100.0, dtype)
    assert_moments_of_the_whole(ChannelMoments, values, [100], 3)


class SumOfSquares(ChannelMoments):
    """E[x^2] - E[x]^2 in the values' own precision."""

    def _add(self, values, axis):
        rows = np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])
        mean = rows.mean(axis=0)
        self.merge(len(rows), mean, (rows * rows).mean(axis=0) - mean * mean)


class EqualWeights(ChannelMoments):
    """Every part counts the same, however long it is."""

    def merge(self, count, mean, variance):
        super().merge(1, mean, variance)
        self.counts = self.counts + (self.counts > 0) * (count - 1)


@pytest.mark.parametrize("mutant", [SumOfSquares, EqualWeights])
def test_the_law_rejects_known_wrong_estimators(mutant):
    values = drawn(0, (40, 3), 1e3, "float32")
    with pytest.raises(AssertionError):
        assert_moments_of_the_whole(mutant, values, [7, 9], 1)


# --- of several calls -----------------------------------------------------------------------------


def moments_of(values):
    moments = ChannelMoments(values.shape[-1])
    moments.update(values, axis=values.ndim - 1)
    return moments


def test_moments_are_apart_by_mean_or_deviation_and_not_at_all_where_one_saw_nothing():
    values, nothing = drawn(0, (50, 3), 1.0, "float64"), ChannelMoments(3)
    here = moments_of(values)
    for there in (moments_of(values + np.array([0, 0, 5])), moments_of(values * [1.0, 0.2, 1.0])):
        sigma, wanted = (np.sqrt(each.variance() + 0.1) for each in (here, there))
        by_mean, by_sigma = np.abs(here.mean - there.mean), np.abs(sigma - wanted)
        assert pooling.apart(here, there, 0.1) == max(*(by_mean / wanted), *(by_sigma / wanted)) > 0
    assert pooling.apart(here, here, 0.1) == 0
    for pair in ((here, nothing), (nothing, here), (nothing, nothing)):
        assert pooling.apart(*pair, 0.1) == 0


def test_partway_is_two_thirds_of_the_way_for_each_call():
    """Of two values old and four new ones, if these are as many: moments of all six."""
    old, new = drawn(1, (2, 30, 3), 0.0, "float64"), drawn(2, (2, 30, 3), 4.0, "float64")
    before, calls = ({"bn": [moments_of(call) for call in part]} for part in (old, new))
    mixed = pooling.partway(before, calls)["bn"]
    for found, was, now in zip(mixed, old, new, strict=True):
        both = np.concatenate([was, now, now])
        np.testing.assert_allclose(found.mean, both.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found.variance(), both.var(axis=0), rtol=1e-12)
