"""Arrays in files become the inputs and labels of a model, and never run code."""

import pickle

import numpy as np
import pytest

import bnfix
from bnfix.data.arrays import read_arrays

X = np.arange(24, dtype=np.float32).reshape(6, 4)
Y = np.arange(6)
W = np.ones(6, np.float32)


def saved(folder, *alone, **arrays):
    """A `.npy` of one array, or a `.npz`."""
    file = folder / ("data.npz" if arrays else "data.npy")
    if arrays:
        np.savez_compressed(file, **arrays)
    else:
        np.save(file, *alone)
    return file


def assert_same(got, wanted):
    assert len(got) == len(wanted)
    for ours, theirs in zip(got, wanted, strict=True):
        if isinstance(theirs, dict):
            assert set(ours) == set(theirs)
            assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)
        else:
            assert np.array_equal(ours, theirs)


def test_a_npy_file_is_the_input_and_stays_on_disk(tmp_path):
    (x,) = read_arrays(saved(tmp_path, X), ["image"])
    assert isinstance(x, np.memmap)
    assert_same((x,), (X,))


@pytest.mark.parametrize(
    ("arrays", "names", "wanted"),
    [
        ({"anything": X}, ["image"], (X,)),
        ({"x": X, "y": Y}, ["image"], (X, Y)),
        ({"image": X, "y": Y}, ["image"], (X, Y)),
        ({"anything": X, "y": Y}, ["image"], (X, Y)),
        ({"x": X, "y": Y, "sample_weight": W}, [], (X, Y, W)),
        ({"a": X, "b": Y}, ["a", "b"], ({"a": X, "b": Y},)),
        ({"a": X, "b": W, "y": Y}, ["b", "a"], ({"a": X, "b": W}, Y)),
        ({"x": X, "y": W}, ["x", "y"], ({"x": X, "y": W},)),
    ],
)
def test_arrays_of_a_npz_file_go_by_their_keys(tmp_path, arrays, names, wanted):
    assert_same(read_arrays(saved(tmp_path, **arrays), names), wanted)


@pytest.mark.parametrize(
    ("arrays", "names"),
    [
        ({"train": X, "test": X}, ["image"]),
        ({"x": X, "labels": Y}, ["image"]),
        ({"a": X}, ["a", "b"]),
        ({"a": X, "b": X, "c": X}, ["a", "b"]),
        ({"x": X, "sample_weight": W}, ["image"]),
    ],
)
def test_keys_that_leave_the_inputs_open_are_refused_with_both_sides(tmp_path, arrays, names):
    with pytest.raises(bnfix.DataError, match="looked for under") as refused:
        read_arrays(saved(tmp_path, **arrays), names)
    said = str(refused.value)
    assert all(key in said for key in arrays)
    assert all(name in said for name in names if len(names) > 1)


def test_a_limit_takes_the_first_rows_of_all_arrays(tmp_path):
    got = read_arrays(saved(tmp_path, x=X, y=Y), ["image"], limit=2)
    assert_same(got, (X[:2], Y[:2]))
    assert_same(read_arrays(saved(tmp_path, X), ["image"], limit=2), (X[:2],))


class Bomb:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_pickled_objects_are_refused_and_not_run(tmp_path, suffix):
    bomb = Bomb()
    bomb.path = str(tmp_path / "ran")
    held = np.array([bomb], dtype=object)
    file = tmp_path / f"data{suffix}"
    if suffix == ".npy":
        np.save(file, held, allow_pickle=True)
    else:
        np.savez(file, x=held)
    with pytest.raises(bnfix.DataError, match="cannot be read as arrays"):
        read_arrays(file, ["image"])
    assert not (tmp_path / "ran").exists()
    # It would have run, were pickles allowed.
    pickle.loads(pickle.dumps(bomb)).close()
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content", [b"", b"a,b\n1,2\n", b"\x89PNG\r\n\x1a\n", b"\x89HDF\r\n\x1a\n"]
)
def test_of_another_kind_of_file_nothing_is_said_of_pickles(tmp_path, content):
    """numpy takes whatever it does not know for a pickle, and names the option that runs it."""
    file = tmp_path / "data.npy"
    file.write_bytes(content)
    with pytest.raises(
        bnfix.DataError, match=r"neither a \.npy nor a \.npz file\. Write"
    ) as refused:
        read_arrays(file, ["image"])
    assert "allow_pickle" not in str(refused.value)
    assert ".." not in str(refused.value)


def test_a_number_is_no_array_of_rows(tmp_path):
    with pytest.raises(bnfix.DataError, match=r"data\.npy .* it is a single number, 3\.0"):
        read_arrays(saved(tmp_path, np.float32(3)), ["image"])
    with pytest.raises(bnfix.DataError, match=r"data\.npz .* y is a single number, 1"):
        read_arrays(saved(tmp_path, x=X, y=1), ["image"])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY\x01\x00", b"a,b\n"])
def test_a_damaged_file_is_named(tmp_path, content):
    file = tmp_path / "data.npz"
    file.write_bytes(content)
    with pytest.raises(bnfix.DataError, match=r"data\.npz cannot be read as arrays"):
        read_arrays(file, ["image"])


def test_a_truncated_archive_is_named(tmp_path):
    file = saved(tmp_path, x=np.random.default_rng(0).normal(size=(100, 100)))
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(bnfix.DataError, match=r"data\.npz cannot be read as arrays"):
        read_arrays(file, ["image"])
