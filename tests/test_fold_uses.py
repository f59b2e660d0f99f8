"""What becomes of a folded model: lowered, trained on, exported, converted."""

import subprocess
import sys

import numpy as np
import pytest
import references as ref
import zoo

import bnfix

CLOSE = 1e-5
BY_NAME = {entry.name: entry for entry in zoo.MODELS}


def declining(K, shape=(6, 6, 3), axis=-1, **options):
    """A model of three BNs none of which can be folded."""
    L = K.layers
    x = inputs = K.Input(shape)
    for _ in range(3):
        x = L.ReLU()(L.BatchNormalization(axis=axis, **options)(x))
    model = K.Model(inputs, x)
    zoo.randomise_batch_norms(model, 0)
    return model


# --- lowered -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axis"), [((6, 6, 3), -1), ((6, 5, 3), 1), ((6, 5, 3), 2), ((7, 3), -1), ((4,), -1)]
)
def test_what_cannot_be_folded_can_be_lowered_and_saved(K, shape, axis, tmp_path):
    model = declining(K, shape, axis)
    x = zoo.inputs_for(model, rows=3)
    wanted = ref.inferred(model, x)
    lowered, report = bnfix.fold(model, lower=True, return_report=True)
    assert (len(report.changed), zoo.batch_norms(lowered)) == (3, [])
    assert "lowered to a plain affine layer; it follows" in report.changed[0].detail
    ref.assert_close(ref.inferred(lowered, x), wanted, CLOSE)
    file = str(tmp_path / "lowered.keras")
    lowered.save(file)
    ref.assert_close(ref.inferred(K.models.load_model(file), x), wanted, CLOSE)
    names = [layer.name for layer in model.layers]
    assert [layer.name for layer in lowered.layers] == names


def test_half_precision_is_not_lowered_for_it_would_round(K):
    model = declining(K, dtype="mixed_float16")
    unchanged, report = bnfix.fold(model, lower=True, return_report=True)
    assert unchanged is model
    assert "would compute in float16" in report.declined[0].detail


def test_every_zoo_model_is_lowered_or_says_why(dialect):
    for name in ("residual_shared_conv", "foreign_axis_conv", "nested_called_twice", "bn_subclass"):
        model = zoo.build(BY_NAME[name], dialect)
        x = zoo.inputs_for(model, rows=3)
        lowered, report = bnfix.fold(model, lower=True, return_report=True)
        ref.assert_close(ref.inferred(lowered, x), ref.inferred(model, x), CLOSE)
        assert len(zoo.batch_norms(lowered)) == len(report.declined) == (name == "bn_subclass")


def test_a_wrong_lowering_is_withheld(K, monkeypatch):
    from bnfix.adapters import replacing

    monkeypatch.setattr(replacing, "write", lambda layer, new, fresh: None)
    with pytest.raises(bnfix.VerificationError, match="withheld"):
        bnfix.fold(declining(K), lower=True)


# --- trained on ----------------------------------------------------------------------------------


def small(K):
    layers = [K.layers.Dense(4), K.layers.BatchNormalization(), K.layers.ReLU(), K.layers.Dense(1)]
    model = K.Sequential([K.Input((3,)), *layers])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("train", ["fit", "train_on_batch"])
def test_training_a_folded_model_warns(K, train):
    folded = bnfix.fold(small(K))
    x, y = np.ones((4, 3), "float32"), np.ones((4, 1), "float32")
    options = {"verbose": 0} if train == "fit" else {}
    with pytest.warns(
        bnfix.BnfixWarning, match=r"was folded: 1 .*Train the model it was made from"
    ):
        getattr(folded, train)(x, y, **options)


def test_using_a_folded_model_does_not_warn(K, recwarn, tmp_path):
    folded = bnfix.fold(small(K))
    x, y = np.ones((4, 3), "float32"), np.ones((4, 1), "float32")
    folded.predict(x, verbose=0)
    folded.evaluate(x, y, verbose=0)
    folded.save(str(tmp_path / "folded.keras"))
    unfolded = small(K)
    unfolded.fit(x, y, verbose=0)
    assert not [one for one in recwarn if issubclass(one.category, bnfix.BnfixWarning)]


# --- elsewhere -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lower", [False, True])
def test_a_folded_model_converts_to_tflite_with_the_same_outputs(dialect, lower, tmp_path):
    tf = zoo.tensorflow()
    model = zoo.build(BY_NAME["small_mobilenet"], dialect)
    x = zoo.inputs_for(model, rows=1)
    folded = bnfix.fold(model, lower=lower)
    folded.export(str(tmp_path))
    content = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path)).convert()
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.asarray(x))
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    ref.assert_close([found], ref.inferred(model, x), CLOSE)


LOADS = """
import sys
import numpy as np
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
np.save(sys.argv[3], np.asarray(served.serve(np.load(sys.argv[2]))))
if sys.argv[5]:
    import importlib
    model = importlib.import_module(sys.argv[4]).models.load_model(sys.argv[5])
    np.save(sys.argv[3] + "2", np.asarray(model(np.load(sys.argv[2]))))
assert "bnfix" not in sys.modules
"""


def test_exported_and_saved_it_loads_where_bnfix_is_not_imported(dialect, K, tmp_path):
    zoo.tensorflow()
    model = zoo.build(BY_NAME["small_resnet"], dialect)
    x = np.asarray(zoo.inputs_for(model, rows=3))
    folded = bnfix.fold(model, lower=True)
    np.save(tmp_path / "x.npy", x)
    folded.export(str(tmp_path / "served"))
    folded.save(str(tmp_path / "folded.keras"))
    arguments = [tmp_path / "served", tmp_path / "x.npy", tmp_path / "y", K.__name__]
    command = [sys.executable, "-c", LOADS, *map(str, [*arguments, tmp_path / "folded.keras"])]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    for file in ("y.npy", "y2.npy"):
        ref.assert_close([np.load(tmp_path / file)], ref.inferred(model, x), CLOSE)
