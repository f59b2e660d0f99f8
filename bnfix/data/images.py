"""How does a folder of images become batches that a model takes?

Images are decoded when their batch is asked for, so that a folder of any size needs the memory of
one batch. Pixels and labels are those of `keras.utils.image_dataset_from_directory`: nothing is
smoothed when an image shrinks, 16 bits become 8, and its orientation tag is not looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfix.data.decoding import check_pixels, check_readers, decoded
from bnfix.data.fit import shown
from bnfix.errors import DataError, OptionError, gist
from bnfix.graph.definition import TensorSpec
from bnfix.report import Rendered

#: What both Kerases read; everything else in a folder is passed over.
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
LABEL_MODES = ("int", "categorical", "binary")

#: Of an image: gray, colour, colour with transparency.
_CHANNELS = (1, 3, 4)
#: Files that are named as skipped before the rest is counted.
_LISTED = 3

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
        if len(shape) != 3 or not {shape[0], shape[-1]} & set(_CHANNELS):
            raise DataError(
                f"the model takes {shown(shape)}, which is no image of 1, 3 or 4 channels. Pass "
                f"arrays (.npy or .npz) instead of a folder of images."
            )
        first = shape[-1] not in _CHANNELS
        channels = shape[0] if first else shape[-1]
        height, width = _size(shape[1:] if first else shape[:2], size)
        return cls(height, width, int(channels or 0), first)


def _size(wanted: tuple[int | None, ...], given: tuple[int, int] | None) -> tuple[int, int]:
    if given is None:
        if wanted[0] is None or wanted[1] is None:
            raise OptionError(
                f"the model takes images of any size: {shown(wanted)} (height, width). Say which "
                f"one to resize them to, such as 224x224."
            )
        return wanted[0], wanted[1]
    if any(want not in (None, got) for want, got in zip(wanted, given, strict=True)):
        raise OptionError(
            f"the image size is {given[0]}x{given[1]}; the model takes {shown(wanted)} (height, "
            f"width). Leave the size out."
        )
    return given


@dataclass(frozen=True)
class ImagesUsed(Rendered):
    """What was read of a folder.

    Attributes:
        folder: Its path.
        used: Number of images, by class; one class named "" where no labels were asked for.
        skipped: Path and reason of each file that was passed over.
    """

    folder: str
    used: dict[str, int]
    skipped: dict[str, str]

    def __str__(self) -> str:
        classes = ", ".join(f"{name} {number}" for name, number in self.used.items() if name)
        total = f"{self.folder}: {sum(self.used.values())} images used"
        first = [f"{path} ({why})" for path, why in list(self.skipped.items())[:_LISTED]]
        more = len(self.skipped) - len(first)
        first += [f"{more} more"] if more else []
        skipped = f"; {len(self.skipped)} files skipped: {', '.join(first)}" if first else ""
        return f"{total}{f' ({classes})' if classes else ''}{skipped}"


class ImageFolder:
    """The images below a folder as batches of `x` or `(x, y)`, read anew by each loop.

    Their order is shuffled, but always the same, so that the first images are not all of one
    sub-folder. What cannot be read is passed over, and `used` tells of it.

    Args:
        folder: Searched at any depth; files and folders whose names begin with a dot are left out.
        form: What to convert each image to.
        batch_size: Images a batch.
        limit: Most images to read; all by default.
        labels: None for none, or how the names of the sub-folders directly below `folder`, in
            sorted order, become labels: "int" numbers them from 0, "categorical" gives one-hot
            rows, "binary" 0.0 and 1.0; as in `keras.utils.image_dataset_from_directory`, folders
            without images count too.
        class_names: Sub-folders in another order, or some of them.
        interpolation: For resizing; one of `INTERPOLATIONS`.
        crop: Whether what would be distorted is cut off, as with `crop_to_aspect_ratio`.
        prepare: Applied to each batch, float32 of 0 to 255, (batch, height, width, channels).

    Attributes:
        classes: The names that labels stand for, in order.
        files: The images to read.

    Raises:
        BnfixError: Pillow is not installed.
        DataError: There is no image that can be read, an image is too large to be decoded safely,
            or labels are asked for and an image is in no sub-folder.
        OptionError: `class_names` are not those of sub-folders.
    """

    def __init__(
        self,
        folder: Path,
        form: ImageForm,
        *,
        batch_size: int = 32,
        limit: int | None = None,
        labels: str | None = None,
        class_names: Sequence[str] | None = None,
        interpolation: str = "bilinear",
        crop: bool = False,
        prepare: Prepare | None = None,
    ) -> None:
        check_readers()
        self.folder, self.form, self.batch_size = folder, form, batch_size
        self.labels, self.interpolation, self.crop = labels, interpolation, crop
        self.prepare = prepare
        files = _files_below(folder)
        self.classes = _classes(folder, labels, class_names)
        found = _images(folder, files)
        if labels:
            found = _in_classes(folder, found, self.classes)
        self._others = {
            file: "another kind" for file in files if file.suffix.lower() not in SUFFIXES
        }
        self._unreadable: dict[Path, str] = {}
        self._used: Counter[str] = Counter()
        order = np.random.default_rng(0).permutation(len(found))[:limit]
        self.files = [found[position] for position in order]

    def __len__(self) -> int:
        return -(-len(self.files) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        self._used, self._unreadable = Counter(), {}
        for start in range(0, len(self.files), self.batch_size):
            held = self._decoded(self.files[start : start + self.batch_size])
            if held:
                x = self._prepared(np.stack(list(held.values())))
                yield (x, self._labels(list(held))) if self.labels else (x,)
        if not self._used:
            file, why = next(iter(self._unreadable.items()))
            raise DataError(
                f"none of the {len(self.files)} images in {self.folder} can be read; {file}: {why}."
            )

    @property
    def used(self) -> ImagesUsed:
        """What the last loop has read so far."""
        order = self.classes or sorted(self._used)
        skipped = {**self._unreadable, **self._others}
        return ImagesUsed(
            str(self.folder),
            {name: self._used[name] for name in order},
            {str(file.relative_to(self.folder)): why for file, why in skipped.items()},
        )

    def _decoded(self, files: Sequence[Path]) -> dict[Path, Images]:
        """Those of `files` that can be read, (height, width, channels), 0 to 255."""
        form, found = self.form, dict[Path, Images]()
        for file in files:
            check_pixels(file)
            try:
                size = form.height, form.width
                found[file] = decoded(file, size, form.channels, self.interpolation, crop=self.crop)
            except ValueError as error:
                self._unreadable[file] = f"cannot be read: {gist(error)}"
        self._used.update(self._class_of(file) for file in found)
        return found

    def _prepared(self, x: Images) -> Any:
        prepared = x if self.prepare is None else self.prepare(x)
        return np.moveaxis(prepared, -1, 1) if self.form.channels_first else prepared

    def _class_of(self, file: Path) -> str:
        return file.relative_to(self.folder).parts[0] if self.labels else ""

    def _labels(self, files: list[Path]) -> npt.NDArray[Any]:
        numbers = np.array([self.classes.index(self._class_of(file)) for file in files], np.int64)
        if self.labels == "categorical":
            return np.eye(len(self.classes), dtype=np.float32)[numbers]
        return numbers.astype(np.float32)[:, None] if self.labels == "binary" else numbers


def _files_below(folder: Path) -> list[Path]:
    return [
        file
        for file in sorted(folder.rglob("*"))
        if not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    ]


def _images(folder: Path, files: list[Path]) -> list[Path]:
    found = [file for file in files if file.suffix.lower() in SUFFIXES]
    if not found:
        raise DataError(
            f"{folder} holds no images: files that end in {', '.join(SUFFIXES)} are read, in "
            f"sub-folders too."
        )
    return found


def _in_classes(folder: Path, files: list[Path], classes: list[str]) -> list[Path]:
    """Those of `files` that are in one of `classes`, as all have to be in a sub-folder."""
    outside = [file for file in files if file.parent == folder]
    if outside:
        raise DataError(
            f"{outside[0]} is in no sub-folder of {folder}, whose names are the labels. Move it "
            f"into that of its class, or leave the labels out."
        )
    return [file for file in files if file.relative_to(folder).parts[0] in classes]


def _classes(folder: Path, labels: str | None, names: Sequence[str] | None) -> list[str]:
    """The sub-folders' names in sorted order, or `names`; empty where no labels are wanted."""
    if labels is None:
        return []
    below = sorted(one.name for one in folder.iterdir() if one.is_dir())
    below = [name for name in below if not name.startswith(".")]
    if names is not None and not set(names) <= set(below):
        raise OptionError(
            f"class names are {', '.join(names)}; the sub-folders of {folder} are "
            f"{', '.join(below)}. Give names of these, in the order of the labels."
        )
    classes = below if names is None else list(names)
    if labels == "binary" and len(classes) != 2:
        raise DataError(
            f"binary labels need 2 sub-folders of {folder}; there are {len(classes)}: "
            f'{", ".join(classes)}. "int" and "categorical" take any number.'
        )
    return classes
