"""How does `--data` become what the operations of bnfix take?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from bnfix.adapters.choose import adapter_of
from bnfix.data.arrays import read_arrays
from bnfix.data.batches import batches
from bnfix.data.images import ImageFolder, ImageForm
from bnfix.errors import DataError, OptionError

Prepare = Callable[[Any], Any]


@dataclass(frozen=True)
class Data:
    """What the user said about the data; nothing is read before a model asks for it.

    Attributes:
        path: `.npy`, `.npz` or a folder of images; None for no data.
        batch_size: Rows a batch.
        limit: Most rows to read; None for all.
        scale: What values are multiplied by.
        offset: What is added to them then.
        preprocess: Name of the `keras.applications` module whose `preprocess_input` is applied.
        image_size: Height and width, where the model leaves them open.
        interpolation: For resizing images.
        labels: How sub-folders become labels; None for no labels.
        class_names: Sub-folders in the order of their labels, separated by commas.
        crop_to_aspect_ratio: Whether images are cut rather than distorted.
    """

    path: Path | None
    batch_size: int
    limit: int | None
    scale: float | None
    offset: float | None
    preprocess: str | None
    image_size: tuple[int, int] | None
    interpolation: str
    labels: str | None
    class_names: str | None = None
    crop_to_aspect_ratio: bool = False

    def __post_init__(self) -> None:
        if self.preprocess and (self.scale is not None or self.offset is not None):
            raise click.UsageError(
                "--preprocess scales values as its network was trained; give either that or "
                "--scale and --offset."
            )
        of_images = self.labels or self.image_size or self.class_names or self.crop_to_aspect_ratio
        if self.path and not self.path.is_dir() and of_images:
            raise click.UsageError(
                "--labels, --class-names, --image-size and --crop-to-aspect-ratio are for folders "
                f"of images; {self.path} is a file. Labels of arrays are y in a .npz file."
            )
        if self.class_names and not self.labels:
            raise click.UsageError("--class-names go with --labels.")

    def of(self, model: Any) -> Any:
        """The data as batches that `model` takes; None if there is none.

        Raises:
            DataError: It cannot be read, or it is not what the model takes.
        """
        if self.path is None:
            return None
        prepare = self._prepare(model)
        if self.path.is_dir():
            return self._images(model, prepare)
        adapter = adapter_of(model)
        names = adapter.input_names(model) if adapter.inputs(model) else []
        arrays = read_arrays(self.path, names, limit=self.limit)
        return self._batches(arrays, prepare)

    def _batches(self, arrays: tuple[Any, ...], prepare: Prepare | None) -> Iterator[Any]:
        if prepare is not None and isinstance(arrays[0], dict):
            raise OptionError(
                f"{self.path} has several inputs, {', '.join(arrays[0])}, and values of one are "
                "not prepared as those of another. Save them prepared, and leave --scale, "
                "--offset and --preprocess out."
            )
        for batch in batches(arrays, batch_size=self.batch_size):
            x = batch.x if prepare is None else prepare(np.asarray(batch.x, np.float32))
            yield tuple(part for part in (x, batch.y, batch.weight) if part is not None)

    def _images(self, model: Any, prepare: Prepare | None) -> ImageFolder:
        specs = [adapter_of(model).tensor_spec(tensor) for tensor in model.inputs or ()]
        if len(specs) != 1:
            raise DataError(
                f"a folder of images is one input; {model.name} has {len(specs)} declared. Pass "
                "arrays in a .npz file, by the names of the inputs."
            )
        return ImageFolder(
            Path(str(self.path)),
            ImageForm.of(specs[0], self.image_size),
            batch_size=self.batch_size,
            limit=self.limit,
            labels=self.labels,
            class_names=self.class_names.split(",") if self.class_names else None,
            interpolation=self.interpolation,
            crop=self.crop_to_aspect_ratio,
            prepare=prepare,
        )

    def _prepare(self, model: Any) -> Prepare | None:
        if self.preprocess:
            return adapter_of(model).preprocess_input(self.preprocess)
        if self.scale is None and self.offset is None:
            return None
        scale, offset = self.scale, self.offset
        return lambda x: x * np.float32(1 if scale is None else scale) + np.float32(offset or 0)


def factor(text: str) -> float:
    """A number, or two with a slash between them."""
    above, slash, below = text.partition("/")
    try:
        return float(above) / (float(below) if slash else 1)
    except (ValueError, ZeroDivisionError):
        raise click.BadParameter(f"{text!r} is no number and no fraction such as 1/255.") from None


def image_size(text: str) -> tuple[int, int]:
    """Height and width from `224x224`, or from `224` for both."""
    found = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text)
    if not found:
        raise click.BadParameter(f"{text!r} is no size such as 224x224 (height, width).")
    return int(found[1]), int(found[2] or found[1])
