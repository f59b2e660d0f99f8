"""Numbers as arguments: what they may be, and one error for what they may not."""

import numpy as np
import pytest

import bnfix
from bnfix.options import size, whole


@pytest.mark.parametrize(
    ("given", "bytes_"),
    [
        (None, None),
        (2**30, 2**30),
        (np.int64(5), 5),
        (1e9, 10**9),
        ("1 GiB", 2**30),
        ("1GiB", 2**30),
        ("64 KiB", 2**16),
        ("64 kiB", 2**16),
        ("2gb", 2 * 10**9),
        ("500MB", 5 * 10**8),
        ("2 kB", 2000),
        ("7 B", 7),
        ("1e9", 10**9),
        ("1e+9", 10**9),
    ],
)
def test_a_size_is_a_number_of_bytes_or_text_that_says_one(given, bytes_):
    assert size("memory_limit", given) == bytes_


@pytest.mark.parametrize(
    "given", [0, -1, float("nan"), float("inf"), "", "GiB", "2 apples", "1.2.3", [], object(), b"1"]
)
def test_what_is_no_size_is_refused(given):
    with pytest.raises(bnfix.OptionError, match=r"^memory_limit must be a size such as .1 GiB"):
        size("memory_limit", given)


@pytest.mark.parametrize("given", ["3", 2.0, True, None, 0, np.float32(1)])
def test_what_is_no_whole_number_is_refused(given):
    with pytest.raises(bnfix.OptionError, match=r"^steps must be a whole number of at"):
        whole("steps", given, at_least=1)


def test_a_whole_number_of_any_library_is_one():
    assert whole("steps", np.int32(4), at_least=1) == 4
