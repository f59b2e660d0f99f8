"""What is written is opened again and compared: a repair that a file does not hold is not sold."""

import warnings

import numpy as np
import pytest

import bnfix
from bnfix import cli
from bnfix.adapters.choose import adapter_of
from bnfix.files import proof
from bnfix.restoring import NOTHING_CHANGED


def x(rows=48):
    return np.random.default_rng(0).normal(size=(rows, 6)).astype("float32")


def classes(K, *, trainable=True, training=True, closed=False):
    """A layer and a model with a BatchNormalization inside that is called with `training=`.

    With a weight of their own, if `closed`, so that they cannot be opened.
    """

    class Block(K.layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.norm = K.layers.BatchNormalization(trainable=trainable)

        def build(self, shape):
            self.norm.build(shape)
            if closed:
                self.own = self.add_weight(name="own", shape=(1,), initializer="ones")
            self.built = True

        def call(self, x):
            made = self.norm(x, training=training)
            return made * self.own if closed else made

    class Whole(K.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.dense = K.layers.Dense(4)
            self.norm = K.layers.BatchNormalization(trainable=trainable)
            if closed:
                self.own = self.add_weight(name="own", shape=(1,), initializer="ones")

        def call(self, x):
            made = self.norm(self.dense(x), training=training)
            return made * self.own if closed else made

        def get_config(self):
            return {"name": self.name}

        @classmethod
        def from_config(cls, config):
            return cls(**config)

    return Block, Whole


def made(K, kind, **options):
    K.utils.set_random_seed(0)
    Block, Whole = classes(K, **options)
    if kind == "layer":
        model = K.Sequential([K.Input((6,)), K.layers.Dense(4), Block(), K.layers.Dense(2)])
    else:
        model = Whole()
        model(x())
    bnfix.recalibrate(model, x(), guard=False, verbose=0)
    return model, {"Block": Block, "Whole": Whole}


def written(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", bnfix.BnfixWarning)
        bnfix.save(model, path)
    return path


#: The fourth, a subclassed model as .h5, no Keras can open.
COMBINATIONS = [("layer", ".keras"), ("layer", ".h5"), ("model", ".keras")]


@pytest.mark.every(2)
@pytest.mark.parametrize(("kind", "suffix"), COMBINATIONS)
def test_a_repair_that_does_not_survive_in_the_file_is_refused(K, kind, suffix, tmp_path):
    model, objects = made(K, kind, closed=True)
    source = written(model, tmp_path / f"model{suffix}")
    target = tmp_path / f"new{suffix}"
    target.write_bytes(b"what was here")
    with pytest.raises(bnfix.VerificationError, match="comes back as True") as refusal:
        bnfix.repair_file(source, target, ds=x(), custom_objects=objects, overwrite=True, verbose=0)
    assert "What survives" in str(refusal.value)
    assert str(refusal.value).endswith(NOTHING_CHANGED)
    assert target.read_bytes() == b"what was here"
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, target.name]


@pytest.mark.every(2)
@pytest.mark.parametrize(("kind", "suffix"), COMBINATIONS)
def test_a_repair_of_code_that_opens_survives_and_needs_the_classes_no_more(
    K, kind, suffix, tmp_path
):
    model, objects = made(K, kind)
    source, target = written(model, tmp_path / f"model{suffix}"), tmp_path / f"new{suffix}"
    bnfix.repair_file(source, target, ds=x(), custom_objects=objects, verbose=0)
    assert bnfix.check(bnfix.load(target), x()).ok


@pytest.mark.parametrize(("kind", "suffix"), COMBINATIONS)
def test_save_says_what_does_not_survive_and_writes_what_can_be_written(K, kind, suffix, tmp_path):
    model, objects = made(K, kind)
    path = tmp_path / f"model{suffix}"
    written(model, path)
    bnfix.freeze(model)
    with pytest.warns(bnfix.BnfixWarning, match=r"norm.*comes back as True.*bnfix\.freeze"):
        bnfix.save(model, path, overwrite=True)
    again = bnfix.load(path, objects)
    assert adapter_of(again).batch_norms(again)[0][1].trainable
    assert bnfix.check(bnfix.freeze(again), x()).ok


@pytest.mark.every(3)
@pytest.mark.parametrize("way", [{"trainable": False}, {"training": None}])
@pytest.mark.parametrize(("kind", "suffix"), COMBINATIONS)
def test_what_is_said_to_survive_does(K, kind, suffix, way, tmp_path):
    model, objects = made(K, kind, **way)
    path = tmp_path / f"model{suffix}"
    written(model, path)
    assert bnfix.check(bnfix.load(path, objects), x()).ok


def test_a_file_that_nobody_can_open_is_not_written_without_a_word(K, tmp_path):
    model, _ = made(K, "model")
    path = tmp_path / "model.h5"
    if K.__name__ == "tf_keras":  # which knows it beforehand
        with pytest.raises(bnfix.FileError, match=r"cannot be saved as \.h5.* hold it: \.keras\."):
            bnfix.save(model, path)
    else:
        with pytest.warns(bnfix.BnfixWarning, match="cannot be opened from it"):
            bnfix.save(model, path)


def test_the_command_ends_with_3_and_writes_nothing(K, tmp_path, capsys, monkeypatch):
    code = f"""
import {K.__name__} as K

@K.{"saving" if K.__name__ == "keras" else "utils"}.register_keras_serializable("own_{K.__name__}")
class Block(K.layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.norm = K.layers.BatchNormalization()

    def build(self, shape):
        self.norm.build(shape)
        self.own = self.add_weight(name="own", shape=(1,), initializer="ones")
        self.built = True

    def call(self, x):
        return self.norm(x, training=True) * self.own
"""
    name = f"blocks_of_{K.__name__}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    Block = __import__(name).Block
    model = K.Sequential([K.Input((6,)), K.layers.Dense(4), Block()])
    bnfix.recalibrate(model, x(), guard=False, verbose=0)
    source = written(model, tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x())
    out = tmp_path / "out.keras"
    arguments = ["repair", str(source), "--data", str(tmp_path / "x.npy"), "-o", str(out)]
    assert cli.main([*arguments, "--custom", str(tmp_path / f"{name}.py")]) == 3
    assert "comes back as True" in capsys.readouterr().err
    assert not out.exists()


# --- what the comparison sees --------------------------------------------------------------------


def plain(K):
    inner = K.Sequential([K.Input((6,)), K.layers.Dense(4), K.layers.BatchNormalization()])
    return K.Sequential([K.Input((6,)), inner, K.layers.Dense(2)])


def copied(K, model):
    copy = K.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def test_a_true_copy_has_lost_nothing_and_keeps_its_flags(K):
    model = plain(K)
    copy = copied(K, model)
    flags = [layer.trainable for _, layer in adapter_of(copy).tree(copy)]
    assert proof.losses(model, copy) == ()
    assert [layer.trainable for _, layer in adapter_of(copy).tree(copy)] == flags


@pytest.mark.parametrize("damage", ["flag", "weight", "order", "layer", "outer flag"])
def test_every_difference_is_seen(K, damage):
    model = plain(K)
    copy = copied(K, model)
    _, norm = adapter_of(copy).batch_norms(copy)[0]
    if damage == "flag":
        norm.trainable = False
    elif damage == "outer flag":
        copy.trainable = False
    elif damage == "weight":
        norm.moving_mean.assign(norm.moving_mean + 1e-6)
    elif damage == "order":
        norm.gamma.assign(norm.beta)
    else:
        copy = K.Sequential([*copy.layers, K.layers.Dense(2)])
    assert proof.losses(model, copy)


def test_a_fault_that_only_the_copy_has_is_seen(K):
    model, _ = made(K, "layer")
    frozen = bnfix.freeze(made(K, "layer")[0])
    before = bnfix.check(frozen, x())
    assert proof.new_findings(frozen, x(), before) == ()
    found = proof.new_findings(model, x(), before)
    assert any("batch_statistics" in loss.detail for loss in found)


def test_only_layers_within_layers_cost_a_second_opening(K):
    assert not proof.may_lose(plain(K))
    assert proof.may_lose(made(K, "layer")[0])
    assert proof.may_lose(made(K, "model")[0])
