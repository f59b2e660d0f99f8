"""How is a model written, by whichever Keras it belongs to, without risk to what is there?"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from bnfix.adapters import opening, state
from bnfix.adapters.choose import adapter_of
from bnfix.errors import FileError, gist
from bnfix.files.place import replacing
from bnfix.restoring import all_or_nothing

_SUFFIXES = (".keras", ".h5", ".hdf5")


@all_or_nothing(state.settings)
def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path` in the format of its extension; the old file or the new is there.

    The file is written beside its place and moved there when it is whole, so that neither an error
    nor a crash leaves half a file.

    Args:
        model: Keras 3 or tf_keras model.
        path: Ends in `.keras`, `.h5` or `.hdf5`. A file that is there is replaced.

    Raises:
        UnsupportedModelError: `model` is no Keras model.
        FileError: The extension is another, the place cannot be written to, or the model cannot be
            saved in this format.
    """
    adapter_of(model)
    with replacing(place_for(path)) as draft:
        write(model, draft)


def place_for(path: str | os.PathLike[str]) -> Path:
    """`path`, if its name tells in which format a model is to be written."""
    where = Path(path)
    if where.suffix not in _SUFFIXES or where.name.endswith(".weights.h5"):
        raise FileError(
            f"{where} names no format that holds a model. A name that ends in "
            f"{', '.join(_SUFFIXES)} is required, not in .weights.h5."
        )
    return where


def write(model: Any, draft: Path) -> None:
    """Have `model`'s own Keras write to `draft`."""
    try:
        with warnings.catch_warnings():
            # Both Kerases call .h5 legacy; whoever names the file so knows.
            warnings.filterwarnings("ignore", message=".*HDF5 file", category=UserWarning)
            opening.save_model(model, str(draft))
    except Exception as error:  # whatever a Keras raises on a model
        raise FileError(
            f"{model.name} cannot be saved as {draft.suffix}: {gist(error)}. Another format may "
            "hold it: .keras or .h5."
        ) from error
