"""What makes up the state of a model, noted down so that it can be put back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bnfix.adapters.base import Adapter
from bnfix.adapters.choose import adapter_of
from bnfix.restoring import Undo


def settings(model: Any) -> Undo:
    """Flags and compiled functions: cheap, whatever the size of the model."""
    adapter = adapter_of(model)
    layers = [model, *(layer for _, layer in adapter.tree(model))]
    variables = _variables(adapter, model)
    # From the outside in, because Keras hands a layer's flag down to what is inside.
    flags = [(held, held.trainable) for held in (*layers, *variables) if hasattr(held, "trainable")]
    functions = adapter.compiled_functions(model)

    def undo() -> None:
        _restore_flags(flags)
        _restore_functions(adapter, model, functions)

    return undo


def everything(model: Any) -> Undo:
    """Settings and values: weights, statistics, metrics, seeds and recurrent states, copied."""
    adapter = adapter_of(model)
    rest = settings(model)
    held = [*_variables(adapter, model), *(state for _, state in adapter.carried(model))]
    values = [(variable, adapter.copy_value(variable)) for variable in held]

    def undo() -> None:
        rest()
        _restore_values(adapter, values)

    return undo


def _variables(adapter: Adapter, model: Any) -> list[Any]:
    """None of a model that was never built; tf_keras raises where it is asked for them."""
    return adapter.variables(model) if getattr(model, "built", True) else []


def _restore_flags(flags: Iterable[tuple[Any, bool]]) -> None:
    for held, flag in flags:
        if held.trainable != flag:  # TensorFlow's variables cannot be told, and never differ
            held.trainable = flag


def _restore_functions(adapter: Adapter, model: Any, before: dict[str, Any]) -> None:
    for name in {*adapter.compiled_functions(model), *before}:
        setattr(model, name, before.get(name))


def _restore_values(adapter: Adapter, values: Iterable[tuple[Any, Any]]) -> None:
    for variable, value in values:
        # To look is faster than to assign, and most variables stay as they are.
        if adapter.copy_value(variable).tobytes() != value.tobytes():
            variable.assign(value)
