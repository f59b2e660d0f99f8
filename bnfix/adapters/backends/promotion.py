"""What Keras 3 takes for the dtype of a result, where that is float64.

But for TensorFlow it says float32, whatever the operands are: its matrix products, einsums and
BatchNormalizations round float64 down. So a layer of `dtype="float64"` computes as float32 does,
and a proof in float64 has to tell Keras otherwise, for as long as it takes.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module

from bnfix.restoring import put_back_after


@contextmanager
def float64_kept() -> Generator[None]:
    """float64 stays float64 in all of Keras while the block runs, in every thread."""
    # There is no public switch; in Keras 3.5 to 3.15 the table has this name.
    table: dict[str, str] = import_module("keras.src.backend.common.dtypes").BIT64_TO_BIT32_DTYPE
    before = table["float64"]
    with put_back_after(lambda: table.update(float64=before)):
        table["float64"] = "float64"
        yield
