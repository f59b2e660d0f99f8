"""Texts in HDF5 files lie in heaps, which HDF5 walks through for ever where a size in them is 0."""

import json
import struct

import h5py
import numpy as np
import pytest

import bnfix
from bnfix.files.heaps import heaps_of, most_of_texts

SIGNATURE = b"GCOL\x01\x00\x00\x00"


def heap(*objects, length=256):
    """A heap of `length` bytes that holds objects, given by number and size."""
    content = SIGNATURE + struct.pack("<Q", length)
    for number, size in objects:
        held = size if number else max(size - 16, 0)
        content += struct.pack("<HH4xQ", number, 1, size) + bytes(-(-held // 8) * 8)
    return content.ljust(length, b"\0")


def told(content):
    return heaps_of(lambda offset, length: content[offset : offset + length], len(content))


def test_heaps_as_hdf5_writes_them_are_walked_through():
    whole = heap((1, 6), (2, 10), (3, 100), (0, 256 - 16 - 24 - 32 - 120))
    assert told(b"some bytes before" + whole + whole).broken is None
    assert told(whole).largest == 256
    assert told(heap((1, 223))).broken is None, "a heap that is full has nothing left over"


@pytest.mark.parametrize(
    "objects", [[(1, 6), (0, 0)], [(1, 2**64 - 16)], [(1, 2**63)], [(1, 6), (0, 10_000)]]
)
def test_a_heap_that_leads_nowhere_or_out_of_itself_is_found(objects):
    content = bytearray(heap((1, 8)))
    at = 16
    for number, size in objects:
        struct.pack_into("<HH4xQ", content, at, number, 1, size)
        at += 24
    assert told(b"before" + bytes(content)).broken == 6


def test_a_heap_is_found_wherever_pieces_of_the_file_end(monkeypatch):
    from bnfix.files import heaps

    monkeypatch.setattr(heaps, "_PIECE", 32)
    for before in range(70):
        assert told(bytes(before) + heap((1, 6), (0, 0))).broken == before


def test_heaps_within_heaps_are_no_endless_work():
    nested = SIGNATURE + struct.pack("<Q", 1 << 20)
    assert told(nested * 4000).broken is not None


def test_a_file_whose_heap_would_be_read_for_ever_is_refused(tmp_path):
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["model_config"] = json.dumps({"class_name": "Model", "config": {}})
    content = bytearray(path.read_bytes())
    start = at = content.index(b"GCOL")
    at += 16
    while (number := struct.unpack_from("<H", content, at)[0]) != 0:
        assert number
        at += 16 + -(-struct.unpack_from("<Q", content, at + 8)[0] // 8) * 8
    struct.pack_into("<Q", content, at + 8, 0)
    path.write_bytes(content)
    for read in (bnfix.inspect, bnfix.load):
        with pytest.raises(bnfix.FileError, match=rf"parts overlap \(byte {start:,}\)"):
            read(path)


def model_file(path, layers, long=300_000, named=1, libver="earliest"):
    """As Keras 3 writes one of `layers` layers, with a configuration of `long` bytes.

    The first `named` names of layers are references to the configuration.
    """
    config = {"class_name": "Model", "config": {"layers": [], "name": "m" * long}}
    text = json.dumps(config)
    with h5py.File(path, "w", libver=libver) as file:
        file.attrs["keras_version"] = "3.15.1"
        file.attrs["model_config"] = text
        names = [f"layer_{number}" for number in range(layers)]
        file.create_group("model_weights").attrs["layer_names"] = names
    content = bytearray(path.read_bytes())
    refer = len(text).to_bytes(4, "little") + _reference(content, text.encode())
    for name in names[: named - 1]:
        held = len(name).to_bytes(4, "little") + _reference(content, name.encode())
        at = content.index(held)
        content[at : at + 16] = refer
    path.write_bytes(content)


def _reference(content, text):
    """The address of the heap that holds `text`, and its number there."""
    at = content.index(struct.pack("<Q", len(text)) + text) - 8
    start = content.rindex(SIGNATURE, 0, at)
    return bytes(struct.pack("<QI", start, struct.unpack_from("<H", content, at)[0]))


def test_a_list_of_many_short_names_beside_a_long_configuration_is_read(tmp_path):
    """As Keras 3 writes networks of more than 1,300 layers; they were refused."""
    model_file(tmp_path / "model.h5", 1500)
    assert bnfix.inspect(tmp_path / "model.h5").keras_version == "3.15.1"


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_list_that_names_the_long_text_over_and_over_is_refused(tmp_path, libver):
    named = 1000 if libver == "earliest" else 1  # where references may be packed, none is believed
    model_file(tmp_path / "model.h5", 1500, named=named, libver=libver)
    with pytest.raises(bnfix.FileError, match="1,500 texts, which may take"):
        bnfix.inspect(tmp_path / "model.h5")


def test_no_list_takes_more_than_is_told(tmp_path):
    for named in (1, 2, 40):
        model_file(tmp_path / "model.h5", 60, long=50_000, named=named)
        content = (tmp_path / "model.h5").read_bytes()
        told = most_of_texts(lambda at, n, c=content: c[at : at + n], len(content), 60, 10_000)
        with h5py.File(tmp_path / "model.h5") as file:
            names = file["model_weights"].attrs["layer_names"]
        assert np.sum([len(name) for name in names]) <= told <= 5_000 + named * 51_000
