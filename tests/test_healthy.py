"""No false alarm: healthy models of every kind pass check and diagnose; rounding has a size."""

import re

import faults
import healthy
import numpy as np
import pytest
import zoo
from test_check import NOT_CALM
from test_check import QUICK as CHECKED
from test_real_models import BAKED, REAL, inputs_of, marks_of

import bnfix
from bnfix.checks.check_report import Finding

#: Models of the zoo that have something wrong on purpose, as `diagnose` sees it.
ODD = {
    "foreign_axis_channels_first",
    *(entry.name for entry in zoo.MODELS if "foreign_axis" in entry.name),
}
HEALTHY = zoo.cases(
    having={"bn"},
    lacking={"baked"},
    where=lambda entry, _: entry.name not in {*NOT_CALM, *ODD},
    quick=lambda entry, _: entry.name in CHECKED,
)
#: Never updated although trained: whether that is a fault, only labels could tell.
NEVER_UPDATED = {"fast_srgan_generator.h5", "vae_gan_decoder.keras"}

#: Small versions of published families; with random weights, healthy but untrained.
FAMILIES = {
    "MobileNet": {"alpha": 0.25},
    "MobileNetV2": {"alpha": 0.35},
    "MobileNetV3Small": {"alpha": 0.75, "include_preprocessing": True},
    "EfficientNetB0": {},
    "EfficientNetV2B0": {},
    "NASNetMobile": {},
    "DenseNet121": {},
    "ResNet50": {},
    "ResNet50V2": {},
    "RegNetX002": {},
    "ResNetRS50": {},
    "ConvNeXtTiny": {},
    "Xception": {},
    "InceptionV3": {},
    "InceptionResNetV2": {},
    "VGG16": {},
}
LARGER = {"NASNetMobile": 32, "Xception": 71, "InceptionV3": 75, "InceptionResNetV2": 75}
QUICK = ("MobileNetV2", "tf_keras")


def test_there_are_at_least_forty_healthy_models_for_each_keras():
    for dialect in zoo.DIALECTS:
        assert sum(case.id.startswith(dialect) for case in HEALTHY) >= 40


@pytest.mark.parametrize(("entry", "dialect"), HEALTHY)
def test_diagnose_sees_nothing_wrong_with_a_healthy_model(entry, dialect):
    report = bnfix.diagnose(zoo.build(entry, dialect))
    assert report.ok, str(report)


#: One of each kind; the others under `-m long`, for time's sake.
TRIED = {
    ("random_flip_subclassed", "keras3"),
    ("resizing_sequential", "keras3"),
    ("pipeline_in_mixed_float16", "keras3"),
    ("gaussian_noise", "keras3"),
    ("lstm_with_dropout", "keras3"),
    ("words_attention", "keras3"),
    ("random_rotation", "tf_keras"),
    ("noise_and_dropout", "tf_keras"),
    ("masking_bidirectional", "tf_keras"),
    ("gru_with_dropout_in_mixed_bfloat16", "tf_keras"),
    ("discretized", "tf_keras"),
}
WARY = [
    pytest.param(
        kind,
        dialect,
        id=f"{dialect}-{kind}",
        marks=[] if (kind, dialect) in TRIED else pytest.mark.long,
    )
    for dialect in zoo.DIALECTS
    for kind in healthy.KINDS
]


def test_there_are_at_least_eighty_models_that_might_look_wrong():
    assert len(set(healthy.KINDS)) == len(healthy.KINDS) >= 80
    assert {pair for pair in TRIED if pair[0] in healthy.KINDS} == TRIED


@pytest.mark.every(4)
@pytest.mark.parametrize(("kind", "dialect"), WARY)
def test_chance_masks_states_and_precision_raise_no_alarm(kind, dialect):
    """`predict` is right; where `model(x)` is another thing by default, that is told, as a note."""
    if zoo.BACKEND == "jax" and kind.startswith("random_flip_sub"):
        pytest.skip("on JAX predict flips where a model's own call hands no training on")
    model, x = healthy.build(zoo.keras_module(dialect), kind)
    report = bnfix.check(model, x)
    assert report.ok, str(report)
    assert bnfix.diagnose(model).ok
    predict = report.measurements[0]
    assert (predict.entry_point, predict.coupling.difference) == ("predict", 0)
    told = {finding.cause for finding in report.findings} - {"rounding"}
    differs = healthy.differs_by_default(kind, dialect)
    assert told == ({"training_by_default"} if differs else set()), str(report)
    assert str(report).startswith("check: ok in predict; in call" if differs else "check: ok, row")


def test_the_healthy_list_rejects_a_check_that_takes_defaults_for_faults(monkeypatch):
    monkeypatch.setattr(Finding, "as_note", lambda finding: finding)
    with pytest.raises(AssertionError):
        test_chance_masks_states_and_precision_raise_no_alarm("random_flip_subclassed", "keras3")


def test_a_network_trained_to_the_end_is_healthy_on_its_own_data(K):
    made = faults.healthy(K)
    for ds in ((made.x, made.y), made.x[:100], faults.task(300, seed=5)):
        report = bnfix.diagnose(made.model, ds)
        assert report.ok, str(report)
        assert max(layer.distance for layer in report.layers) < 0.4


def test_few_rows_raise_no_alarm(K):
    made = faults.healthy(K)
    assert bnfix.diagnose(made.model, made.x[:4]).ok


