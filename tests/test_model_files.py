"""Every real model file: looked into, opened by the right Keras or explained, repaired on disk.

pytest -m long -s tests/test_model_files.py     # prints the table
"""

import os
import re
import warnings

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters.choose import adapter_of

KERAS3, KERAS2 = "keras", "tf_keras"
#: BatchNormalizations, kinds of defects, and who opens it or what the refusal says.
FILES = {
    "fer2013_mini_XCEPTION.119-0.65.hdf5": (14, set(), KERAS2),
    "tiny_XCEPTION_KDEF.hdf5": (14, set(), KERAS2),
    "trainedResnet.h5": (7, {"tiny_variance"}, KERAS2),
    "densenet_cifar10.hdf5": (25, set(), KERAS2),
    "fast_srgan_generator.h5": (36, {"never_updated"}, KERAS2),
    "vae_gan_decoder.keras": (7, {"never_updated"}, KERAS3),
    "eegnet_channels_first.h5": (3, set(), KERAS2),
    "audio_denoising_decoder.h5": (21, {"baked_training"}, KERAS2),
    "vww_96.h5": (27, {"tiny_variance"}, KERAS2),
    "deepbinner_EXP-NBD103_read_ends": (7, {"tiny_variance"}, KERAS2),
    "teachable_machine_keras_model.h5": (52, {"tiny_variance"}, KERAS2),
    "resblocks_custom_model_nodo.h5": (22, set(), r"custom_objects=\{'ResBlock': ResBlock\}"),
    "whale_tf_keras.keras": (3, set(), KERAS2),
    "mmsplice_acceptor_custom.h5": (2, set(), r"custom_objects=\{'ConvDNA': ConvDNA\}"),
    "kws_ref_model_savedmodel": (9, set(), KERAS2),
    "model_ToyCar.hdf5": (9, set(), KERAS2),
    "vae_gan_encoder_lambda.keras": (6, {"never_updated"}, r"\{'sampling': sampling\}"),
    "keras1_batch_to_conv2d.h5": (1, {"never_updated"}, "Keras 1 are read by no Keras of today"),
    "resnet1d.keras": (7, {"tiny_variance"}, KERAS3),
    "siamese_shared_custom.keras": (1, set(), r"custom_objects=\{'L1': L1\}"),
    "keras1_music_tagger_crnn_weights.h5": (5, set(), "weights alone"),
}
OPENED = [name for name, (*_, who) in FILES.items() if who in (KERAS2, KERAS3)]


def test_every_file_of_the_index_is_here(shared):
    lines = (shared / "models" / "INDEX.md").read_text().splitlines()
    listed = {found[1] for line in lines if (found := re.match(r"\| `([^`]+)`", line))}
    assert listed == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_real_file_is_looked_into(name, shared):
    batch_norms, kinds, _ = FILES[name]
    if name.endswith("savedmodel"):
        zoo.keras_module("tf_keras")
    report = bnfix.inspect(shared / "models" / name)
    assert len(report.batch_norms) == batch_norms
    assert {defect.kind for norm in report.batch_norms for defect in norm.defects} == kinds
    assert all(norm.channels for norm in report.batch_norms)


@pytest.mark.parametrize("name", [name for name in FILES if name not in OPENED])
def test_what_cannot_be_opened_is_explained(name, shared):
    if name.endswith(".h5"):
        zoo.keras_module("tf_keras")
    with pytest.raises(bnfix.FileError, match=FILES[name][2]):
        bnfix.load(shared / "models" / name)


def opened(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bnfix.BnfixWarning)
        return bnfix.load(path)


@pytest.mark.parametrize("name", ["eegnet_channels_first.h5", "whale_tf_keras.keras"])
def test_a_real_file_is_opened(name, shared):
    assert_opened(name, shared)


@pytest.mark.parametrize(
    ("name", "is_lost"),
    [
        ("eegnet_channels_first.h5", False),  # holds more behind it, as early Adams did
        ("tiny_XCEPTION_KDEF.hdf5", True),
    ],
)
def test_only_an_optimizer_that_begins_anew_is_told(name, is_lost, shared):
    zoo.keras_module("tf_keras")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        bnfix.load(shared / "models" / name)
    assert any("an optimizer as new" in str(one.message) for one in told) == is_lost


@pytest.mark.long
@pytest.mark.parametrize("name", OPENED)
def test_each_real_file_is_opened_by_the_right_keras(name, shared):
    assert_opened(name, shared)


def assert_opened(name, shared):
    zoo.keras_module("keras3" if FILES[name][2] == KERAS3 else "tf_keras")
    model = opened(shared / "models" / name)
    assert adapter_of(model).keras.__name__ == FILES[name][2]
    paths = [path for path, _ in adapter_of(model).batch_norms(model)]
    assert paths == [norm.path for norm in bnfix.inspect(shared / "models" / name).batch_norms]


# --- the table -----------------------------------------------------------------------------------


HEAD = ["file", "format", "Keras", "BNs", "defects"]
HEAD += ["opened", "check", "folded", "repair", "reload"]
WIDTHS = [36, 11, 8, 4, 14, 9, 7, 6, 58, 6]


def show(capsys, cells):
    with capsys.disabled():
        shown = (cell[:width].ljust(width) for cell, width in zip(cells, WIDTHS, strict=True))
        os.write(1, f"{' '.join(shown)}\n".encode())


def inputs_of(model):
    """Noise, wide enough in free dimensions for every pooling."""
    rng = np.random.default_rng(0)
    shapes = [tuple(size or 64 for size in tensor.shape[1:]) for tensor in model.inputs]
    found = [rng.normal(size=(8, *shape)).astype("float32") for shape in shapes]
    return found if len(found) > 1 else found[0]


def row(name, folder, scratch):
    """One line of the table; what must hold for each file is asserted on the way."""
    path = folder / name
    report = bnfix.inspect(path)
    defects = sorted({d.kind for norm in report.batch_norms for d in norm.defects})
    cells = [name, report.format, report.keras_version or "-", str(len(report.batch_norms))]
    cells.append(",".join(defects) or "-")
    if name not in OPENED:
        return [*cells, "explained", *["-"] * 4]
    model = opened(path)
    x = inputs_of(model)
    check = bnfix.check(model, x)
    assert check.ok == ("baked_training" not in defects), str(check)
    _, outcome = bnfix.fold(model, return_report=True)
    assert len(outcome.outcomes) == len(report.batch_norms)
    suffix = path.suffix if path.suffix in (".h5", ".hdf5", ".keras") else ".h5"
    target = scratch / f"{path.stem}{suffix}"
    _, repaired = bnfix.repair_file(path, target, ds=x, min_count=8, verbose=0, return_report=True)
    assert repaired.repair.after.ok
    once, twice = opened(target), opened(target)
    ref.assert_same_weights(once, ref.weights_of(twice))
    again = scratch / f"again{suffix}"
    bnfix.save(once, again)
    back = opened(again)
    ref.assert_close(ref.inferred(back, x), ref.inferred(once, x), 1e-6)
    return [
        *cells,
        adapter_of(model).keras.__name__,
        "ok" if check.ok else "coupled",
        f"{len(outcome.changed)}",
        "; ".join(step.split(":")[0] for step in repaired.repair.steps),
        "equal",
    ]


@pytest.mark.long
@pytest.mark.parametrize("name", FILES)
def test_a_real_file_goes_all_the_way(name, shared, tmp_path, capsys):
    if name == next(iter(FILES)):
        show(capsys, HEAD)
    show(capsys, row(name, shared / "models", tmp_path))
