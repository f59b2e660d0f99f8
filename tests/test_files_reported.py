"""Files as users have reported them: from Windows, with functions by name, without TensorFlow."""

import shutil
import sys
import zipfile

import h5py
import numpy as np
import pytest
import zoo

import bnfix


def model_of(K):
    K.utils.set_random_seed(0)
    inner = K.Input((4,))
    block = K.Model(inner, K.layers.BatchNormalization(name="inner")(inner), name="block")
    inputs = K.Input((3,))
    x = K.layers.BatchNormalization(name="bn")(K.layers.Dense(4)(inputs))
    model = K.Model(inputs, K.layers.Dense(2)(block(x)))
    zoo.randomise_batch_norms(model, 0)
    return model


def as_on_windows(file):
    r"""Rewrite `file` with `layers\dense` for `dense` in `layers`, as Windows named groups."""
    weights = file.with_suffix(".weights")
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights.write_bytes(members["model.weights.h5"])
    new = file.with_suffix(".new")
    with h5py.File(weights) as source, h5py.File(new, "w") as target:

        def copy(name, found):
            if isinstance(found, h5py.Group) and "vars" in found:
                source.copy(found["vars"], target.require_group(name.replace("/", "\\")), "vars")

        source.visititems(copy)
        if "vars" in source:
            source.copy(source["vars"], target, "vars")
    members["model.weights.h5"] = new.read_bytes()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.fixture
def from_windows(tmp_path):
    K = zoo.keras_module("tf_keras")
    model = model_of(K)
    file = tmp_path / "model.keras"
    model.save(file)
    as_on_windows(file)
    return model, file


def test_a_file_with_backslashes_is_inspected_as_any_other(from_windows, tmp_path):
    model, file = from_windows
    report = bnfix.inspect(file)
    assert [norm.path for norm in report.batch_norms] == ["bn", "block/inner"]
    assert [norm.channels for norm in report.batch_norms] == [4, 4]
    assert report.ok, str(report)
    model.save(tmp_path / "plain.keras")
    plain = bnfix.inspect(tmp_path / "plain.keras")
    assert report.batch_norms == plain.batch_norms


def test_a_file_with_backslashes_is_loaded_and_left_as_it_is(from_windows):
    model, file = from_windows
    before = file.read_bytes()
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    loaded = bnfix.load(file)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert file.read_bytes() == before


def test_a_file_with_backslashes_is_edited(from_windows, tmp_path):
    model, file = from_windows
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever tf_keras raises without help
        zoo.keras_module("tf_keras").models.load_model(file)
    broken = tmp_path / "broken.keras"
    model.get_layer("bn").moving_mean.assign([np.nan, 0, 0, 0])
    model.save(broken)
    as_on_windows(broken)
    assert not bnfix.inspect(broken).ok
    _, report = bnfix.repair_file(
        broken, tmp_path / "new.keras", replace_non_finite=True, return_report=True
    )
    assert report.ok, str(report)
    assert bnfix.load(tmp_path / "new.keras").get_layer("bn").moving_mean.numpy()[0] == 0


def custom_layer(x):
    return x * 2


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_a_function_that_the_file_names_is_asked_for(suffix, tmp_path):
    K = zoo.keras_module("keras3")
    inputs = K.Input((3,))
    x = K.layers.Lambda(custom_layer, output_shape=(3,))(K.layers.BatchNormalization()(inputs))
    file = tmp_path / f"model.{suffix}"
    K.Model(inputs, K.layers.Activation("relu")(x)).save(file)
    wanted = r"custom_objects=\{'custom_layer': custom_layer\}"
    with pytest.raises(bnfix.FileError, match=wanted) as raised:
        bnfix.load(file)
    assert raised.value.advises == ("custom_objects",)
    assert "Could not locate" not in str(raised.value)
    assert bnfix.load(file, {"custom_layer": custom_layer}) is not None


def test_a_saved_model_without_tensorflow_is_not_called_damaged(tmp_path, monkeypatch):
    K = zoo.keras_module("tf_keras")
    folder = tmp_path / "model"
    model_of(K).save(folder, save_format="tf")
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # as if it were not installed
    with pytest.raises(bnfix.FileError, match="install tensorflow") as raised:
        bnfix.inspect(folder)
    assert "fetch" not in str(raised.value)
    shutil.rmtree(folder)


def test_layers_that_the_file_does_not_tell_are_not_counted_as_none(tmp_path):
    """As KerasHub writes its backbones: a class with a configuration of its own."""
    K = zoo.keras_module("keras3")

    @K.saving.register_keras_serializable(package="tests")
    class Backbone(K.Model):
        def __init__(self, width=4, **options):
            inputs = K.Input((3,))
            x = K.layers.BatchNormalization(name="bn")(K.layers.Dense(width)(inputs))
            super().__init__(inputs=inputs, outputs=x, **options)
            self.width = width

        def get_config(self):
            return {"width": self.width, "name": self.name}

    Backbone().save(tmp_path / "model.keras")
    said = str(bnfix.inspect(tmp_path / "model.keras"))
    assert "layers not told by the file, 1 BatchNormalization" in said


def test_layers_in_the_configuration_of_a_class_are_told(K, tmp_path):
    """As tasks of KerasHub hold a backbone, and models of one's own a list of blocks."""
    L = K.layers

    @K.saving.register_keras_serializable(package="tests")
    class Task(K.Model):
        def __init__(self, backbone=None, blocks=None, **options):
            super().__init__(**options)
            self.backbone, self.blocks = backbone, list(blocks)
            self.renamed = L.BatchNormalization(name="last")

        def call(self, inputs):
            x = self.backbone(inputs)
            for block in self.blocks:
                x = block(x)
            return self.renamed(x)

        def get_config(self):
            parts = {"backbone": self.backbone, "blocks": self.blocks, "norm": self.renamed}
            save = K.saving.serialize_keras_object
            return {"name": self.name, **{key: save(part) for key, part in parts.items()}}

    inputs = K.Input((3,))
    x = L.BatchNormalization(name="bn")(L.Dense(4, name="stem")(inputs))
    model = Task(K.Model(inputs, x, name="base"), [L.Dense(4, name="a"), L.BatchNormalization()])
    model(np.zeros((2, 3), "float32"))
    model.backbone.get_layer("bn").moving_mean.assign([1.0, np.nan, 0, 0])
    model.save(tmp_path / "model.keras")
    report = bnfix.inspect(tmp_path / "model.keras")
    told = {layer.path: layer.kind for layer in report.layers}
    assert told["base/bn"] == "BatchNormalization"
    assert told["a"] == "Dense"
    assert len(report.batch_norms) == 3
    found = {norm.path: [defect.kind for defect in norm.defects] for norm in report.batch_norms}
    assert all("no_statistics" not in kinds for kinds in found.values())
    assert ["nonfinite"] in found.values()
    if K.__name__ == "keras":  # tf_keras lists the parts of a class under names of its own
        assert found["base/bn"] == ["nonfinite"]
    assert "told by the file" in str(report)  # one is where its class likes to keep it


def test_no_updates_are_none_and_not_less(K):
    model = K.Sequential([K.Input((3,)), K.layers.BatchNormalization(name="bn")])
    model.layers[-1].gamma.assign([2.0, 1, 1])
    x = np.random.default_rng(0).normal(3, 2, size=(64, 3)).astype("float32")
    said = str(bnfix.diagnose(model, x)) + str(
        bnfix.recalibrate(model, x, guard=False, verbose=0, return_report=True)[1]
    )
    assert "-0" not in said
    assert "100.0%" in said
