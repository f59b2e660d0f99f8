"""Affine maps of rows go with the row through everything that moves its entries about."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnfix.numerics.affine import Affine, compact, per_channel

sizes = st.lists(st.integers(2, 4), min_size=1, max_size=3).map(tuple)


def mapped(affine, row):
    return affine.scale * row + affine.shift


def map_of(row, rng):
    """One that depends on some axes of a row; scale and shift not on the same ones."""
    depends = rng.integers(0, 2, (2, len(row)))
    return Affine(*(rng.normal(size=np.where(part, row, 1)) for part in depends))


@st.composite
def maps(draw):
    """A map, a row that it is for, and what draws more of either."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    row = rng.normal(size=draw(sizes))
    return map_of(row.shape, rng), row, rng


def same(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-13)


@given(maps())
def test_a_map_goes_with_the_axes(drawn):
    affine, row, rng = drawn
    order = rng.permutation(row.ndim)
    same(
        mapped(affine.transposed(order), row.transpose(order)), mapped(affine, row).transpose(order)
    )
    assert affine.rank == row.ndim


@given(maps())
def test_a_map_goes_with_a_reshape_and_is_no_longer_than_it_has_to_be(drawn):
    affine, row, _ = drawn
    for new in ((-1,), (row.shape[0], -1), (1, *row.shape[::-1], 1)):
        new = row.reshape(new).shape
        behind = affine.reshaped(row.shape, new)
        same(mapped(behind, row.reshape(new)), mapped(affine, row).reshape(new))
        assert behind.scale.shape == compact(behind.scale, behind.shift).scale.shape


@given(maps())
def test_what_depends_on_nothing_has_length_one(drawn):
    affine, row, _ = drawn
    whole = compact(*(np.broadcast_to(part, row.shape) for part in (affine.scale, affine.shift)))
    assert whole.scale.shape == affine.scale.shape
    assert whole.shift.shape == affine.shift.shape
    depends = [max(pair) > 1 for pair in zip(affine.scale.shape, affine.shift.shape, strict=True)]
    assert whole.varies == set(np.flatnonzero(depends))
    same(mapped(whole, row), mapped(affine, row))


@given(maps(), st.data())
def test_a_part_of_a_row_has_a_part_of_the_map(drawn, data):
    affine, row, _ = drawn
    axis = data.draw(st.integers(0, row.ndim - 1))
    start = data.draw(st.integers(0, row.shape[axis] - 1))
    stop = data.draw(st.integers(start + 1, row.shape[axis]))
    at = (*[slice(None)] * axis, slice(start, stop))
    part = affine.part(axis, start, stop)
    same(mapped(part, row[at]), mapped(affine, row)[at])
    wide = np.pad(row, [(2, 1) if each == axis else (0, 0) for each in range(row.ndim)], "edge")
    beside = affine.embedded(axis, 2, 2 + row.shape[axis], wide.shape[axis])
    wanted = wide.copy()
    wanted[(*[slice(None)] * axis, slice(2, -1))] = mapped(affine, row)
    same(mapped(beside, wide), wanted)


@st.composite
def indices(draw, row):
    """A slice, a position or a new axis for every axis, in any order."""
    found = []
    for size in row:
        found += [None] * draw(st.integers(0, 1))
        step = draw(st.sampled_from([1, 2, -1]))
        start = draw(st.integers(0, size - 1))
        found.append(
            draw(st.sampled_from([slice(None), slice(start, None, step), start, start - size]))
        )
    return tuple(found)


@given(maps(), st.data())
def test_entries_that_are_taken_keep_their_map(drawn, data):
    affine, row, _ = drawn
    index = data.draw(indices(row.shape))
    same(mapped(affine.taken(index), row[index]), mapped(affine, row)[index])


@given(maps(), st.booleans(), st.data())
def test_a_map_of_what_is_taken_goes_back_to_where_it_came_from(drawn, alone, data):
    _, row, rng = drawn
    index = data.draw(indices(row.shape))
    affine = map_of(row[index].shape, rng)
    wanted = row.copy()
    wanted[index] = mapped(affine, row[index])
    before = affine.placed(index, row.shape, alone=alone)
    same(mapped(before, row)[index], wanted[index])
    if not alone:  # then the others stay
        same(mapped(before, row), wanted)


def test_a_map_of_what_is_taken_need_not_know_the_length_of_what_is_taken_whole():
    affine = per_channel(np.arange(1.0, 4.0), np.ones(3), 1, 2)
    whole, part = (slice(None), slice(None)), (slice(1, None), slice(None))
    for alone, index, known in [
        (False, whole, True), (True, whole, True), (True, part, True), (False, part, False),
        (False, (0, slice(None)), False),
    ]:  # fmt: skip
        one = affine if len(index) - sum(each == 0 for each in index) == 2 else None
        one = one or Affine(affine.scale[0], affine.shift[0])
        assert (one.placed(index, (-1, 3), alone=alone) is not None) == known, (alone, index)
    assert affine.placed((slice(1), slice(1, 4)), (4, -1), alone=True) is None, "by channel"
    everywhere = affine.placed(part, (-1, 3), alone=True)
    assert everywhere.scale.shape == (1, 3), "the others are of no account"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_number_a_channel_lies_along_its_axis(axis):
    scale, shift = np.arange(1.0, 5.0), np.arange(4.0)
    affine = per_channel(scale, shift, axis, 3)
    assert affine.varies == {axis}
    assert affine.scale.shape[axis] == affine.shift.shape[axis] == 4
    for found, wanted in zip(affine.along(axis, 4), (scale, shift), strict=True):
        np.testing.assert_array_equal(found, wanted)
    alike = Affine(scale.reshape(4), np.ones(1))
    np.testing.assert_array_equal(alike.along(0, 4)[1], np.ones(4))


def test_what_a_map_says_of_itself():
    scale, shift = np.array([1.0, 0.5]), np.array([0.0, 2.0])
    assert Affine(scale, shift).keeps_order
    assert not Affine(scale - 0.5, shift).keeps_order, "two entries become one"
    assert not Affine(-scale, shift).keeps_order
    assert not Affine(scale * [1, -1], shift).keeps_order
    assert not Affine(scale, shift).only_scales
    without = Affine(scale, shift).unshifted()
    assert without.only_scales
    np.testing.assert_array_equal(without.scale, scale)
    np.testing.assert_array_equal(without.shift, [0, 0])
