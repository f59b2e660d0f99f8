"""Weights that are made when they are looked at: the same numbers, and never all at once."""

import tracemalloc

import numpy as np
import pytest

from bnfix.adapters.reading import Reading
from bnfix.adapters.subject import Subject
from bnfix.numerics import linear as linear_numbers
from bnfix.numerics.deferred import Deferred, bound, is_within
from bnfix.passes.fold import plan

VALUES = np.array([[1.0, -3.0], [2.0, 0.5]])


def deferred(array, within=None):
    largest = within or (lambda: bound(array))
    return Deferred(array.shape, lambda: array, largest)


@pytest.mark.parametrize("held", [VALUES, deferred(VALUES)])
def test_numpy_takes_it_as_an_array_and_its_bound_is_reached(held):
    assert (held.shape, held.ndim) == ((2, 2), 2)
    np.testing.assert_array_equal(np.multiply(held, 2.0, dtype=np.float64), 2 * VALUES)
    assert bound(held) == 3.0
    assert is_within(held, 3.0)
    assert not is_within(held, 2.9)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_within_nothing(wrong):
    values = np.array([1.0, wrong])
    assert not is_within(values, 1e300)
    assert not is_within(deferred(values), 1e300)


def test_where_the_bound_is_too_large_the_numbers_themselves_decide():
    assert is_within(deferred(VALUES, lambda: 10.0), 3.0)
    assert is_within(deferred(VALUES, lambda: np.nan), 3.0)
    assert bound(np.zeros((0, 3))) == 0.0


def test_a_scaled_kernel_is_that_of_float64_and_its_bound_holds():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 4, 6)).astype("float32")
    scale, shift = rng.normal(size=6), rng.normal(size=6)
    linear = linear_numbers.Linear("Conv1D", deferred(kernel), None, 2)
    twice = linear
    for _ in range(2):
        twice = linear_numbers.scale_and_shift(twice, scale, shift)
    exact = kernel.astype(np.float64) * scale * scale
    np.testing.assert_array_equal(np.asarray(twice.kernel), exact)
    assert np.max(np.abs(exact)) <= bound(twice.kernel)


SIZE = 256


def chain(K, pairs=8):
    x = inputs = K.Input((SIZE,))
    for _ in range(pairs):
        x = K.layers.BatchNormalization()(K.layers.Dense(SIZE)(x))
    return K.Model(inputs, x)


def assert_planned_in_little_memory(K):
    model = chain(K)
    reading = Reading(Subject.of(model))
    tracemalloc.start()
    try:
        edit, _ = plan(reading)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(edit.assign) == 8
    one = 8 * SIZE * SIZE
    assert most < 3 * one, f"{most / one:.1f} kernels in float64 at once"


def test_folding_a_network_holds_no_more_than_a_kernel_or_two(K):
    assert_planned_in_little_memory(K)


def test_the_law_rejects_kernels_that_are_made_at_once(K, monkeypatch):
    scaled = linear_numbers._scaled
    monkeypatch.setattr(linear_numbers, "_scaled", lambda *a: np.asarray(scaled(*a)))
    with pytest.raises(AssertionError, match="at once"):
        assert_planned_in_little_memory(K)
