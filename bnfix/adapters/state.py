"""What makes up the state of a model, noted down so that it can be put back."""

from __future__ import annotations

from typing import Any

from bnfix.adapters.choose import adapter_of
from bnfix.restoring import Undo


def settings(model: Any) -> Undo:
    """Flags, optimizer and compiled functions: cheap, whatever the size of the model."""
    adapter = adapter_of(model)
    parts = (adapter.noted_flags, adapter.noted_functions, adapter.noted_optimizer)
    undos = [part(model) for part in parts]

    def undo() -> None:
        for put_back in undos:
            put_back()

    return undo


def everything(model: Any) -> Undo:
    """Settings and values: weights, statistics, metrics, seeds and recurrent states, copied."""
    adapter = adapter_of(model)
    rest, values = settings(model), adapter.noted_values(adapter.memory(model))

    def undo() -> None:
        rest()
        values()

    return undo
