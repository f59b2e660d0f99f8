"""`load` and `save`: the right Keras whatever a file is called, nothing of its own is run."""

import json
import logging
import os
import shutil
import stat
import warnings
import zipfile

import h5py
import hostile
import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters import opening
from bnfix.adapters.choose import adapter_of
from bnfix.files import packages
from bnfix.files.trust import OPTIMIZERS_OF_TF_KERAS

#: What Keras 3 does not open of tf_keras's, and what has been trouble in either.
OPENED = {
    "tf_keras": [
        "bn_renorm",
        "bn_synchronized",
        "bn_multi_axis",
        "sequential",
        "nested_called_twice",
        "shared_conv_and_bn",
        "operators_on_tensors",
        "tf_functions",
        "bn_subclass",
        "compiled",
    ],
    "keras3": ["bn_renorm", "nested_called_twice", "shared_bn", "bn_subclass", "compiled"],
}
#: What older Kerases write but do not open again.
SINCE = {("keras3", "shared_bn"): pytest.mark.since(keras3="3.7")}
CASES = [
    pytest.param(dialect, name, suffix, marks=SINCE.get((dialect, name), ()))
    for dialect, names in OPENED.items()
    for name in names
    for suffix in (".h5", ".keras")
]


def entry(dialect, name):
    return next(found for found in zoo.entries(dialect) if found.name == name)


def small(K, **compiled):
    """A BN between two linear layers, the first of a kind that Keras 3 reads no longer."""
    L = K.layers
    inputs = K.Input((4, 4, 3))
    x = L.DepthwiseConv2D(3, name="depthwise")(inputs)
    x = L.BatchNormalization(name="bn")(x)
    model = K.Model(inputs, L.Dense(2, name="dense")(L.Flatten()(x)))
    zoo.randomise_batch_norms(model, 0)
    if compiled:
        model.compile(**compiled)
    return model


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(8, 4, 4, 3)).astype("float32")


# --- which Keras ---------------------------------------------------------------------------------


@pytest.mark.every(3)
@pytest.mark.parametrize(("dialect", "name", "suffix"), CASES)
def test_a_saved_model_comes_back_from_its_own_keras(dialect, name, suffix, tmp_path):
    model = zoo.build(entry(dialect, name), dialect)
    inputs = zoo.inputs_for(model, rows=2)
    bnfix.save(model, tmp_path / f"model{suffix}")
    again = bnfix.load(tmp_path / f"model{suffix}", zoo.custom_objects(dialect))
    ours, theirs = adapter_of(again), adapter_of(model)
    assert ours is theirs
    assert ours.is_compiled(again) == ours.is_compiled(model)
    ref.assert_close(ref.inferred(again, inputs), ref.inferred(model, inputs), 1e-6)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_the_name_of_a_file_does_not_matter(K, suffix, x, tmp_path):
    model = small(K)
    bnfix.save(model, tmp_path / f"right{suffix}")
    for name in ("model", "model.weights.h5", "model.h5", "model.keras", "m.PB", "a b.c"):
        shutil.copyfile(tmp_path / f"right{suffix}", tmp_path / name)
        again = bnfix.load(tmp_path / name)
        assert adapter_of(again) is adapter_of(model)
        ref.assert_close(ref.inferred(again, x), ref.inferred(model, x), 1e-6)
    assert len(list(tmp_path.iterdir())) == 7


def test_the_log_says_which_keras_opened_a_file(K, tmp_path, caplog):
    bnfix.save(small(K), tmp_path / "model.keras")
    with caplog.at_level(logging.INFO, logger="bnfix"):
        bnfix.load(tmp_path / "model.keras")
    (said,) = caplog.messages
    assert f"opened by {K.__name__} {K.__version__}" in said
    assert "model.keras (written by Keras" in said


