"""How do `.npy` and `.npz` files become the inputs and labels of a model?

A `.npy` file is the one input, and stays on disk until its rows are read. In a `.npz` file arrays
go by their keys: the names of the model's inputs, or `x` for the only one; `y` for labels and
`sample_weight` for weights of rows. A file of a single array needs no key.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnfix.errors import DataError, gist

_LABELS, _WEIGHT = "y", "sample_weight"


def read_arrays(file: Path, names: Sequence[str], *, limit: int | None = None) -> tuple[Any, ...]:
    """`(x,)`, `(x, y)` or `(x, y, sample_weight)` of `file`; `x` is a dict for several inputs.

    Args:
        file: `.npy` or `.npz`. Pickled objects are refused: loading them runs code.
        names: Of the model's inputs; empty where it has none declared.
        limit: Take the first rows only.

    Raises:
        DataError: The file cannot be read, or its keys leave open which array is which input.
    """
    try:
        held = np.load(file, mmap_mode="r", allow_pickle=False)
        if isinstance(held, np.ndarray):
            return (_rows(file, "it", held, limit),)
        with held:
            arrays = {key: held[key] for key in held.files}
    except DataError:
        raise
    except Exception as error:  # whatever a damaged archive makes zip and zlib raise
        # Of what has no beginning that it knows numpy says that it may be a pickle.
        reason = gist(error) if _is_of_numpy(file) else "it is neither a .npy nor a .npz file"
        raise DataError(
            f"{file} cannot be read as arrays: {reason}. Write it with numpy.save or "
            f"numpy.savez, without pickled objects."
        ) from error
    arrays = {key: _rows(file, key, array, limit) for key, array in arrays.items()}
    return _parts(file, arrays, list(names))


def _is_of_numpy(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(6).startswith((b"\x93NUMPY", b"PK"))


def _rows(file: Path, name: str, array: Any, limit: int | None) -> Any:
    if not array.ndim:
        raise DataError(
            f"{file} cannot be read as arrays: {name} is a single number, {array}, without rows. "
            "Write it with numpy.save or numpy.savez, a row for each input of the model."
        )
    return array[:limit]


def _parts(file: Path, arrays: dict[str, Any], names: list[str]) -> tuple[Any, ...]:
    keys = _input_keys(arrays, names)
    more = [key for key in (_LABELS, _WEIGHT) if key in arrays and key not in keys]
    unknown = sorted(set(arrays) - {*keys, *more})
    if not keys or unknown or more == [_WEIGHT]:
        raise DataError(_which_is_which(file, arrays, names))
    x = arrays[keys[0]] if len(names) < 2 and len(keys) == 1 else {k: arrays[k] for k in keys}
    return (x, *(arrays[key] for key in more))


def _input_keys(arrays: dict[str, Any], names: list[str]) -> list[str]:
    """Keys of the inputs; none where they cannot be told."""
    if names and set(names) <= set(arrays):
        return names
    if len(names) > 1:
        return []
    if "x" in arrays:
        return ["x"]
    rest = [key for key in arrays if key not in (_LABELS, _WEIGHT)]
    return rest if len(rest) == 1 else []


def _which_is_which(file: Path, arrays: dict[str, Any], names: list[str]) -> str:
    inputs = " and ".join(names) if len(names) > 1 else "x"
    return (
        f"{file} holds {', '.join(arrays) or 'nothing'}; the model's inputs are looked for under "
        f"{inputs}, labels under {_LABELS}, weights of rows, which need labels, under {_WEIGHT}. "
        f"Save it with these keys and no others."
    )
