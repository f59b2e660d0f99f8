"""`inspect` says of a file what is so of the model in it, and imports no Keras for that."""

import io
import json
import math
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import hostile
import numpy as np
import pytest
import zoo

import bnfix
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.subject import Subject
from bnfix.diagnosis.model_facts import facts_of
from bnfix.files import weight_paths as placing_room
from bnfix.files.config import layers_of
from bnfix.files.container import format_of, opened
from bnfix.files.weight_paths import ByName, ByPlace

ROLES = (*placing_room.ROLES, "moving_stddev", "renorm_mean", "renorm_stddev")
#: What could be told wrong: few weights, many; nested, wrapped, shared; flags around and within.
TOLD = {
    "bn_scale_false", "bn_center_false", "bn_statistics_only", "bn_renorm", "bn_synchronized",
    "bn_multi_axis", "bn_frozen", "bn_subclass", "sequential_of_models", "three_deep",
    "nested_called_twice", "time_distributed_bn", "custom_wrapper_of_bn", "frozen_whole",
    "baked_training", "bn_across_the_border", "shared_conv_and_bn", "operators_on_tensors",
}  # fmt: skip
#: Saved, both share the layer; each model has its own when it comes back, as the file tells.
APART = {"shared_across_models", "shared_inside_and_outside"}
CASES = zoo.cases(
    having={"bn"},
    lacking={"subclassed"},
    where=lambda entry, _: entry.name not in APART,
    quick=lambda entry, dialect: entry.name in TOLD or "baked" in entry.tags_in(dialect),
)


def assert_told(model, path, placing=placing_room.weight_paths_in):
    """The layers, flags and weights that the file at `path` tells are those of `model`."""
    adapter = adapter_of(model)
    theirs = dict(adapter.batch_norms(model))
    baked = {facts.path: facts.baked for facts in facts_of(Subject.of(model)).norms}
    with opened(*format_of(path)) as stored:
        places = placing(stored.weights)
        for layer in layers_of(stored.model):
            if not layer.is_batch_norm:
                continue
            norm = theirs.pop(layer.path)
            assert layer.trainable == bool(norm.trainable), layer.path
            if layer.path in baked:
                assert layer.calls - {None} == baked[layer.path], layer.path
            found = {r: stored.weights.values(p) for r, p in places.of(layer).items()}
            assert set(found) == {r for r in ROLES if getattr(norm, r, None) is not None}
            for role, values in found.items():
                wanted = np.asarray(getattr(norm, role).numpy()).astype("float64")
                np.testing.assert_allclose(values.astype("float64"), wanted, rtol=1e-6)
    return set(theirs)


@pytest.mark.every(3)
@pytest.mark.parametrize(("entry", "dialect"), CASES)
def test_a_file_tells_what_the_model_is(entry, dialect, tmp_path):
    model = zoo.build(entry, dialect)
    written = 0
    for suffix in (".h5", ".keras"):
        path = tmp_path / f"model{suffix}"
        try:
            bnfix.save(model, path)
        except bnfix.FileError:
            continue  # what its Keras cannot save is the matter of the tests of saving
        written += 1
        hidden = assert_told(model, path)
        report = bnfix.inspect(path)
        assert len(report.batch_norms) == len(adapter_of(model).batch_norms(model))
        assert sum(norm.kind is None for norm in report.batch_norms) == len(hidden)
        assert not hidden or {"opaque_bn", "custom"} & entry.tags_in(dialect)
    assert written


class MeanFirst(ByPlace):
    """Takes the weights in another order than they are stored."""

    def of(self, layer):
        places = super().of(layer)
        return dict(zip(places, reversed(places.values()), strict=True))


class ByBareName(ByName):
    """Takes the first layer of that name, wherever it is nested."""

    def of(self, layer):
        stores = self._in_group(layer.group)
        last = layer.path.rpartition("/")[2]
        return next(places for prefix, places in stores.items() if last[:2] in prefix)


class Uncounted(ByPlace):
    """Takes every layer for the first of its class."""

    def of(self, layer):
        place = layer.place.rstrip("_0123456789")
        return {role: f"{place}/vars/{number}" for number, role in enumerate(placing_room.ROLES)}


@pytest.mark.parametrize(
    ("mutant", "suffix"), [(MeanFirst, ".keras"), (Uncounted, ".keras"), (ByBareName, ".h5")]
)
def test_the_law_rejects_weights_taken_from_another_place(K, mutant, suffix, tmp_path):
    L = K.layers
    inner = K.Sequential([K.Input((4,)), L.BatchNormalization(), L.BatchNormalization()])
    model = K.Sequential([K.Input((4,)), inner, L.BatchNormalization()])
    zoo.randomise_batch_norms(model, 0)
    path = tmp_path / f"model{suffix}"
    bnfix.save(model, path)
    assert_told(model, path)

    def wrong(hdf5):
        return mutant(hdf5, "model_weights") if mutant is ByBareName else mutant(hdf5)

    with pytest.raises((AssertionError, bnfix.FileError)):
        assert_told(model, path, wrong)


