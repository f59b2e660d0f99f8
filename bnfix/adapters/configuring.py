"""In what does the configuration of a copy differ from that of the layer that it is a copy of?"""

from __future__ import annotations

from typing import Any

from bnfix.adapters import weights
from bnfix.numerics.linear import Linear


def changes(layer: Any, linear: Linear | None, dtype: str | None) -> dict[str, Any]:
    """What to change in the configuration of a copy of `layer`.

    Args:
        layer: Of either Keras.
        linear: What the copy will hold, if that is something else; what training made of the
            weights before, constraints and regularizers, does not go with it.
        dtype: In which the copy is made, if that is another one.
    """
    found: dict[str, Any] = {}
    if linear is not None:
        kind = type(layer).__name__
        found |= dict.fromkeys(weights.for_training(layer, kind))
        if linear.bias is not None:
            found |= weights.bias_option(layer, kind)
        found = weights.changed_options(layer, kind, found)
    if dtype is not None and "float" in str(layer.dtype):
        found |= _in_dtype({**layer.get_config(), **found}, dtype)
    return found


def _in_dtype(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    """What to change in the configuration of a layer and those wrapped in it to be in `dtype`."""
    changes: dict[str, Any] = {"dtype": dtype}
    for name, part in config.items():
        inner = part.get("config") if isinstance(part, dict) and name != "dtype" else None
        if isinstance(inner, dict) and "dtype" in inner:
            changes[name] = {**part, "config": {**inner, **_in_dtype(inner, dtype)}}
    return changes
