"""Where a report was made, and which files it is about: what makes it a proof that can be filed."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from bnfix.errors import FileError

_PACKAGES = ("bnfix", "keras", "tf_keras", "tensorflow", "jax", "torch", "numpy")


def environment() -> dict[str, str]:
    """Versions of what is installed; nothing is imported to tell them."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        told = getattr(sys.modules.get(name), "__version__", None)
        with suppress(metadata.PackageNotFoundError):
            told = told or metadata.version(name)
        if told:
            found[name] = str(told)
    with suppress(AttributeError):  # not loaded, or a Keras 2, which has but one
        found["backend"] = (
            str(sys.modules["keras"].backend.backend()) if "keras" in sys.modules else ""
        )
    found["Python"] = platform.python_version()
    found["system"] = f"{platform.system()} {platform.machine()}"
    found["written"] = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return {name: told for name, told in found.items() if told}


@dataclass(frozen=True)
class Fingerprint:
    """What tells a file from any other.

    Attributes:
        path: As it was given.
        size: Bytes; of a folder, of all files in it.
        sha256: As `sha256sum` prints it; of a folder, that of the lines which it prints of all
            files in it, in the order of their paths.
    """

    path: str
    size: int
    sha256: str


def fingerprints(files: Iterable[str | os.PathLike[str]]) -> tuple[Fingerprint, ...]:
    """Of each file or folder.

    Raises:
        FileError: One of them cannot be read.
    """
    return tuple(_fingerprint(Path(file)) for file in files)


def _fingerprint(path: Path) -> Fingerprint:
    try:
        if not path.is_dir():
            return Fingerprint(str(path), path.stat().st_size, _digest(path))
        inside = sorted(_inside(path), key=lambda file: file.relative_to(path).as_posix())
        lines = [f"{_digest(file)}  {file.relative_to(path).as_posix()}\n" for file in inside]
        told = hashlib.sha256("".join(lines).encode()).hexdigest()
        return Fingerprint(str(path), sum(file.stat().st_size for file in inside), told)
    except OSError as error:
        raise FileError(
            f"{path} cannot be read for its fingerprint: {error.strerror or error}. files= takes "
            "files and folders that are there."
        ) from error


def _inside(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.is_file())


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