# --- defects -------------------------------------------------------------------------------------

GOOD = {
    "gamma": [1.0, 2, 3, 4],
    "beta": [0.0, 1, 2, 3],
    "moving_mean": [0.5, 0, 0, 0],
    "moving_variance": [1.0, 2, 3, 4],
}


def planted(path, **changes):
    """A file whose BN has the weights of `GOOD` but for `changes`; None takes one out."""
    hostile.plain_h5(path)
    with h5py.File(path, "a") as file:
        for role, values in {**GOOD, **changes}.items():
            del file[f"model_weights/bn/bn/{role}:0"]
            if values is not None:
                file[f"model_weights/bn/bn/{role}:0"] = np.asarray(values, "float32")
        kept = [role for role in GOOD if changes.get(role, ()) is not None]
        file["model_weights/bn"].attrs["weight_names"] = [f"bn/{r}:0".encode() for r in kept]
    return bnfix.inspect(path)


@pytest.mark.parametrize(
    ("changes", "kind", "severity", "detail"),
    [
        ({}, None, None, None),
        ({"moving_mean": [math.nan, 0, 0, 0]}, "nonfinite", "fault", "moving_mean: 1 of 4"),
        ({"moving_variance": [1, math.inf, 1, math.nan]}, "nonfinite", "fault", "2 of 4"),
        ({"gamma": [math.nan] * 4}, "nonfinite", "fault", "gamma: 4 of 4"),
        ({"moving_variance": [1, -2, 1, 1]}, "negative_variance", "fault", "1 of 4.*down to -2"),
        ({"moving_variance": [1, 9e-7, 0, 1]}, "tiny_variance", "note", "2 of 4.*1e-06"),
        ({"moving_variance": [1, 1.1e-6, 1, 2]}, None, None, None),
        (
            {"moving_mean": [0] * 4, "moving_variance": [1] * 4},
            "never_updated",
            "warning",
            "gamma and beta trained",
        ),
        (
            {
                "gamma": [1] * 4,
                "beta": [0] * 4,
                "moving_mean": [0] * 4,
                "moving_variance": [1] * 4,
            },
            "never_updated",
            "note",
            "never been trained",
        ),
        ({"moving_mean": [0.5, 0, 0]}, "wrong_length", "fault", r"moving_mean \(3,\)"),
        ({"moving_mean": None}, "no_statistics", "fault", "not in the file"),
    ],
)
def test_each_defect_is_told_and_nothing_else(changes, kind, severity, detail, tmp_path):
    report = planted(tmp_path / "model.h5", **changes)
    (norm,) = report.batch_norms
    assert [found.kind for found in norm.defects] == ([kind] if kind else [])
    assert bool(report) == (severity in (None, "note"))
    if kind:
        (defect,) = norm.defects
        assert defect.severity == severity
        assert re.search(detail, defect.detail), defect.detail
        assert f"{severity}: {kind} in bn" in str(report)


def test_the_configuration_of_a_layer_is_told(tmp_path):
    norm = planted(tmp_path / "model.h5").batch_norms[0]
    told = (norm.path, norm.kind, norm.axis, norm.epsilon, norm.momentum, norm.channels)
    assert told == ("bn", "BatchNormalization", (1,), 1e-3, 0.9, 4)


# --- the report ----------------------------------------------------------------------------------


def test_a_report_is_plain_data_and_prints_without_obeying_the_file(tmp_path):
    text = hostile.config()
    text["config"]["layers"][1]["config"]["name"] = "b\x1b[2Jn\n\u202e"
    report_of_names = tmp_path / "model.h5"
    with h5py.File(report_of_names, "w") as file:
        file.attrs["model_config"] = json.dumps(text)
        file.create_group("model_weights").attrs["layer_names"] = np.array([], "S1")
    report = bnfix.inspect(report_of_names)
    assert all(line.isprintable() for line in str(report).splitlines())
    again = json.loads(json.dumps(report.to_dict()))
    assert again["batch_norms"][0]["defects"][0]["kind"] == "no_statistics"
    assert again["layers"][0] == {"path": "in", "kind": "InputLayer"}


