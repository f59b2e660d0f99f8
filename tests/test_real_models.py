"""Real trained model files from public repositories: load, check, fold, compare."""

import re

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters.choose import adapter_of

#: Which Kerases load the file as it is, what check finds, and how many BNs fold.
REAL = {
    "fer2013_mini_XCEPTION.119-0.65.hdf5": (("keras3", "tf_keras"), 14, 14),
    "tiny_XCEPTION_KDEF.hdf5": (("keras3", "tf_keras"), 14, 14),
    "trainedResnet.h5": (("keras3", "tf_keras"), 7, 7),
    "densenet_cifar10.hdf5": (("keras3", "tf_keras"), 25, 0),
    "fast_srgan_generator.h5": (("tf_keras",), 36, 36),
    "vae_gan_decoder.keras": (("keras3",), 7, 7),
    "eegnet_channels_first.h5": (("keras3", "tf_keras"), 3, 3),
    "audio_denoising_decoder.h5": (("tf_keras",), 21, 0),
    "vww_96.h5": (("tf_keras",), 27, 27),
    "deepbinner_EXP-NBD103_read_ends": (("tf_keras",), 7, 3),
    "teachable_machine_keras_model.h5": (("tf_keras",), 52, 52),
}
BAKED = {"audio_denoising_decoder.h5": 21}
#: Its BNs list their axis, `[1]`, which older Kerases take for another one.
READ_SINCE = {("eegnet_channels_first.h5", "keras3"): pytest.mark.since(keras3="3.9")}


def marks_of(name, dialect):
    return [READ_SINCE[name, dialect]] if (name, dialect) in READ_SINCE else []


def cases(names):
    """Half a minute is spent on the 21 BNs that are baked."""
    return [
        pytest.param(
            (name, dialect),
            marks=[*marks_of(name, dialect), *([pytest.mark.long] if name in BAKED else [])],
            id=f"{dialect}-{name}",
        )
        for name in names
        for dialect in REAL[name][0]
    ]


def test_every_file_that_the_index_asks_for_first_is_tested_here(shared):
    lines = (shared / "models" / "INDEX.md").read_text().splitlines()
    first = {re.match(r"\| `([^`]+)`", line)[1] for line in lines if line.endswith("| first |")}
    assert first <= set(REAL)


@pytest.fixture
def loaded(request, shared, tmp_path):
    """Name and model; the file is read from a copy, for its suffix may say nothing."""
    name, dialect = request.param
    source = shared / "models" / name
    file = source
    if not source.suffix or "." not in name or source.suffix not in (".h5", ".hdf5", ".keras"):
        file = tmp_path / f"{name}.h5"
        file.write_bytes(source.read_bytes())
    return name, zoo.keras_module(dialect).models.load_model(str(file), compile=False)


def inputs_of(model):
    """Two batches' worth of noise, wide enough in free dimensions for every pooling."""
    rng = np.random.default_rng(0)
    shapes = [tuple(size or 64 for size in tensor.shape[1:]) for tensor in model.inputs]
    found = [rng.normal(size=(4, *shape)).astype("float32") for shape in shapes]
    return found if len(found) > 1 else found[0]


@pytest.mark.every(3)
@pytest.mark.parametrize("loaded", cases(REAL), indirect=True)
def test_a_real_model_is_checked_folded_and_stays_as_it_was(loaded):
    name, model = loaded
    _, batch_norms, folds = REAL[name]
    assert len(zoo.batch_norms(model)) == batch_norms
    x = inputs_of(model)
    before = ref.weights_of(model)

    report = bnfix.check(model, x)
    found = [finding for finding in report.findings if finding.cause == "batch_statistics"]
    assert report.ok == (name not in BAKED), str(report)
    assert len(found) == BAKED.get(name, 0)

    with adapter_of(model).preserved(model):
        wanted = ref.inferred(model, x)
    folded, outcome = bnfix.fold(model, return_report=True)
    assert (len(outcome.changed), len(outcome.declined)) == (folds, batch_norms - folds)
    assert all(declined.detail for declined in outcome.declined)
    ref.assert_same_weights(model, before)
    with adapter_of(folded).preserved(folded):
        ref.assert_close(ref.inferred(folded, x), wanted, 1e-5)


@pytest.mark.parametrize("loaded", cases(BAKED), indirect=True)
def test_a_baked_real_model_is_repaired(loaded):
    name, model = loaded
    repaired, story = bnfix.repair(model, inputs_of(model), return_report=True)
    assert not story.before.ok
    assert story.after.ok
    assert f"stripped training=True from {BAKED[name]} calls" in story.steps[0]
    assert repaired is not model