def family(K, name):
    make = getattr(K.applications, name, None)
    if make is None:
        pytest.skip(f"{K.__name__} has no {name}")
    size = LARGER.get(name, 32)
    return make(weights=None, input_shape=(size, size, 3), classes=5, **FAMILIES[name])


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        pytest.param(
            name,
            dialect,
            marks=[] if (name, dialect) == QUICK else pytest.mark.long,
            id=f"{dialect}-{name}",
        )
        for dialect in zoo.DIALECTS
        for name in FAMILIES
    ],
)
def test_published_families_raise_no_alarm(name, dialect):
    K = zoo.keras_module(dialect)
    K.utils.set_random_seed(0)
    model = family(K, name)
    x = np.random.default_rng(0).normal(size=(8, *model.input_shape[1:])).astype("float32")
    report = bnfix.check(model, x)
    assert report.ok, str(report)
    assert report.coupling == 0
    assert bnfix.diagnose(model).ok


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        pytest.param(name, dialect, marks=marks_of(name, dialect))
        for name, (dialects, *_) in REAL.items()
        for dialect in dialects
        if name not in {*BAKED, *NEVER_UPDATED}
    ],
)
def test_published_files_raise_no_alarm(name, dialect, shared, tmp_path):
    """`check` on them stands in test_real_models."""
    file = tmp_path / f"model{'.keras' if name.endswith('.keras') else '.h5'}"
    file.write_bytes((shared / "models" / name).read_bytes())
    model = zoo.keras_module(dialect).models.load_model(str(file), compile=False)
    report = bnfix.diagnose(model)
    assert report.ok, str(report)


def test_a_published_file_never_updated_is_not_called_a_fault_without_labels(shared, tmp_path):
    file = tmp_path / "model.keras"
    file.write_bytes((shared / "models" / "vae_gan_decoder.keras").read_bytes())
    model = zoo.keras_module("keras3").models.load_model(str(file), compile=False)
    symptom = bnfix.diagnose(model, inputs_of(model)).symptoms[0]
    assert (symptom.cause, symptom.severity, len(symptom.paths)) == ("never_updated", "warning", 7)


def test_a_deep_network_without_bn_shows_rounding_and_its_size(K):
    """As VGG: convolutions and nothing that normalizes."""
    K.utils.set_random_seed(0)
    L = K.layers
    inputs = x = K.Input((32, 32, 3))
    for filters in (16, 32, 64):
        for _ in range(2):
            x = L.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = L.MaxPooling2D()(x)
    x = L.Dense(256, activation="relu")(L.Flatten()(x))
    model = K.Model(inputs, L.Dense(10)(x), name="vgg")
    report = bnfix.check(model, np.random.default_rng(0).normal(size=(32, 32, 32, 3)), rows=32)
    assert report.ok
    assert report.coupling == 0
    assert [finding.cause for finding in report.findings] == ["rounding"]
    finding = report.findings[0]
    sizes = re.search(
        r"kernels: (\S+), within what rounding in float32 explains \((\S+)\)", finding.detail
    )
    assert 0 < float(sizes[1]) < float(sizes[2]) < 1e-4
    assert finding.path is None
    assert finding.code is None
    assert bnfix.diagnose(model).ok


def network_with_dead_channels(K):
    """Every other channel of `bn` is 0 whatever comes, and its variance all but faded to that."""
    K.utils.set_random_seed(0)
    L = K.layers
    layers = [L.Dense(16, activation="relu", name="dense"), L.BatchNormalization(name="bn")]
    model = K.Sequential([K.Input((6,)), *layers, L.Dense(3)])
    model.get_layer("dense").bias.assign(np.tile([0.0, -1e3], 8))
    x = faults.task()[0]
    bnfix.recalibrate(model, x, verbose=0, guard=False)
    bn = model.get_layer("bn")
    bn.beta.assign(np.ones(16))
    bn.moving_variance.assign(np.where(np.arange(16) % 2, 1e-20, bn.moving_variance.numpy()))
    return model, x


def test_channels_that_are_constant_in_file_and_data_are_not_off(K):
    """By their own deviation they were off by 1e+145 sigma, in as many digits."""
    model, x = network_with_dead_channels(K)
    report = bnfix.diagnose(model, x)
    assert report.ok, report
    assert report.layers[0].distance < 0.02
    _, found = bnfix.recalibrate(model, x, guard=False, return_report=True)
    assert found.layers[0].dead == 8
    assert found.layers[0].mean_shift < 0.02
    assert found.layers[0].variance_ratio == pytest.approx(1, abs=0.02)
    assert max(map(len, str(found).splitlines())) < 100


def test_a_constant_channel_that_has_moved_is_off_by_as_much_as_the_layer_makes_of_it(K):
    model, x = network_with_dead_channels(K)
    bn = model.get_layer("bn")
    moved = np.where(np.arange(16) % 2, 0.1, bn.moving_mean.numpy())
    bn.moving_mean.assign(moved)
    (symptom,) = [s for s in bnfix.diagnose(model, x).symptoms if s.severity != "note"]
    assert (symptom.cause, symptom.paths) == ("shifted", ("bn",))
    # 0.1 over the root of epsilon, in half of the channels, of means and not of variances.
    assert f"{0.1 / np.sqrt(1e-3) / 2:.2g} sigma in bn" in symptom.detail
    bn.moving_mean.assign(np.where(np.arange(16) % 2, 1e30, moved))
    assert max(map(len, str(bnfix.diagnose(model, x).to_dataframe()).splitlines())) < 200
