"""Put every BatchNormalization into inference mode for good."""

from __future__ import annotations

from typing import Any, Literal, overload

from bnfix.adapters import state
from bnfix.adapters.base import Adapter
from bnfix.adapters.choose import adapter_of
from bnfix.graph.select import Selection, select
from bnfix.outcomes import Outcome, Report
from bnfix.restoring import all_or_nothing


@overload
def freeze(model: Any, *, layers: Selection = ..., return_report: Literal[False] = ...) -> Any: ...
@overload
def freeze(
    model: Any, *, layers: Selection = ..., return_report: Literal[True]
) -> tuple[Any, Report]: ...


@all_or_nothing(state.settings)
def freeze(model: Any, *, layers: Selection = None, return_report: bool = False) -> Any:
    """Keep every BatchNormalization in inference mode, even under `training=True`.

    `trainable=False` on the BatchNormalization itself is the one switch that both Kerases obey,
    also where `training=True` is baked into its call, and that survives saving, but for a layer
    that a class of your own makes in its code. Its gamma and beta stop training too. Compiled
    functions of the model are dropped, since they remember the old flag, and the next `fit` trains
    what is left. On JAX, where an optimizer trains the weights alone that it was built for, the
    model gets one for those, with the state of the old one.
    Compiled code of your own that has run before, by `tf.function`, `jax.jit` or `torch.export`,
    cannot be reached: it goes on as it was traced, until you make it anew.

    Args:
        model: Keras 3 or tf_keras model of any kind, subclassed included. Changed in place.
        layers: Paths (a nested model's stands for all in it) or a function of a path; all by
            default.
        return_report: Return `(model, report)`.

    Returns:
        The model.

    Raises:
        UnsupportedModelError: `model` is not a Keras model, or its optimizer cannot be made anew
            on JAX. Nothing is changed then.
        OptionError: `layers` names a path without BatchNormalization. Nothing is changed then.

    Examples:
        >>> model = bnfix.freeze(model, layers="bn")
        >>> model.get_layer("bn").trainable
        False
    """
    adapter = adapter_of(model)
    found = adapter.batch_norms(model)
    chosen = select(layers, [path for path, _ in found], what="BatchNormalization")
    with adapter.retrained(model):
        outcomes = tuple(_freeze(path, layer) for path, layer in found if path in chosen)
    notes = _notes(adapter, outcomes) if found else ("the model has no BatchNormalization",)
    report = Report("freeze", outcomes, (*notes, *adapter.out_of_reach(model)))
    return (model, report) if return_report else model


def _notes(adapter: Adapter, outcomes: tuple[Outcome, ...]) -> tuple[str, ...]:
    if not any(outcome.changed for outcome in outcomes):
        return ()
    backend = adapter.backend
    return (
        f"code of your own that {backend.compiler} has made of the model before goes on as it was "
        f"traced: make it anew, {backend.compiled_call}",
    )


def _freeze(path: str, layer: Any) -> Outcome:
    was_frozen = not layer.trainable
    layer.trainable = False
    return Outcome(path, not was_frozen, "was frozen already" if was_frozen else "frozen")
