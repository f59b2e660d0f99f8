"""How is a model written, by whichever Keras it belongs to, without risk to what is there?"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from bnfix.adapters import opening, state
from bnfix.errors import BnfixError, BnfixWarning, FileError, gist
from bnfix.files.proof import losses, may_lose, reopened, told
from bnfix.progress import progress
from bnfix.replacing import replacing
from bnfix.restoring import all_or_nothing

_SUFFIXES = (".keras", ".h5", ".hdf5")


@all_or_nothing(state.settings)
def save(
    model: Any,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    verbose: int | str = "auto",
) -> None:
    """Write `model` to `path` in the format of its extension; the old file or the new is there.

    The file is written beside its place and moved there when it is whole, so that neither an error
    nor a crash leaves half a file. Where a file may not hold all of the model, because layers are
    made by other layers, it is opened again and compared; a `BnfixWarning` says what does not come
    back. So it does where opening the file would run code that is not Keras's own, as of a Lambda.

    Args:
        model: Keras 3 or tf_keras model.
        path: Ends in `.keras`, `.h5` or `.hdf5`.
        overwrite: Replace a file that is at `path`.
        verbose: "auto" shows progress on terminals and in notebooks; 0 never, 1 always.

    Raises:
        UnsupportedModelError: `model` is no Keras model.
        FileError: The extension is another, a file is there, the place cannot be written to, or
            the model cannot be saved in this format.

    Examples:
        >>> bnfix.save(model, "model.keras")
    """
    place = place_for(path)
    if place.exists() and not overwrite:
        raise FileError(f"{place} exists. Another name, or overwrite=True, is required.")
    with replacing(place) as draft, progress(1, f"writing {place.name}", verbose):
        write(model, draft)
        problem = _problem(model, draft) if may_lose(model) else ""
        problem = problem or _unsafe(draft)
    if problem:
        warnings.warn(f"{path} was written, but {problem}.", BnfixWarning, stacklevel=3)


def _problem(model: Any, draft: Path) -> str:
    """What is wrong with the model that comes out of `draft`; empty if nothing is."""
    try:
        return told(losses(model, reopened(model, draft, {})))
    except Exception as error:  # whatever a Keras raises on a file
        return f"{model.name} cannot be opened from it to be compared: {gist(error)}"


def _unsafe(draft: Path) -> str:
    """What stands in the way of opening `draft` as a stranger would; empty if nothing does."""
    from bnfix.files.inspect import inspect  # h5py, which the help of a command does without

    try:
        return not_safe(inspect(draft).unsafe)
    except BnfixError:  # it is Keras's own work
        return ""


def not_safe(unsafe: tuple[str, ...]) -> str:
    """That a file cannot be opened as a stranger's is; `unsafe` is what `inspect` says of it."""
    if not unsafe:
        return ""
    more = f" (and {len(unsafe) - 1} more)" if unsafe[1:] else ""
    return (
        f"not for a safe load: {unsafe[0]}{more}. bnfix.load(path, allow_unsafe=True) opens it, "
        "and Keras with safe_mode=False"
    )


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
        other = ".h5" if draft.suffix == ".keras" else ".keras"
        raise FileError(
            f"{model.name} cannot be saved as {draft.suffix}: {gist(error)}. Another format may "
            f"hold it: {other}."
        ) from error
