"""What tf_keras keeps of how a model is trained: its optimizer, its flags, what was compiled.

At `compile` it notes which layers are trainable, and `fit` goes back to that for as long as it
runs, wherever a flag is another one by then. What it notes has no public interface, and is read and
written in `_compiled_flags` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from bnfix.adapters.base import Adapter
from bnfix.restoring import Undo


class Training(Adapter):
    """The part of the adapter that is about training."""

    def is_compiled(self, model: Any) -> bool:
        return bool(getattr(model, "_is_compiled", False))

    def build_optimizer(self, optimizer: Any, weights: list[Any]) -> None:
        if hasattr(optimizer, "_create_all_weights"):  # those of before Keras 2.11
            optimizer._create_all_weights(weights)
        else:
            optimizer.build(weights)

    def optimizer_variables(self, optimizer: Any) -> list[Any]:
        held: Any = optimizer.variables  # a method in those of before Keras 2.11
        found: Any = held() if callable(held) else held
        return list(found)

    def noted_flags(self, model: Any) -> Undo:
        put_back, flags = super().noted_flags(model), _compiled_flags(model)
        before = dict(flags)

        def undo() -> None:
            put_back()
            flags.update(before)

        return undo

    @contextmanager
    def retrained(self, model: Any) -> Generator[None]:
        before = [(layer, layer.trainable) for _, layer in self.tree(model)]
        with super().retrained(model):
            yield
        # Wherever a flag is not what it was at `compile`, `fit` goes back to all that were.
        flags = _compiled_flags(model)
        flags.update(
            (layer, layer.trainable)
            for layer, was in before
            if layer in flags and layer.trainable != was
        )

    def stale_flags(self, model: Any) -> frozenset[int]:
        compiled = _compiled_flags(model)
        return frozenset(
            id(layer)
            for _, layer in self.batch_norms(model)
            if layer in compiled and compiled[layer] != layer.trainable
        )

    def rebuild_optimizer(self, model: Any) -> None:
        """Nothing to do: optimizers of tf_keras find what they keep by the weight."""

    def forget_functions(self, model: Any) -> None:
        model.train_function = model.test_function = model.predict_function = None
        # tf_keras remembers the unwrapped functions as well and would take them up again.
        model.train_tf_function = None


def _compiled_flags(model: Any) -> Any:
    """What was trainable at `compile`, by layer; nothing before that."""
    return getattr(model, "_compiled_trainable_state", None) or {}
