"""A folder of images becomes batches that a model takes, one at a time."""

import builtins
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import zoo
from PIL import Image

import bnfix
from bnfix.adapters.choose import adapter_of
from bnfix.data import images
from bnfix.data.images import SUFFIXES, ImageFolder, ImageForm
from bnfix.graph.definition import TensorSpec

pytestmark = zoo.reads_images

RGB = ImageForm(8, 6, 3)


def pixels(seed, height=10, width=12, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(file, array):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file)


@pytest.fixture
def folder(tmp_path):
    """Seven images of two classes, one of them a sub-folder deeper."""
    for number in range(4):
        save(tmp_path / "cats" / f"{number}.png", pixels(number))
    for number in range(2):
        save(tmp_path / "ants" / f"{number}.png", pixels(10 + number))
    save(tmp_path / "ants" / "more" / "deep.png", pixels(20))
    return tmp_path


# --- what is read --------------------------------------------------------------------------------


def test_an_image_of_the_models_size_comes_as_it_is(tmp_path):
    wanted = pixels(0, 8, 6)
    save(tmp_path / "a.png", wanted)
    ((x,),) = ImageFolder(tmp_path, RGB)
    assert x.dtype == np.float32
    assert np.array_equal(x[0], wanted)


def odd_images(folder):
    """Of each kind that a camera, a drawing program or an archive leaves behind."""
    rng = np.random.default_rng(0)
    gray, colour = pixels(0, 40, 31, 1), pixels(1, 33, 57)
    noise = rng.integers(0, 256, (400, 400, 3), np.uint8)
    clear = np.dstack([colour, rng.integers(0, 256, colour.shape[:2], np.uint8)])
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter
    frames = [Image.fromarray(pixels(seed, 20, 30)) for seed in range(3)]
    kinds = {
        "gray.png": (Image.fromarray(gray), {}),
        "gray.jpg": (Image.fromarray(gray), {}),
        "gray and clear.png": (Image.fromarray(gray).convert("LA"), {}),
        "noise.png": (Image.fromarray(noise), {}),
        "noise.jpeg": (Image.fromarray(noise), {"quality": 40}),
        "progressive.JPG": (Image.fromarray(noise), {"progressive": True, "format": "JPEG"}),
        "without subsampling.jpg": (Image.fromarray(colour), {"subsampling": 0}),
        "clear.png": (Image.fromarray(clear), {}),
        "palette.png": (Image.fromarray(colour).convert("P"), {}),
        "two levels.png": (Image.fromarray(gray).convert("1"), {}),
        "interlaced.png": (Image.fromarray(colour), {"interlace": 1}),
        "cmyk.jpg": (Image.fromarray(colour).convert("CMYK"), {}),
        "sixteen bits.png": (Image.fromarray(rng.integers(0, 2**16, (20, 20), np.uint16)), {}),
        "rotated.jpg": (Image.fromarray(colour), {"exif": exif}),
        "moving.gif": (frames[0], {"save_all": True, "append_images": frames[1:]}),
        "still.gif": (Image.fromarray(colour).convert("P"), {}),
        "windows.bmp": (Image.fromarray(colour), {}),
        "größe 写真.png": (Image.fromarray(colour), {}),
        "one.png": (Image.fromarray(pixels(3, 1, 1)), {}),
        "tall.png": (Image.fromarray(pixels(4, 300, 3)), {}),
    }
    # Keras fails on these.
    fails = {
        "gray": ["cmyk.jpg", "moving.gif", "still.gif", "windows.bmp"],
        "cropped": ["one.png"],
    }
    for name in fails.get(folder.name, []):
        del kinds[name]
    folder.mkdir()
    for name, (image, options) in kinds.items():
        image.save(folder / name, **options)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Folders of them, by what is asked of Keras."""
    above = tmp_path_factory.mktemp("odd")
    for name in ("colour", "gray", "cropped"):
        odd_images(above / name)
    return above


def of_keras(K, folder, **options):
    """What Keras makes of a folder, in sorted order."""
    ds = K.utils.image_dataset_from_directory(
        folder, image_size=(8, 6), batch_size=1, shuffle=False, **options
    )
    return list(ds.as_numpy_iterator())


def by_name(batches):
    """The images in the order of their names, in which Keras has them."""
    x = np.concatenate([batch[0] for batch in batches])
    return x[np.argsort([file.as_posix() for file in batches.files])]


@pytest.mark.parametrize(
    ("name", "channels", "options"),
    [
        ("colour", 3, {}),
        ("gray", 1, {}),
        ("colour", 3, {"interpolation": "nearest"}),
        pytest.param(
            *("cropped", 3, {"interpolation": "bicubic", "crop_to_aspect_ratio": True}),
            marks=pytest.mark.since(keras3="3.6"),  # which overshoots no more
        ),
    ],
)
def test_pixels_are_those_of_keras(odd, K, name, channels, options):
    mode, odd = {1: "grayscale", 3: "rgb"}[channels], odd / name
    wanted = np.concatenate(of_keras(K, odd, labels=None, color_mode=mode, **options))
    crop = options.get("crop_to_aspect_ratio", False)
    how = {"interpolation": options.get("interpolation", "bilinear"), "crop": crop}
    batches = ImageFolder(odd, ImageForm(8, 6, channels), **how)
    np.testing.assert_array_equal(by_name(batches), wanted)
    assert batches.used.skipped == {}
    assert batches.used.used == {"": {"colour": 20, "gray": 16, "cropped": 19}[name]}


def test_shrinking_with_another_filter_would_be_seen(odd, K, monkeypatch):
    """The mutant: Pillow averages what falls together."""

    def averaged(file, size, channels, interpolation, *, crop):
        image = Image.open(file).convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)
        return np.asarray(image, np.float32)

    monkeypatch.setattr(images, "decoded", averaged)
    with pytest.raises(AssertionError):
        test_pixels_are_those_of_keras(odd, K, "colour", 3, {})


def test_labels_are_those_of_keras_folders_without_images_included(folder, K):
    (folder / "birds").mkdir()
    for more in ({}, {"class_names": ["cats", "birds", "ants"]}):
        ds = of_keras(K, folder, label_mode="int", **more)
        wanted = {x.tobytes(): int(y[0]) for x, y in ds}
        for x, y in ImageFolder(folder, RGB, batch_size=1, labels="int", **more):
            assert wanted[x.tobytes()] == y[0]
    with pytest.raises(bnfix.OptionError, match="class names are cats, dogs"):
        ImageFolder(folder, RGB, labels="int", class_names=["cats", "dogs"])


def test_channels_first_models_get_the_same_pixels_in_their_order(folder):
    last = [x for (x,) in ImageFolder(folder, RGB)]
    first = [x for (x,) in ImageFolder(folder, ImageForm(8, 6, 3, channels_first=True))]
    assert first[0].shape == (7, 3, 8, 6)
    assert np.array_equal(np.moveaxis(first[0], 1, -1), last[0])


def test_every_image_comes_once_whatever_the_batch_size_and_the_order_is_always_the_same(folder):
    whole = np.concatenate([x for (x,) in ImageFolder(folder, RGB, batch_size=100)])
    assert len(whole) == 7
    for size in (1, 2, 3, 7):
        batches = ImageFolder(folder, RGB, batch_size=size)
        held = [x for (x,) in batches]
        assert len(held) == len(batches)
        assert np.array_equal(np.concatenate(held), whole)
        assert np.array_equal(np.concatenate([x for (x,) in batches]), whole)


def test_a_limit_takes_images_of_all_sub_folders(tmp_path):
    for number in range(40):
        save(tmp_path / ("a" if number < 20 else "b") / f"{number}.png", pixels(number))
    chosen = ImageFolder(tmp_path, RGB, limit=8).files
    assert len(chosen) == 8
    assert {file.parent.name for file in chosen} == {"a", "b"}


def test_other_files_and_hidden_ones_are_left_out(folder):
    (folder / "labels.csv").write_text("a,b\n")
    (folder / ".thumbnails").mkdir()
    save(folder / ".thumbnails" / "a.png", pixels(0))
    (folder / "cats" / "._0.png").write_bytes(b"resource fork")
    (folder / "folder.png").mkdir()
    assert len(ImageFolder(folder, RGB).files) == 7


def test_suffixes_count_in_either_case(tmp_path):
    Image.fromarray(pixels(0)).save(tmp_path / "A.JPG", format="JPEG")
    assert len(ImageFolder(tmp_path, RGB).files) == 1


# --- labels --------------------------------------------------------------------------------------


def labelled(folder, mode):
    """True class by file, and what came as its label."""
    batches = ImageFolder(folder, RGB, labels=mode, batch_size=2)
    names = [file.relative_to(folder).parts[0] for file in batches.files]
    return names, np.concatenate([y for _, y in batches])


def test_sub_folders_in_sorted_order_become_labels_when_asked_for(folder):
    names, numbers = labelled(folder, "int")
    assert [("ants", "cats").index(name) for name in names] == numbers.tolist()
    _, rows = labelled(folder, "categorical")
    assert np.array_equal(rows, np.eye(2)[numbers])
    _, binary = labelled(folder, "binary")
    assert np.array_equal(binary, numbers[:, None])


def test_an_image_outside_of_the_classes_is_refused_with_labels_only(folder):
    save(folder / "stray.png", pixels(0))
    assert len(ImageFolder(folder, RGB).files) == 8
    with pytest.raises(bnfix.DataError, match=r"stray\.png is in no sub-folder"):
        ImageFolder(folder, RGB, labels="int")


def test_binary_labels_need_two_classes(folder):
    save(folder / "dogs" / "0.png", pixels(0))
    with pytest.raises(bnfix.DataError, match="there are 3: ants, cats, dogs"):
        ImageFolder(folder, RGB, labels="binary")


# --- what is refused -----------------------------------------------------------------------------


def test_a_folder_without_images_says_what_is_looked_for(tmp_path):
    with pytest.raises(bnfix.DataError, match="holds no images") as refused:
        ImageFolder(tmp_path, RGB)
    assert all(suffix in str(refused.value) for suffix in SUFFIXES)


def damaged():
    whole = io.BytesIO()
    Image.fromarray(pixels(0, 64, 64)).save(whole, "PNG")
    png = whole.getvalue()
    jpeg = io.BytesIO()
    Image.fromarray(pixels(0, 64, 64)).save(jpeg, "JPEG")
    return {
        "empty": b"",
        "text": b"<html>404</html>",
        "truncated png": png[: len(png) // 2],
        "truncated jpeg": jpeg.getvalue()[:900],
        "flipped": png[:60] + bytes(byte ^ 0xFF for byte in png[60:90]) + png[90:],
    }


@pytest.mark.parametrize("kind", damaged())
def test_a_damaged_image_is_passed_over_and_told(folder, kind):
    (folder / "cats" / "bad.png").write_bytes(damaged()[kind])
    (folder / "photo.heic").write_bytes(b"ftypheic")
    batches = ImageFolder(folder, RGB, batch_size=2, labels="int")
    assert sum(len(x) for x, _ in batches) == 7
    used = batches.used
    assert used.used == {"ants": 3, "cats": 4}
    assert list(used.skipped) == ["cats/bad.png", "photo.heic"]
    assert "7 images used (ants 3, cats 4); 2 files skipped: cats/bad.png (cannot be" in str(used)


def test_a_folder_of_nothing_but_damaged_images_is_refused(tmp_path):
    (tmp_path / "bad.png").write_bytes(damaged()["text"])
    with pytest.raises(bnfix.DataError, match=r"none of the 1 images .*bad\.png: cannot be read"):
        list(ImageFolder(tmp_path, RGB))


def bomb(side):
    """A valid PNG of `side` x `side` black pixels, tiny as a file."""

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + side // 8) * side), 9)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("side", [10_000, 16_000], ids=["pillow warns", "pillow raises"])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(bomb(side))
    tracemalloc.start()
    with pytest.raises(bnfix.DataError, match=r"bomb\.png claims to have more pixels"):
        list(ImageFolder(tmp_path, RGB))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20


def test_without_pillow_it_says_what_to_install(folder, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "PIL":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(bnfix.BnfixError, match=r'pip install "bnfix\[images\]"'):
        ImageFolder(folder, RGB)


# --- what the model wants ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((None, 8, 6, 3), ImageForm(8, 6, 3)),
        ((None, 8, 6, 1), ImageForm(8, 6, 1)),
        ((4, 8, 6, 4), ImageForm(8, 6, 4)),
        ((None, 3, 8, 6), ImageForm(8, 6, 3, channels_first=True)),
        ((None, 3, 8, 3), ImageForm(3, 8, 3)),
    ],
)
def test_the_form_follows_from_the_models_input(shape, wanted):
    assert ImageForm.of(TensorSpec(shape, "float32")) == wanted


def test_a_size_left_open_has_to_be_given_and_another_than_the_models_is_refused():
    is_open = TensorSpec((None, None, None, 3), "float32")
    with pytest.raises(bnfix.OptionError, match="images of any size"):
        ImageForm.of(is_open)
    assert ImageForm.of(is_open, (5, 7)) == ImageForm(5, 7, 3)
    with pytest.raises(bnfix.OptionError, match=r"5x7; the model takes \(8, 6\)"):
        ImageForm.of(TensorSpec((None, 8, 6, 3), "float32"), (5, 7))


@pytest.mark.parametrize("shape", [(None, 8), (None, 8, 6, 2), (None, 8, 8, 8, 3)])
def test_an_input_that_takes_no_images_is_refused(shape):
    with pytest.raises(bnfix.DataError, match="no image of 1, 3 or 4 channels"):
        ImageForm.of(TensorSpec(shape, "float32"))


# --- memory, and the operations ------------------------------------------------------------------


def assert_memory_of_a_batch(batches, images):
    tracemalloc.start()
    for _ in batches:
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < images * 32 * 32 * 3 * 4, f"{peak} bytes"


def test_no_more_than_a_batch_is_held_at_a_time(tmp_path):
    for number in range(200):
        save(tmp_path / f"{number}.png", pixels(number % 7, 8, 6))
    batches = ImageFolder(tmp_path, ImageForm(32, 32, 3), batch_size=4)
    assert_memory_of_a_batch(batches, images=100)

    def at_once():
        yield from list(batches)

    with pytest.raises(AssertionError):
        assert_memory_of_a_batch(at_once(), images=100)


def test_recalibrating_on_a_folder_is_recalibrating_on_its_arrays(folder, K):
    def small():
        K.utils.set_random_seed(0)
        L = K.layers
        return K.Sequential([K.Input((8, 6, 3)), L.Conv2D(4, 3), L.BatchNormalization()])

    batches = ImageFolder(folder, RGB, batch_size=2, prepare=lambda x: x / 255)
    of_folder = bnfix.recalibrate(small(), batches, verbose=0)
    of_arrays = bnfix.recalibrate(small(), np.concatenate([x for (x,) in batches]), verbose=0)
    for ours, theirs in zip(of_folder.get_weights(), of_arrays.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_preprocessing_is_that_of_the_models_own_keras(dialect):
    K = zoo.keras_module(dialect)
    adapter = adapter_of(K.Sequential([K.Input((2, 2, 3)), K.layers.Flatten()]))
    x = pixels(0, 4, 4)[None].astype(np.float32)
    for name in ("resnet50", "mobilenet_v2", "efficientnet"):
        wanted = getattr(K.applications, name).preprocess_input(x.copy())
        assert np.array_equal(adapter.preprocess_input(name)(x.copy()), wanted)
    with pytest.raises(bnfix.OptionError, match="resnet50") as refused:
        adapter.preprocess_input("resnet51")
    assert f"{K.__name__}.applications" in str(refused.value)
