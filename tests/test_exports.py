"""check: what `model.export` writes, run as those run it who are given the file."""

from importlib.util import find_spec

import numpy as np
import pytest
import zoo
from test_check import baked, images

import bnfix
from bnfix.adapters import onnx_file

#: What Keras takes to write an ONNX file.
WRITES_ONNX = {"tensorflow": "tf2onnx", "jax": "jax2onnx", "torch": "onnxscript"}


@pytest.fixture
def K():
    """tf_keras writes no ONNX files."""
    return zoo.keras_module("keras3")


@pytest.fixture
def onnx():
    for package in ("onnxruntime", WRITES_ONNX[zoo.BACKEND]):
        if find_spec(package) is None:
            pytest.skip(f"ONNX files take {package}, which is not installed here")


def entry_points(report):
    return {point.entry_point: point for point in report.measurements}


def test_an_onnx_file_is_tried_on_request(K, onnx):
    report = bnfix.check(baked(K), images(), export="onnx")
    if zoo.BACKEND == "torch":  # the converter cannot take a batch's statistics
        assert any("could not be exported" in note for note in report.notes)
    else:  # on JAX Keras asks for inference when it writes the file, and gets it
        coupled = zoo.BACKEND == "tensorflow"
        assert entry_points(report)["export"].coupling.is_real == coupled
        assert ("export" in report.findings[0].entry_point) == coupled
    calm = bnfix.check(bnfix.freeze(baked(K)), images(), export="onnx")
    assert calm.ok, str(calm)
    assert "export" in entry_points(calm)


def two_towers(K, by_name):
    inputs = {"b": K.Input((3,), name="b"), "a": K.Input((3,), name="a")}
    joined = K.layers.Subtract()([inputs["a"], inputs["b"]])
    made = {"second": K.layers.Dense(2)(joined), "first": K.layers.BatchNormalization()(joined)}
    model = K.Model(inputs if by_name else list(inputs.values()), made)
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    return model, {"a": x, "b": -2 * x} if by_name else [-2 * x, x]


@pytest.mark.parametrize("by_name", [True, False])
def test_each_input_gets_what_is_its_own(K, onnx, by_name):
    model, x = two_towers(K, by_name)
    calm = bnfix.check(model, x, export="onnx")
    assert calm.ok, str(calm)
    assert "export" in entry_points(calm)


def test_a_file_that_takes_constants_for_inputs_is_left_out_with_a_note(K, onnx):
    inputs = K.Input((6, 6, 3))
    x = K.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0])(inputs)
    model = K.Model(inputs, K.layers.BatchNormalization()(x))
    report = bnfix.check(model, np.random.default_rng(0).normal(size=(8, 6, 6, 3)), export="onnx")
    assert report.ok, str(report)
    taken = "export" in entry_points(report)  # as other versions of converters write it
    assert taken or any("constants for inputs" in note for note in report.notes), report.notes


def test_without_onnx_runtime_a_note_names_it(K, monkeypatch):
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    report = bnfix.check(bnfix.freeze(baked(K)), images(), export="onnx")
    assert report.ok
    assert "export" not in entry_points(report)
    assert any("pip install onnxruntime" in note for note in report.notes)


def test_tf_keras_says_that_it_writes_none():
    K = zoo.keras_module("tf_keras")
    report = bnfix.check(bnfix.freeze(baked(K)), images(), export="onnx")
    assert any("writes no ONNX files" in note for note in report.notes)


@pytest.mark.parametrize("export", ["onxx", 3, None, "saved_model"])
def test_other_formats_are_refused(K, export):
    with pytest.raises(bnfix.OptionError, match=r"^export is .*; it may be True, False or 'onnx'"):
        bnfix.check(baked(K), images(), export=export)
