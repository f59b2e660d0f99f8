"""What is said of that which a copy of a model does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def of_opened(layers: list[Any]) -> list[str]:
    """Of `layers`, which are graphs now."""
    if not layers:
        return []
    named = [f"{layer.name} ({type(layer).__name__})" for layer in layers]
    more = f" and {len(named) - _LISTED} more" if len(named) > _LISTED else ""
    verb = "is a Functional model" if len(named) == 1 else "are Functional models"
    return [
        f"opened: {', '.join(named[:_LISTED])}{more} {verb} now, as their code runs in inference; "
        "methods of their classes, such as a train_step, are gone"
    ]


#: Layers that a note names.
_LISTED = 3


def of_bounds(unbound: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Of constraints and regularizers that layers, by name, no longer have."""
    if not unbound:
        return []
    what = ", ".join(dict.fromkeys(name for names in unbound.values() for name in names))
    return [
        f"dropped {what} of {', '.join(unbound)}: only training heeds such, and they were made for "
        "the weights before"
    ]


def of_kept(layer: Any) -> str:
    """Of a layer that is in both models."""
    return (
        f"{layer.name} ({type(layer).__name__}) cannot be made anew, for want of a get_config(): "
        "it shares its weights with the model given, and who trains one trains the other"
    )
