"""The array libraries below Keras, each chosen once by the name that Keras gives it."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from bnfix.adapters.backends.base import Backend
from bnfix.errors import UnsupportedModelError

_CLASSES = {"tensorflow": "TensorFlow", "jax": "Jax", "torch": "Torch"}
#: By the package that the class of a tensor comes from.
_HOLDERS = {**{name: name for name in _CLASSES}, "jaxlib": "jax"}


@cache
def backend_of(name: str) -> Backend:
    """The backend that Keras calls `name`: "tensorflow", "jax" or "torch".

    Raises:
        UnsupportedModelError: It is another.
    """
    if name not in _CLASSES:
        raise UnsupportedModelError(
            f"Keras runs on {name} here, and bnfix on {', '.join(_CLASSES)}. Set KERAS_BACKEND to "
            "one of these before Keras is imported."
        )
    found: type[Backend] = getattr(import_module(f"{__name__}.{name}"), _CLASSES[name])
    return found()


def backend_holding(tensor: Any) -> Backend:
    """The backend that `tensor`, which is no variable, is one of."""
    return backend_of(_HOLDERS[type(tensor).__module__.partition(".")[0]])


__all__ = ["Backend", "backend_holding", "backend_of"]