def test_a_file_that_may_not_be_written_is_read(K, tmp_path, monkeypatch):
    """tf_keras opens archives for writing, so it gets a copy where that is not allowed."""
    path = tmp_path / "model.keras"
    bnfix.save(small(K), path)
    path.chmod(0o400)
    seen = []
    monkeypatch.setattr(os, "access", lambda *_, **__: seen.append(1) or False)
    assert bnfix.load(path).count_params() == small(K).count_params()
    assert bool(seen) == (K.__name__ == "tf_keras")


# --- what comes along ----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_training_goes_on_where_it_was(K, suffix, x, tmp_path):
    model = small(K, optimizer="adam", loss="mse")
    y = np.ones((8, 2), "float32")
    model.fit(x, y, epochs=3, verbose=0)
    bnfix.save(model, tmp_path / f"model{suffix}")
    again = bnfix.load(tmp_path / f"model{suffix}")
    assert adapter_of(again).training_steps(again) == 3
    model.fit(x, y, epochs=1, verbose=0, shuffle=False)
    again.fit(x, y, epochs=1, verbose=0, shuffle=False)
    for ours, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_a_state_that_does_not_fit_the_optimizer_is_told_once_and_by_bnfix(K, x, tmp_path, caplog):
    model = small(K, optimizer="adam", loss="mse")
    model.fit(x, np.ones((8, 2), "float32"), verbose=0)
    bnfix.save(model, tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        state = file["optimizer_weights"].attrs
        state["weight_names"] = state["weight_names"][::-1]
    with pytest.warns(bnfix.BnfixWarning, match="opened with an optimizer as new") as told:
        again = bnfix.load(tmp_path / "model.h5")
    assert [one.category for one in told].count(bnfix.BnfixWarning) == 1
    assert not [word for word in ("optimizer", "compiled metrics") if word in caplog.text]
    assert adapter_of(again).training_steps(again) == 0
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


def test_an_optimizer_written_down_as_that_of_a_backend_is_keras_own(tmp_path):
    K = zoo.keras_module("keras3")
    bnfix.save(small(K, optimizer="adam", loss="mse"), tmp_path / "model.keras")
    there = {"module": "keras.src.backend.torch.optimizers.torch_adam", "registered_name": "Adam"}
    old = zipfile.ZipFile(tmp_path / "model.keras")
    config = json.loads(old.read("config.json"))
    config["compile_config"]["optimizer"] |= there
    with old, zipfile.ZipFile(tmp_path / "torch.keras", "w") as new:
        for name in old.namelist():
            new.writestr(name, json.dumps(config) if name == "config.json" else old.read(name))
    with warnings.catch_warnings():
        warnings.simplefilter("error", bnfix.BnfixWarning)
        again = bnfix.load(tmp_path / "torch.keras")
    assert isinstance(again.optimizer, K.optimizers.Adam)


def made_up_loss(y, p):
    return (y - p) ** 2


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_loss_that_is_not_there_costs_the_compile_state_only(K, suffix, x, tmp_path):
    model = small(K, optimizer="adam", loss=made_up_loss)
    path = tmp_path / f"model{suffix}"
    bnfix.save(model, path)
    with pytest.warns(bnfix.BnfixWarning, match="without its compile state.*made_up_loss"):
        again = bnfix.load(path)
    assert not adapter_of(again).is_compiled(again)
    ref.assert_close(ref.inferred(again, x), ref.inferred(model, x), 1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error", bnfix.BnfixWarning)
        again = bnfix.load(path, {"made_up_loss": made_up_loss})
    assert adapter_of(again).is_compiled(again)


def test_a_loss_that_is_not_there_is_told_by_the_file_not_by_keras(K, tmp_path, monkeypatch):
    """A Keras that takes any name for a loss would give a model that fails when it is trained."""
    bnfix.save(small(K, optimizer="adam", loss=made_up_loss), tmp_path / "model.h5")
    compiled, real = [], opening.open_model

    def open_model(*args, compile, **options):
        compiled.append(compile)
        return real(*args, compile=compile, **options)

    monkeypatch.setattr(opening, "open_model", open_model)
    with pytest.warns(bnfix.BnfixWarning, match="made_up_loss is not Keras's own"):
        bnfix.load(tmp_path / "model.h5")
    assert compiled == [False]


# --- code of the user's own ----------------------------------------------------------------------


def custom_layer(K):
    class Doubled(K.layers.Layer):
        def call(self, inputs):
            return inputs * 2

    return Doubled


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_missing_class_is_named_and_can_be_handed_in(K, suffix, tmp_path):
    Doubled = custom_layer(K)
    model = K.Sequential([K.Input((4,)), K.layers.BatchNormalization(), Doubled()])
    path = tmp_path / f"model{suffix}"
    bnfix.save(model, path)
    with pytest.raises(bnfix.FileError, match=r"custom_objects=\{'Doubled': Doubled\}"):
        bnfix.load(path)
    again = bnfix.load(path, {"Doubled": Doubled})
    values = np.ones((2, 4), "float32")
    ref.assert_close(ref.inferred(again, values), ref.inferred(model, values), 1e-6)


TFMOT = "tensorflow_model_optimization.python.core"


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize(
    ("name", "module", "line"),
    [
        (
            "QuantizeWrapperV2",
            f"{TFMOT}.quantization.keras.quantize_wrapper",
            "with tfmot.quantization.keras.quantize_scope(): bnfix.load(path)",
        ),
        (
            "PruneLowMagnitude",
            f"{TFMOT}.sparsity.keras.pruning_wrapper",
            "with tfmot.sparsity.keras.prune_scope(): bnfix.load(path)",
        ),
    ],
)
def test_classes_of_known_packages_get_the_line_that_opens_them(
    K, suffix, name, module, line, tmp_path, monkeypatch
):
    """Such a scope is Keras's own `custom_object_scope`, and is heeded."""
    Named = type(name, (custom_layer(K),), {"__module__": module})
    model = K.Sequential([K.Input((4,)), K.layers.BatchNormalization(), Named()])
    path = tmp_path / f"model{suffix}"
    bnfix.save(model, path)
    with pytest.raises(bnfix.FileError) as refusal:
        bnfix.load(path)
    assert line in str(refusal.value)
    assert "custom_objects=" not in str(refusal.value)
    assert any(line in note for note in bnfix.inspect(path).notes)
    with K.utils.custom_object_scope({name: Named}):
        assert bnfix.load(path).count_params() == 16
        monkeypatch.setattr(opening, "open_model", lambda *_, **__: {}["damaged"])
        with pytest.raises(bnfix.FileError) as refusal:
            bnfix.load(path)
        assert line not in str(refusal.value), "who has done so is not told to"


def test_a_class_of_ones_own_is_not_taken_for_a_packages(K, tmp_path):
    """The file says which module it is from."""
    Named = type("PruneLowMagnitude", (custom_layer(K),), {"__module__": "mine"})
    path = tmp_path / "model.keras"
    bnfix.save(K.Sequential([K.Input((4,)), Named()]), path)
    with pytest.raises(bnfix.FileError, match=r"Pass your own: .*'PruneLowMagnitude': Prune"):
        bnfix.load(path)
    assert not bnfix.inspect(path).notes


def test_the_classes_of_tfmot_are_those_that_its_scopes_bring(monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    why = "needs tensorflow-model-optimization, which the suite does not bring"
    tfmot = pytest.importorskip("tensorflow_model_optimization", reason=why)
    scopes = {
        "quantization": tfmot.quantization.keras.quantize_scope,
        "sparsity": tfmot.sparsity.keras.prune_scope,
        "clustering": tfmot.clustering.keras.cluster_scope,
    }
    for part, scope in scopes.items():
        package = next(p for p in packages._PACKAGES if p.module == f"{TFMOT}.{part}")
        with scope():
            known = opening.in_scope(package.classes)
        assert package.classes - known.keys() <= {"ConstantSparsity", "PolynomialDecay"}
        for one in known.values():
            assert one.__module__.startswith(package.module)


def test_a_class_registered_under_a_package_may_be_handed_in_by_its_bare_name(K, tmp_path):
    Doubled = custom_layer(K)
    registered = K.saving.register_keras_serializable(package="Pack")(Doubled)
    model = K.Sequential([K.Input((4,)), K.layers.BatchNormalization(), registered()])
    path = tmp_path / "model.keras"
    bnfix.save(model, path)
    assert bnfix.load(path).count_params() == 16, "registered classes are known"
    K.saving.get_custom_objects().pop("Pack>Doubled")
    with pytest.raises(bnfix.FileError, match="Doubled"):
        bnfix.load(path)
    assert bnfix.load(path, {"Doubled": Doubled}).count_params() == 16


def test_a_name_that_is_handed_in_does_not_let_its_module_be_imported(tmp_path):
    """Without a registered name Keras would not look among the custom objects."""
    zoo.keras_module("tf_keras")
    path = tmp_path / "evil.keras"
    evil = {"module": "canary_module", "class_name": "Evil", "registered_name": None, "config": {}}
    hostile.plain_keras(path, hostile.keras3_config(evil), version="2.15.0")
    with pytest.raises(bnfix.UnsafeFileError, match="would import 'canary_module'"):
        bnfix.load(path, {"Evil": object})


def test_who_insists_gets_the_lambda_and_whoever_saves_it_is_told(K, x, tmp_path, caplog):
    L = K.layers
    inputs = K.Input((4, 4, 3))
    outputs = L.Lambda(lambda v: v * 2, output_shape=(4, 4, 3), name="twice")(inputs)
    model = K.Model(inputs, L.BatchNormalization()(outputs))
    for suffix in (".h5", ".keras"):
        path = tmp_path / f"model{suffix}"
        with pytest.warns(bnfix.BnfixWarning, match=r"twice would run .* allow_unsafe=True"):
            bnfix.save(model, path)
        assert "HDF5" not in caplog.text
        with pytest.raises(bnfix.UnsafeFileError, match="twice would run Python bytecode"):
            bnfix.load(path)
        again = bnfix.load(path, allow_unsafe=True)
        ref.assert_close(ref.inferred(again, x), ref.inferred(model, x), 1e-6)


def test_a_global_switch_does_not_let_lambdas_through(tmp_path, monkeypatch):
    """Even where the look at the configuration is taken out, Keras's own safe mode is on."""
    import keras
    from keras.src.backend.common import global_state

    from bnfix.files import plan

    path = tmp_path / "evil.keras"
    hostile.CORPUS["lambda_of_keras_3.keras"](path)
    monkeypatch.setenv("BNFIX_CANARY", str(tmp_path / "canary"))
    monkeypatch.setattr(plan, "concerns", lambda *_: iter(()))
    keras.config.enable_unsafe_deserialization()
    try:
        with pytest.raises(bnfix.FileError, match="cannot be opened"):
            bnfix.load(path)
    finally:
        global_state.set_global_attribute("safe_mode_saving", None)
    assert not (tmp_path / "canary").exists()


# --- what cannot be opened -----------------------------------------------------------------------


def test_weights_alone_are_explained(K, tmp_path):
    model = small(K)
    model.save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(bnfix.FileError, match=r"weights alone.*model.load_weights"):
        bnfix.load(tmp_path / "m.weights.h5")


def test_a_full_disk_is_told_and_a_name_of_250_bytes_taken(K, tmp_path, monkeypatch):
    from bnfix.files import save

    model = K.Sequential([K.Input((3,)), K.layers.Dense(2)])
    place = tmp_path / f"{'ä' * 122}.keras"  # two bytes each
    bnfix.save(model, place)
    assert bnfix.load(place).count_params() == 8

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(save.opening, "save_model", full)
    before = place.read_bytes()
    with pytest.raises(bnfix.ResourceError, match=r"the disk is full\. Free some space"):
        bnfix.save(model, place, overwrite=True)
    assert place.read_bytes() == before
    assert list(tmp_path.iterdir()) == [place]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(bnfix.FileError, match="cannot be read: File name too long"):
        bnfix.load("x" * 5000)
    with pytest.raises(bnfix.FileError, match=r"nowhere\.h5 is not there"):
        bnfix.load(tmp_path / "nowhere.h5")


def test_functions_that_keras_3_writes_but_does_not_find_again_are_explained(tmp_path):
    import keras

    inputs = keras.Input((4,))
    outputs = keras.ops.absolute(keras.layers.BatchNormalization()(inputs))
    bnfix.save(keras.Model(inputs, outputs), tmp_path / "model.h5")
    with pytest.raises(bnfix.FileError, match=r"keras.ops \(Absolute\).*save the model as .keras"):
        bnfix.load(tmp_path / "model.h5")


# --- save ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model", "model.pb", "m.weights.h5", "model.tf"])
def test_a_name_without_a_format_is_refused(K, name, tmp_path):
    with pytest.raises(bnfix.FileError, match=r"names no format.*Nothing was changed"):
        bnfix.save(small(K), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_saved_leaves_the_old_file(K, tmp_path):
    class Bad(K.layers.Layer):
        def get_config(self):
            raise RuntimeError("no configuration")

        def call(self, inputs):
            return inputs

    path = tmp_path / "model.keras"
    bnfix.save(small(K), path)
    before = path.read_bytes()
    with pytest.raises(bnfix.FileError, match=r"cannot be saved as .keras.*no configuration"):
        bnfix.save(K.Sequential([K.Input((4,)), Bad()]), path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link_and_permissions_stay(K, tmp_path):
    real, link = tmp_path / "real.keras", tmp_path / "link.keras"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real.name)
    with pytest.raises(bnfix.FileError, match=r"link.keras exists\. .* overwrite=True"):
        bnfix.save(small(K), link)
    assert real.read_bytes() == b"old"
    bnfix.save(small(K), link, overwrite=True)
    assert link.is_symlink()
    assert zipfile.is_zipfile(real)
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_a_folder_that_is_not_there_is_named(K, tmp_path):
    with pytest.raises(bnfix.FileError, match=r"x/model.h5 cannot be written: No such file"):
        bnfix.save(small(K), tmp_path / "x" / "model.h5")


def test_what_is_no_model_is_refused_before_the_place_is_looked_at(tmp_path):
    with pytest.raises(bnfix.UnsupportedModelError):
        bnfix.save("model", tmp_path / "model.h5")
    assert list(tmp_path.iterdir()) == []


def test_the_format_follows_the_extension(K, tmp_path):
    for name, check in (("a.h5", h5py.is_hdf5), ("a.hdf5", h5py.is_hdf5)):
        bnfix.save(small(K), tmp_path / name)
        assert check(tmp_path / name)
    bnfix.save(small(K), tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        assert json.loads(archive.read("metadata.json"))["keras_version"] == K.__version__


def test_optimizers_that_tf_keras_registers_as_if_they_were_a_users_are_known():
    registered = zoo.keras_module("tf_keras").utils.get_custom_objects()
    named = {
        key.removeprefix("Custom>")
        for key, value in registered.items()
        if value.__module__.startswith("tf_keras.src.optimizers.")
    }
    assert named == OPTIMIZERS_OF_TF_KERAS


def _of_this_module(x):
    return x


def test_bytecode_that_does_not_run_is_nothing_that_could_be_handed_in(tmp_path):
    K, path = zoo.keras_module("keras3"), tmp_path / "model.keras"
    far = K.layers.Lambda(lambda x: _of_this_module(x))  # whose globals no file has
    inputs = K.Input((4,))
    K.Model(inputs, K.layers.BatchNormalization()(far(inputs))).save(path)
    with pytest.raises(bnfix.FileError, match="Lambda") as refusal:
        bnfix.load(path, allow_unsafe=True)
    assert "__lambda__" not in str(refusal.value)
