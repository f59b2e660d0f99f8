"""How does a folder of images become batches that a model takes?

Images are decoded when their batch is asked for, so that a folder of any size needs the memory of
one batch. As Keras's `load_img` does, an image is converted to the model's channels and stretched
to its size; its orientation tag is not looked at.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfix.errors import BnfixError, DataError, OptionError
from bnfix.graph.definition import TensorSpec

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
LABEL_MODES = ("int", "categorical", "binary")

#: What 1, 3 and 4 channels are called in Pillow.
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
#: How modes of 16 and 32 bits begin; Pillow would cut off what is above 255.
_DEEP = ("I", "F")

Images = npt.NDArray[np.float32]
Prepare = Callable[[Images], Any]


@dataclass(frozen=True)
class ImageForm:
    """What a model wants an image to be.

    Attributes:
        height: In pixels.
        width: In pixels.
        channels: 1, 3 or 4.
        channels_first: Whether the channels come before height and width.
    """

    height: int
    width: int
    channels: int
    channels_first: bool = False

    @classmethod
    def of(cls, spec: TensorSpec, size: tuple[int, int] | None = None) -> ImageForm:
        """The form that an input of `spec` asks for; `size` where it leaves that open.

        Raises:
            DataError: The input takes no images.
            OptionError: The input leaves the size open and `size` is None, or it is not that of
                the input.
        """
        shape = spec.shape[1:]
        if len(shape) != 3 or not {shape[0], shape[-1]} & set(_MODES):
            raise DataError(
                f"the model takes {_shown(shape)}, which is no image of 1, 3 or 4 channels. Pass "
                f"arrays (.npy or .npz) instead of a folder of images."
            )
        first = shape[-1] not in _MODES
        channels = shape[0] if first else shape[-1]
        height, width = _size(shape[1:] if first else shape[:2], size)
        return cls(height, width, int(channels or 0), first)


def _size(wanted: tuple[int | None, ...], given: tuple[int, int] | None) -> tuple[int, int]:
    if given is None:
        if wanted[0] is None or wanted[1] is None:
            raise OptionError(
                f"the model takes images of any size: {_shown(wanted)} (height, width). Say which "
                f"one to resize them to, such as 224x224."
            )
        return wanted[0], wanted[1]
    if any(want not in (None, got) for want, got in zip(wanted, given, strict=True)):
        raise OptionError(
            f"the image size is {given[0]}x{given[1]}; the model takes {_shown(wanted)} (height, "
            f"width). Leave the size out."
        )
    return given


def _shown(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"


class ImageFolder:
    """The images below a folder as batches of `x` or `(x, y)`, read anew by each loop.

    Their order is shuffled, but always the same, so that the first images are not all of one
    sub-folder.

    Args:
        folder: Searched at any depth; files and folders whose names begin with a dot are left out.
        form: What to convert each image to.
        batch_size: Images a batch.
        limit: Most images to read; all by default.
        labels: None for none, or how the names of the sub-folders directly below `folder`, in
            sorted order, become labels: "int" numbers them from 0, "categorical" gives one-hot
            rows, "binary" 0.0 and 1.0; as in `keras.utils.image_dataset_from_directory`.
        interpolation: For resizing; one of `INTERPOLATIONS`, as in `load_img`.
        prepare: Applied to each batch, float32 of 0 to 255, (batch, height, width, channels).

    Raises:
        BnfixError: Pillow is not installed.
        DataError: There is no image, or labels are asked for and an image is in no sub-folder.
            While reading: a file is damaged, too large to be decoded safely, or not of 8 bits.
    """

    def __init__(
        self,
        folder: Path,
        form: ImageForm,
        *,
        batch_size: int = 32,
        limit: int | None = None,
        labels: str | None = None,
        interpolation: str = "bilinear",
        prepare: Prepare | None = None,
    ) -> None:
        _check_pillow()
        self.folder, self.form, self.batch_size = folder, form, batch_size
        self.labels, self.interpolation, self.prepare = labels, interpolation, prepare
        found = _images_below(folder)
        self.classes = _classes(folder, found, labels)
        order = np.random.default_rng(0).permutation(len(found))[:limit]
        self.files = [found[position] for position in order]

    def __len__(self) -> int:
        return -(-len(self.files) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(self.files), self.batch_size):
            files = self.files[start : start + self.batch_size]
            x = self._prepared(np.stack([self._decoded(file) for file in files]))
            yield (x, self._labels(files)) if self.labels else (x,)

    def _decoded(self, file: Path) -> Images:
        """(height, width, channels), 0 to 255."""
        from PIL import Image

        form = self.form
        with warnings.catch_warnings():
            # An image of this many pixels is more likely meant to fill the memory.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            try:
                with Image.open(file) as image:
                    _check_bits(file, image.mode)
                    image = image.convert(_MODES[form.channels])
                    resample = Image.Resampling[self.interpolation.upper()]
                    resized = image.resize((form.width, form.height), resample)
            except DataError:
                raise
            except Exception as error:  # Pillow raises whatever its decoders stumble upon
                raise _unreadable(file, error) from error
        return np.asarray(resized, np.float32).reshape(form.height, form.width, form.channels)

    def _prepared(self, x: Images) -> Any:
        prepared = x if self.prepare is None else self.prepare(x)
        return np.moveaxis(prepared, -1, 1) if self.form.channels_first else prepared

    def _labels(self, files: list[Path]) -> npt.NDArray[Any]:
        names = [file.relative_to(self.folder).parts[0] for file in files]
        numbers = np.array([self.classes.index(name) for name in names], np.int64)
        if self.labels == "categorical":
            return np.eye(len(self.classes), dtype=np.float32)[numbers]
        return numbers.astype(np.float32)[:, None] if self.labels == "binary" else numbers


def _check_pillow() -> None:
    try:
        import PIL.Image  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise BnfixError('reading images needs Pillow: pip install "bnfix[images]".') from error


def _images_below(folder: Path) -> list[Path]:
    found = [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    ]
    if not found:
        raise DataError(
            f"{folder} holds no images: files that end in {', '.join(SUFFIXES)} are read, in "
            f"sub-folders too."
        )
    return found


def _classes(folder: Path, files: list[Path], labels: str | None) -> list[str]:
    """The sub-folders' names in sorted order; empty where no labels are wanted."""
    if labels is None:
        return []
    outside = [file for file in files if file.parent == folder]
    if outside:
        raise DataError(
            f"{outside[0]} is in no sub-folder of {folder}, whose names are the labels. Move it "
            f"into that of its class, or leave the labels out."
        )
    classes = sorted({file.relative_to(folder).parts[0] for file in files})
    if labels == "binary" and len(classes) != 2:
        raise DataError(
            f"binary labels need 2 sub-folders of {folder}; there are {len(classes)}: "
            f'{", ".join(classes)}. "int" and "categorical" take any number.'
        )
    return classes


def _check_bits(file: Path, mode: str) -> None:
    if mode.startswith(_DEEP):
        raise DataError(
            f"{file} has more than 8 bits a channel (mode {mode}), which would be cut off at 255. "
            f"Convert it to 8 bits, or pass arrays (.npy or .npz)."
        )


def _unreadable(file: Path, error: Exception) -> DataError:
    if "DecompressionBomb" in type(error).__name__:
        return DataError(
            f"{file} claims to have more pixels than are decoded safely: {error} Resize it, or "
            f"take it out of the folder."
        )
    return DataError(
        f"{file} cannot be read as an image: {type(error).__name__}: {error}. Replace it, or take "
        f"it out of the folder."
    )
