"""`--data` in every form gives the model the same numbers."""

from pathlib import Path

import click
import command_line
import numpy as np
import pytest
import zoo

import bnfix
from bnfix.cli.data import Data
from bnfix.data import decoding


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The digits as images in sub-folders, and as arrays."""
    made = tmp_path_factory.mktemp("digits")
    images, labels = command_line.digits()
    command_line.write_images(made / "images", images, labels)
    np.save(made / "raw.npy", images[..., None])
    np.savez(made / "xy.npz", x=images[..., None], y=labels)
    return made


def data(path: Path | None, **said) -> Data:
    """What the command makes of `--data path` and the options `said`."""
    usual = dict.fromkeys(("limit", "scale", "offset", "preprocess", "image_size", "labels"), None)
    options = {**usual, "batch_size": 32, "interpolation": "bilinear", **said}
    return Data(path=path, **options)


def model_for(K, *shapes):
    """A model that takes one input of each of `shapes`, named a, b, ..."""
    inputs = [K.Input(shape, name=name) for shape, name in zip(shapes, "abc", strict=False)]
    flat = [K.layers.Flatten()(tensor) for tensor in inputs]
    outputs = K.layers.Concatenate()(flat) if len(flat) > 1 else flat[0]
    return K.Model(inputs if len(inputs) > 1 else inputs[0], outputs)


def rows(batches):
    """All of `x`, sorted, since images of a folder come in an order of their own."""
    x = np.concatenate([np.asarray(batch[0]).reshape(len(batch[0]), -1) for batch in batches])
    return x[np.lexsort(x.T)]


@zoo.reads_images
@pytest.mark.parametrize(
    "said", [{}, {"scale": 1 / 255}, {"scale": 2 / 255, "offset": -1.0}, {"offset": -128.0}]
)
def test_a_folder_of_images_and_their_array_give_the_same_rows(folder, K, said):
    model = model_for(K, (8, 8, 1))
    images = rows(data(folder / "images", **said).of(model))
    arrays = rows(data(folder / "raw.npy", **said).of(model))
    assert images.shape == (64, 64)
    assert np.array_equal(images, arrays)
    wanted = np.load(folder / "raw.npy") * np.float32(said.get("scale", 1))
    assert np.isclose(arrays.max(), wanted.max() + said.get("offset", 0), rtol=1e-6)


def test_without_tensorflow_folders_of_images_are_refused(folder, K, monkeypatch):
    monkeypatch.setattr(decoding, "find_spec", lambda name: None)
    with pytest.raises(bnfix.BnfixError, match=r"needs TensorFlow.*bnfix\[tensorflow\].*\.npz"):
        data(folder / "images").of(model_for(K, (8, 8, 1)))


@zoo.reads_images
def test_channels_first_models_get_channels_first(folder, K):
    last = rows(data(folder / "images").of(model_for(K, (8, 8, 3))))
    first = data(folder / "images", preprocess="resnet50").of(model_for(K, (3, 8, 8)))
    ((x,), *_) = first
    assert x.shape == (32, 3, 8, 8)
    blue = rows([(x[:, :1],)])  # resnet50 wants BGR less its means
    assert np.isclose(blue.max(), last.max() - 103.939)


@zoo.reads_images
def test_labels_go_with_their_images(folder, K):
    model = model_for(K, (8, 8, 1))
    pairs = {
        x.tobytes(): y
        for batch in data(folder / "images", labels="int").of(model)
        for x, y in zip(batch[0].astype(np.uint8), batch[1], strict=True)
    }
    for x, y in data(folder / "xy.npz").of(model):
        assert all(pairs[np.ascontiguousarray(a).tobytes()] == b for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize(
    "path", [pytest.param("images", marks=zoo.reads_images), "raw.npy", "xy.npz"]
)
def test_a_limit_holds_in_every_form(folder, K, path):
    model = model_for(K, (8, 8, 1))
    held = list(data(folder / path, limit=10, batch_size=4).of(model))
    assert [len(batch[0]) for batch in held] == [4, 4, 2]


def test_several_inputs_go_by_their_names(tmp_path, K):
    a, b = np.ones((5, 3), np.float32), np.zeros((5, 2), np.float32)
    np.savez(tmp_path / "ab.npz", b=b, a=a)
    model = model_for(K, (3,), (2,))
    ((x,),) = data(tmp_path / "ab.npz").of(model)
    assert {key: value.shape for key, value in x.items()} == {"a": (5, 3), "b": (5, 2)}
    assert bnfix.check(model, data(tmp_path / "ab.npz").of(model)).ok


def test_a_model_without_declared_inputs_takes_x(tmp_path, dialect):
    model = zoo.build(zoo.entries(dialect, having={"subclassed", "bn"})[0], dialect)
    x = zoo.inputs_for(model, rows=4)
    np.savez(tmp_path / "x.npz", x=x)
    assert bnfix.check(model, data(tmp_path / "x.npz").of(model)).rows == 4


def test_no_data_is_none(K):
    assert data(None).of(model_for(K, (3,))) is None


def test_several_inputs_are_not_prepared_alike(tmp_path, K):
    np.savez(tmp_path / "ab.npz", a=np.ones((5, 3)), b=np.ones((5, 2)))
    with pytest.raises(bnfix.OptionError, match="several inputs, a, b"):
        list(data(tmp_path / "ab.npz", scale=2.0).of(model_for(K, (3,), (2,))))


def test_a_folder_of_images_is_refused_by_what_takes_none(folder, K):
    with pytest.raises(bnfix.DataError, match="a folder of images is one input"):
        data(folder / "images").of(model_for(K, (8, 8, 1), (2,)))
    with pytest.raises(bnfix.DataError, match="no image of 1, 3 or 4 channels"):
        data(folder / "images").of(model_for(K, (8,)))


def test_an_unknown_preprocessing_is_refused_before_anything_is_read(folder, K):
    with pytest.raises(bnfix.OptionError, match="mobilenet_v2"):
        data(folder / "images", preprocess="mobilenet9").of(model_for(K, (8, 8, 3)))


def test_options_that_do_not_go_together_are_a_usage_error(folder):
    with pytest.raises(click.UsageError, match="either"):
        data(folder / "images", scale=2.0, preprocess="vgg16")
    with pytest.raises(click.UsageError, match="folders of images"):
        data(folder / "raw.npy", labels="int")
