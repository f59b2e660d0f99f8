"""Which Keras an object belongs to: its classes say so, nothing is imported to find out."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from bnfix.adapters import kerases
from bnfix.adapters.leftover import check_values
from bnfix.errors import UnsupportedModelError

if TYPE_CHECKING:
    from bnfix.adapters.base import Adapter


def adapter_of(model: Any) -> Adapter:
    """The adapter of `model`.

    Raises:
        UnsupportedModelError: `model` is neither a Keras 3 nor a Keras 2 model, or its Keras is
            too old.
        ModelError: Some of its variables have lost their values.
    """
    for cls in type(model).__mro__:
        root = cls.__module__.partition(".")[0]
        if root in kerases.ROOTS and root in sys.modules:
            adapter = _adapter(root)
            if isinstance(model, adapter.keras.Model):
                check_values(adapter, model)
                return adapter
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    raise UnsupportedModelError(
        f"expected a Keras 3 or tf_keras model, got {kind}. Pass the model itself; a layer can be "
        "wrapped in a Sequential, a file be opened with that Keras's load_model."
    )


@functools.cache
def _adapter(root: str) -> Adapter:
    if problem := kerases.outdated(root):
        raise UnsupportedModelError(f"{problem}.")
    if kerases.generation(root) == 3:
        from bnfix.adapters.keras3 import Keras3

        return Keras3(sys.modules[root])
    from bnfix.adapters.keras2 import Keras2

    return Keras2(sys.modules[root])
