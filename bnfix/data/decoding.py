"""Decode and resize an image as `keras.utils.image_dataset_from_directory` does, pixel for pixel.

Both Kerases have TensorFlow do it, whatever their backend: another decoder gives other pixels, and
another way of shrinking other statistics (Pillow averages what falls together, TensorFlow does
not).
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfix.errors import BnfixError, DataError

INTERPOLATIONS = (
    "bilinear",
    "nearest",
    "bicubic",
    "area",
    "lanczos3",
    "lanczos5",
    "gaussian",
    "mitchellcubic",
)


def check_readers() -> None:
    """Refuse to read images without Pillow, which looks at each, and TensorFlow, which decodes."""
    try:
        import PIL.Image  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise BnfixError('reading images needs Pillow: pip install "bnfix[images]".') from error
    if find_spec("tensorflow") is None:
        raise BnfixError(
            "reading images needs TensorFlow, with which Keras decodes them on every backend: "
            'pip install "bnfix[tensorflow]". Arrays in .npy and .npz files do not need it.'
        )


def check_pixels(file: Path) -> None:
    """Refuse what would fill the memory; what is no image is for the decoder to tell."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            Image.open(file).close()
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise DataError(
                f"{file} claims to have more pixels than are decoded safely: {error} Resize it, or "
                f"take it out of the folder."
            ) from error
        except Exception:  # Pillow raises whatever its readers stumble upon
            return


def decoded(
    file: Path, size: tuple[int, int], channels: int, interpolation: str, *, crop: bool
) -> npt.NDArray[np.float32]:
    """The image in `file` as (height, width, channels), 0 to 255.

    Args:
        file: A BMP, GIF (its first frame), JPEG or PNG.
        size: Height and width to resize it to.
        channels: 1, 3 or 4.
        interpolation: One of `INTERPOLATIONS`.
        crop: Whether what would be distorted is cut off first, around the middle.

    Raises:
        ValueError: The file is damaged, or of another kind.
    """
    import tensorflow as tf

    try:
        image: Any = tf.io.decode_image(
            file.read_bytes(), channels=channels, expand_animations=False
        )
        image = _cropped(image, size) if crop else image
        return np.asarray(tf.image.resize(image, size, method=interpolation), np.float32)
    except (tf.errors.OpError, OSError) as error:
        raise ValueError(str(error)) from error


def _cropped(image: Any, size: tuple[int, int]) -> Any:
    """The largest part in the middle of `image` of the shape of `size`."""
    height, width = image.shape[:2]
    rows = min(height, int(np.float32(width * size[0]) / np.float32(size[1])))
    columns = min(width, int(np.float32(height * size[1]) / np.float32(size[0])))
    top, left = int((height - rows) / 2), int((width - columns) / 2)
    return image[top : top + rows, left : left + columns]