def test_what_opening_would_run_or_need_is_told(tmp_path):
    for name, word in (
        ("marshalled_lambda.h5", "bytecode"),
        ("writes_a_file.h5", "io.write_file"),
        ("vocabulary_of_this_machine.h5", "/etc/passwd"),
    ):
        hostile.CORPUS[name](tmp_path / name)
        report = bnfix.inspect(tmp_path / name)
        assert word in report.unsafe[0]
        assert "unsafe: evil would" in str(report)
    hostile.CORPUS["imports_a_module.h5"](tmp_path / "x.h5")
    assert bnfix.inspect(tmp_path / "x.h5").needs == ("act",)


def test_weights_alone_are_told_by_their_names(K, tmp_path):
    L = K.layers
    layers = [K.Input((4,)), L.BatchNormalization(), L.Dense(3), L.BatchNormalization(scale=False)]
    model = K.Sequential(layers)
    model.save_weights(tmp_path / "m.weights.h5")
    report = bnfix.inspect(tmp_path / "m.weights.h5")
    assert report.format == "weights"
    assert [norm.channels for norm in report.batch_norms] == [4, 3]
    assert "weights alone" in str(report)


def test_a_saved_model_is_told_and_opened_without_running_it(tmp_path):
    K = zoo.keras_module("tf_keras")
    L = K.layers
    inner = K.Sequential([K.Input((4,)), L.Dense(4), L.BatchNormalization(name="a")], name="inner")
    inputs = K.Input((4,))
    outputs = L.BatchNormalization(name="b")(inner(inputs), training=True)
    model = K.Model(inputs, outputs)
    model.compile("adam", "mse")
    zoo.randomise_batch_norms(model, 0)
    model.save(tmp_path / "saved", save_format="tf")
    report = bnfix.inspect(tmp_path / "saved")
    assert [norm.path for norm in report.batch_norms] == ["inner/a", "b"]
    assert [norm.channels for norm in report.batch_norms] == [4, 4]
    assert [norm.training for norm in report.batch_norms] == [(), (True,)]
    again = bnfix.load(tmp_path / "saved")
    assert again.optimizer is not None
    for ours, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_exported_is_a_program_and_told_as_one(K, tmp_path):
    zoo.tensorflow()
    zoo.keras_module("tf_keras")  # which reads SavedModels
    inputs = K.Input((4,))
    model = K.Model(inputs, K.layers.BatchNormalization()(inputs))
    model.export(str(tmp_path / "served"))
    report = bnfix.inspect(tmp_path / "served")
    assert report.format == "saved_model"
    assert any("can only be run" in note for note in report.notes)
    with pytest.raises(bnfix.FileError, match=r"load_weights\('.*variables'\)"):
        bnfix.load(tmp_path / "served")


# --- what it costs -------------------------------------------------------------------------------


def seconds_and_modules(path: Path) -> tuple[float, list[str]]:
    """Of a process that inspects `path`: its time, and what it has imported of the heavy ones."""
    code = (
        "import sys, time, bnfix; bnfix.inspect(sys.argv[1]);"
        "print([m for m in ('tensorflow', 'keras', 'tf_keras', 'rich') if m in sys.modules]);"
        "print(time.process_time())"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(bnfix.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    modules, seconds = done.stdout.splitlines()
    return float(seconds), json.loads(modules.replace("'", '"'))


def test_no_keras_is_imported(tmp_path):
    hostile.plain_keras(tmp_path / "model.keras")
    assert seconds_and_modules(tmp_path / "model.keras")[1] == []


@pytest.mark.long
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_resnet50_takes_less_than_half_a_second(K, suffix, tmp_path):
    bnfix.save(K.applications.ResNet50(weights=None), tmp_path / f"model{suffix}")
    assert min(seconds_and_modules(tmp_path / f"model{suffix}")[0] for _ in range(3)) < 0.5


def test_keras_2_13_counted_layers_with_weights_twice(tmp_path):
    """Its list of layers held each of them under two names, and it numbered the entries."""
    K = zoo.keras_module("tf_keras")
    L = K.layers
    norms = [L.BatchNormalization(name=name) for name in ("first", "second")]
    model = K.Sequential([K.Input((3,)), norms[0], L.Dense(2), norms[1]])
    new, old = tmp_path / "new.keras", tmp_path / "old.keras"
    model.save(new)
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, "w") as target:
        for name in ("config.json", "metadata.json"):
            target.writestr(name, source.read(name))
        content = io.BytesIO(source.read("model.weights.h5"))
        with h5py.File(content, "a") as file:
            file.move("layers/batch_normalization_1", "layers/batch_normalization_2")
            file.move("layers", "_layer_checkpoint_dependencies")
        target.writestr("model.weights.h5", content.getvalue())
    told = [bnfix.inspect(path).to_dict()["batch_norms"] for path in (new, old)]
    assert [norm["channels"] for norm in told[1]] == [3, 2]
    assert told[0] == told[1]
