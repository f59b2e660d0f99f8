"""What may be asked of `repair_file`, and what is refused before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bnfix.errors import FileError, OptionError
from bnfix.files.container import Format
from bnfix.files.edit import Wishes

_FORMAT_OF_SUFFIX = {".h5": Format.H5, ".hdf5": Format.H5, ".keras": Format.KERAS}


def check_target(source: Path, form: Format, target: Path, overwrite: bool) -> None:
    """Refuse a place where what becomes of `source` cannot go, or may not.

    Raises:
        FileError: `target` is one.
    """
    wanted = _FORMAT_OF_SUFFIX.get(target.suffix)
    if target.is_dir():
        raise FileError(f"{target} is a folder; the name of a file is required.")
    if form is Format.SAVED_MODEL and wanted is None:
        raise FileError(
            f"{target} names no format for the model in {source}: .keras or .h5 is required."
        )
    if form is not Format.SAVED_MODEL and wanted not in (None, form):
        raise FileError(
            f"{target} would be {form.suffix} inside, as {source} is. A name that ends in "
            f"{form.suffix} is required; bnfix.save(bnfix.load(path), other) changes the format."
        )
    if target.exists() and not overwrite:
        same = target.samefile(source)
        what = "is the file to be repaired" if same else "exists"
        raise FileError(f"{target} {what}. Another name, or overwrite=True, is required.")


#: What a model is opened for, and how it is told that nobody asks for it.
OPENING = {
    "layers": None,
    "batch_size": 32,
    "steps": None,
    "fold": False,
    "method": "exact",
    "min_count": 32,
    "memory_limit": None,
    "guard": "auto",
    "metric": None,
}


def check_options(wishes: Wishes, without_data: tuple[Any, ...] | None) -> None:
    """Refuse what is for files that are edited, or without data for models that are opened."""
    if without_data is None:
        if wishes.freeze or wishes.replace_non_finite or not wishes.strip_training:
            raise OptionError(
                "strip_training=, freeze= and replace_non_finite= are for files that are edited "
                "without data; with ds= the model is repaired by its diagnosis. Leave these out, "
                "or ds=."
            )
        return
    asked = [
        f"{name}="
        for (name, usual), value in zip(OPENING.items(), without_data, strict=True)
        if value is not usual and value != usual
    ]
    if asked:
        raise OptionError(
            f"what {' and '.join(asked)} ask for is done to a model that is opened, for which ds= "
            "is required; without, the file is edited."
        )
