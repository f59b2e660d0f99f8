"""The array libraries below Keras, each chosen once by the name that Keras gives it."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from bnfix.adapters.backends.base import Backend
from bnfix.errors import UnsupportedModelError

_CLASSES = {"tensorflow": "TensorFlow", "jax": "Jax", "torch": "Torch"}


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


__all__ = ["Backend", "backend_of"]
