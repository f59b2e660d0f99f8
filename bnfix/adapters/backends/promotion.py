"""What Keras 3 takes for the dtype of a result, where that is float64.

But for TensorFlow it says float32, whatever the operands are: its matrix products, einsums and
BatchNormalizations round float64 down. So a layer of `dtype="float64"` computes as float32 does,
and a proof in float64 has to tell Keras otherwise, for as long as it takes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import import_module

from bnfix.restoring import Setting


def _table() -> dict[str, str]:
    # There is no public switch; in Keras 3.5 to 3.15 the table has this name.
    table: dict[str, str] = import_module("keras.src.backend.common.dtypes").BIT64_TO_BIT32_DTYPE
    return table


_float64 = Setting(lambda: _table()["float64"], lambda dtype: _table().update(float64=dtype))


def float64_kept() -> AbstractContextManager[None]:
    """float64 stays float64 in all of Keras while the block runs, in every thread."""
    return _float64.held("float64")
