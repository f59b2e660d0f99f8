"""The model that something is about, with the adapter by which everything is asked of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from bnfix.adapters.base import Adapter
from bnfix.adapters.choose import adapter_of


class Subject(NamedTuple):
    """A model and the adapter of its Keras, which go together wherever either goes.

    What belongs to one Keras rather than to one model is asked of the adapter alone.
    """

    adapter: Adapter
    model: Any

    @classmethod
    def of(cls, model: Any) -> Subject:
        """`model` with its adapter; raises as `adapter_of` does."""
        return cls(adapter_of(model), model)
