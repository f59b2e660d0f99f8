"""What kind of file is this, and what does it say of its model?

By content, not by extension: trained models come as `model`, `model.h5` that is a zip archive, and
`weights.h5` that holds a whole model.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NoReturn

from bnfix.errors import FileError
from bnfix.files.archive import Archive
from bnfix.files.hdf5 import Hdf5
from bnfix.files.text import MAX_TEXT, Json, parsed

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


class Format(Enum):
    """What a path holds."""

    H5 = "h5"
    KERAS = "keras"
    SAVED_MODEL = "saved_model"

    @property
    def suffix(self) -> str:
        return {Format.H5: ".h5", Format.KERAS: ".keras", Format.SAVED_MODEL: ""}[self]


@dataclass(frozen=True)
class Stored:
    """A model file, open for reading.

    Attributes:
        path: Where it lies.
        format: What it is.
        keras_version: Of the Keras that wrote it, as far as it says; tf_keras writes `"2.15.0"`.
        model: The configuration of the model; None if the file holds weights alone.
        training: How the model was compiled, or None.
        weights: The open HDF5 file with the weights; None for weights in another form.
        archive: The open zip archive around it, or None.
    """

    path: Path
    format: Format
    keras_version: str | None
    model: Json | None
    training: Json | None
    weights: Hdf5 | None
    archive: Archive | None = None

    @property
    def major(self) -> int | None:
        """The first number of `keras_version`."""
        head = (self.keras_version or "").partition(".")[0]
        return int(head) if head.isdigit() and len(head) < 3 else None


def format_of(path: str | os.PathLike[str]) -> tuple[Path, Format]:
    """The path as such, and what lies there.

    Raises:
        FileError: Nothing does, or nothing that could be a model.
    """
    where = Path(path)
    try:
        return where, _recognized(where)
    except OSError as error:
        raise FileError(f"{where} cannot be read: {error.strerror or error}.") from error


def _recognized(path: Path) -> Format:
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return Format.SAVED_MODEL
        _refuse(path, "a folder without saved_model.pb")
    if not path.is_file():
        _refuse(path, "neither a file nor a folder" if path.exists() else "not there")
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) in _ZIP:
            return Format.KERAS
        offset = 0
        while offset < size:  # HDF5 may begin at 0, 512, 1024, 2048, ...
            file.seek(offset)
            if file.read(len(_HDF5)) == _HDF5:
                return Format.H5
            offset = offset * 2 or 512
    said = f"{size:,} bytes that are neither HDF5 nor a zip archive" if size else "empty"
    return _refuse(path, said)


def _refuse(path: Path, what: str) -> NoReturn:
    raise FileError(
        f"{path} is {what}. A model file is required: .h5 or .hdf5, .keras, .weights.h5, or the "
        "folder of a SavedModel."
    )


@contextmanager
def opened(path: Path, form: Format) -> Generator[Stored]:
    """The HDF5 file or archive at `path`, its configuration read."""
    if form is Format.H5:
        with Hdf5(path, path.name, path.stat().st_size) as hdf5:
            yield _of_hdf5(path, hdf5)
        return
    with Archive(path) as archive:
        if WEIGHTS in archive.names:
            with archive.opened(WEIGHTS) as (source, size):
                name = f"{path.name}/{WEIGHTS}"
                with Hdf5(source, name, size) as hdf5:
                    yield _of_archive(path, archive, hdf5)
        else:
            yield _of_archive(path, archive, None)


def _of_hdf5(path: Path, hdf5: Hdf5) -> Stored:
    version = hdf5.attribute("/", "keras_version") or hdf5.attribute(
        "/model_weights", "keras_version"
    )
    return Stored(
        path=path,
        format=Format.H5,
        keras_version=version if isinstance(version, str) else None,
        model=_json_attribute(path, hdf5, "model_config"),
        training=_json_attribute(path, hdf5, "training_config"),
        weights=hdf5,
    )


def _json_attribute(path: Path, hdf5: Hdf5, name: str) -> Json | None:
    text = hdf5.attribute("/", name)
    if text is None:
        return None
    if not isinstance(text, str):
        raise FileError(
            f"{path.name}: its {name} is a {type(text).__name__}; the JSON text that Keras writes "
            "is required."
        )
    return parsed(text, f"{path.name}: its {name}")


def _of_archive(path: Path, archive: Archive, hdf5: Hdf5 | None) -> Stored:
    model = parsed(archive.read(CONFIG, MAX_TEXT), f"{path.name}: its {CONFIG}")
    version = None
    if METADATA in archive.names:
        told = parsed(archive.read(METADATA, MAX_TEXT), f"{path.name}: its {METADATA}")
        version = told.get("keras_version")
    training = model.get("compile_config")
    return Stored(
        path=path,
        format=Format.KERAS,
        keras_version=version if isinstance(version, str) else None,
        model=model,
        training=training if isinstance(training, dict) else None,
        weights=hdf5,
        archive=archive,
    )
