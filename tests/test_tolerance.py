"""What is known of each type of numbers, and how tolerances follow from it."""

import ml_dtypes
import numpy as np
import pytest

from bnfix.numerics import tolerance

DTYPES = ["float64", "float32", "float16", "bfloat16"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_unit_and_largest_number_are_those_of_the_type(dtype):
    known = ml_dtypes.finfo(dtype)
    assert tolerance.UNIT[dtype] == float(known.eps)
    largest = tolerance.largest_finite(dtype)
    assert float(known.max) * 0.999 < largest <= float(known.max)
    assert tolerance.believable(dtype) ** 4 == pytest.approx(float(known.eps))


def test_tensorfloat32_has_the_digits_of_float16():
    assert tolerance.UNIT["tensorfloat32"] == tolerance.UNIT["float16"]


def test_a_type_that_is_not_known_is_taken_for_float32():
    assert tolerance.rounding("new", 3, 2.0) == tolerance.rounding("float32", 3, 2.0)
    assert tolerance.largest_finite("new") == tolerance.largest_finite("float32")


@pytest.mark.parametrize("dtype", [*DTYPES, "float8_e4m3fn", "int8", "uint16", "int64", "bool"])
def test_the_width_of_a_number_is_what_numpy_stores(dtype):
    assert tolerance.width(dtype) == np.dtype(getattr(ml_dtypes, dtype, dtype)).itemsize


def test_numbers_of_less_than_a_byte_take_one_and_strings_a_pointer():
    assert tolerance.width("int4") == 1
    assert tolerance.width("string") == 8


def test_rounding_adds_up_like_independent_steps_and_scales_with_the_output():
    one = tolerance.rounding("float32", 1, 1.0)
    assert one == tolerance.SAFETY * np.finfo(np.float32).eps
    assert tolerance.rounding("float32", 9, 1.0) == pytest.approx(3 * one)
    assert tolerance.rounding("float32", 1, 5.0) == pytest.approx(5 * one)
    assert tolerance.rounding("float32", 0, 1.0) == one


def test_rounding_is_carried_over_in_units_of_the_types():
    noise = 3e-6
    there = tolerance.carried_over(noise, "float32", "float16")
    assert there == pytest.approx(noise * 2**13 * tolerance.AMPLE)
    back = tolerance.carried_over(there, "float16", "float32")
    assert back == pytest.approx(noise * tolerance.AMPLE**2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_least_tolerance_leaves_16_bit_numbers_digits_to_be_right_in(dtype):
    units = tolerance.floor(dtype) / tolerance.UNIT[dtype]
    assert tolerance.is_coarse(dtype) == (np.dtype(getattr(ml_dtypes, dtype, dtype)).itemsize == 2)
    assert tolerance.is_coarse("tensorfloat32")
    assert units == (4.0 if tolerance.is_coarse(dtype) else tolerance.SAFETY)
    assert tolerance.floor(dtype) < tolerance.believable(dtype)
