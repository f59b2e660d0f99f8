"""Put layers of the user's own in the place of BatchNormalizations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, overload

from bnfix.adapters import state, weights
from bnfix.adapters.base import Adapter
from bnfix.adapters.reading import Reading, read
from bnfix.adapters.rebuilding import rebuild
from bnfix.adapters.subject import Subject
from bnfix.errors import OptionError, UnsupportedModelError, gist
from bnfix.graph.definition import LayerKey
from bnfix.graph.edit import Edit, Given, Replacement
from bnfix.graph.graph import Call
from bnfix.graph.select import Selection
from bnfix.numerics.moments import Floats
from bnfix.operations.selected import HIDDEN, SelectedNorm, selected
from bnfix.operations.verify import verify_compiled
from bnfix.outcomes import Outcome, Report
from bnfix.report import Rendered
from bnfix.restoring import all_or_nothing


@dataclass(frozen=True)
class BatchNormSpec(Rendered):
    """A BatchNormalization, for whoever has to say what comes in its place.

    Attributes:
        path: Full path of the layer.
        shape: Of its inputs, batch first; None where it is not known.
        axis: Channel axis as a non-negative index into `shape`.
        gamma: (channels,), or None where the layer has `scale=False`.
        beta: (channels,), or None where the layer has `center=False`.
        moving_mean: (channels,).
        moving_variance: (channels,).
        epsilon: Added to the variance.
        momentum: Of the moving statistics.
        trainable: The layer's flag.
        training: Whether one of its calls has `training=True` written into it or around it.
        dtype: Name of the layer's dtype policy.
        config: What the layer's `get_config()` returns.
    """

    path: str
    shape: tuple[int | None, ...]
    axis: int
    gamma: Floats | None
    beta: Floats | None
    moving_mean: Floats
    moving_variance: Floats
    epsilon: float
    momentum: float
    trainable: bool
    training: bool
    dtype: str
    config: dict[str, Any]

    @property
    def channels(self) -> int:
        return self.moving_mean.size


@overload
def replace(
    model: Any,
    factory: Callable[[BatchNormSpec], Any],
    *,
    layers: Selection = ...,
    x: Any = ...,
    open: str = ...,
    verbose: int | str = ...,
    return_report: Literal[False] = ...,
) -> Any: ...
@overload
def replace(
    model: Any,
    factory: Callable[[BatchNormSpec], Any],
    *,
    layers: Selection = ...,
    x: Any = ...,
    open: str = ...,
    verbose: int | str = ...,
    return_report: Literal[True],
) -> tuple[Any, Report]: ...


@all_or_nothing(state.settings)
def replace(
    model: Any,
    factory: Callable[[BatchNormSpec], Any],
    *,
    layers: Selection = None,
    x: Any = None,
    open: str = "auto",
    verbose: int | str = "auto",
    return_report: bool = False,
) -> Any:
    """Put what `factory` makes in the place of BatchNormalizations.

    The new layer takes the name, and the place of every call where the old one is shared. If it is
    not built yet and has weights called gamma, beta, moving_mean or moving_variance of the same
    size, these are taken over; one that is built keeps its own. It is trainable where the old one
    is, unless it is frozen already.

    Args:
        model: Built model of either Keras. A subclassed one, and layers made of layers, are opened
            where there is something to replace; what is opened comes back as a Functional model.
            Not changed.
        factory: Is given a `BatchNormSpec`, and returns a new layer of the model's Keras that keeps
            the shape of its input, or None to leave that BatchNormalization as it is.
        layers: Paths (a nested model's stands for all in it) or a function of a path; all by
            default.
        x: Inputs that tell what a subclassed model takes, where it does not know; the new model is
            tried on them, too. Made from the input specs by default.
        open: What may become a part of the graph where a model or layer has none of its own:
            "auto" what holds a BatchNormalization and is to be changed, "all" everything that can
            be, "never" nothing. Code that goes another way for other values stays closed.
        verbose: "auto" shows progress on terminals and in notebooks; 0 never, 1 always.
        return_report: Return `(model, report)`.

    Returns:
        A new model with the same names, weights and compilation; `model` itself where nothing was
        replaced.

    Raises:
        UnsupportedModelError: `model` is not built or cannot be opened, or does not work with the
            new layers.
        OptionError: `layers` names a path without BatchNormalization.
        VerificationError: Compiled and uncompiled code of the new model disagree. No model is
            returned.
        OptionError: `factory` returned no layer, or one that is in use already.

    Examples:
        >>> def layer_norm(spec):
        ...     return keras.layers.LayerNormalization(axis=spec.axis)
        >>> new = bnfix.replace(model, layer_norm)
        >>> type(new.get_layer("bn")).__name__
        'LayerNormalization'
    """
    reading = read(Subject.of(model), "replace", x=x, open=open)
    made: dict[LayerKey, Replacement] = {}
    outcomes: list[Outcome] = []
    for norm in selected(reading, layers):
        outcome, layer = _ask(reading, norm, factory)
        outcomes.append(outcome)
        if layer is not None and norm.key is not None:
            _check_new(reading.adapter, norm, layer, made)
            rank = len(_calls(reading, norm.key)[0].inputs[0].shape)
            made[norm.key] = Given(layer, weights.read_norm(norm.layer, rank))
    notes = () if outcomes else ("the model has no BatchNormalization",)
    if made:
        rebuilt = _rebuilt(reading, made)
        agreement = verify_compiled(rebuilt.model, x, operation="replace", verbose=verbose)
        model, notes = rebuilt.model, (*rebuilt.lost, *agreement.caveats)
    report = Report("replace", tuple(outcomes), notes, reading.graph.records())
    return (model, report) if return_report else model


def _ask(
    reading: Reading, norm: SelectedNorm, factory: Callable[[BatchNormSpec], Any]
) -> tuple[Outcome, Any]:
    """What becomes of `norm`, and the layer that comes in its place, if one does."""
    if norm.key is None:
        return Outcome(norm.path, False, HIDDEN), None
    calls = _calls(reading, norm.key)
    axis = reading.channel_axis(calls[0])
    if axis is None:
        return Outcome(norm.path, False, "normalizes over several axes at once"), None
    layer = factory(_spec(norm, calls, axis))
    if layer is None:
        return Outcome(norm.path, False, "left as it is"), None
    return Outcome(norm.path, True, f"replaced by {type(layer).__name__}"), layer


def _calls(reading: Reading, key: LayerKey) -> list[Call]:
    return [call for call in reading.graph if call.layer == key]


def _spec(norm: SelectedNorm, calls: list[Call], axis: int) -> BatchNormSpec:
    gamma, beta = weights.read_affine(norm.layer)
    mean, variance = weights.read_statistics(norm.layer)
    return BatchNormSpec(
        path=norm.path,
        shape=calls[0].inputs[0].shape,
        axis=axis,
        gamma=gamma,
        beta=beta,
        moving_mean=mean,
        moving_variance=variance,
        epsilon=float(norm.layer.epsilon),
        momentum=float(norm.layer.momentum),
        trainable=bool(norm.layer.trainable),
        training=any(call.training for call in calls),
        dtype=str(norm.layer.dtype_policy.name),
        config=norm.layer.get_config(),
    )


def _check_new(
    adapter: Adapter, norm: SelectedNorm, layer: Any, made: dict[LayerKey, Replacement]
) -> None:
    kind = type(layer).__name__
    if not adapter.is_layer(layer):
        problem = f"{kind} is not a layer of {adapter.name}"
    elif any(layer is other.layer for other in made.values() if isinstance(other, Given)):
        problem = f"this {kind} was returned for another BatchNormalization already"
    elif adapter.is_called(layer):
        problem = f"this {kind} ({layer.name}) is called elsewhere already"
    else:
        return
    raise OptionError(
        f"replace: factory returned something that cannot take the place of {norm.path}: "
        f"{problem}. Return a new {adapter.keras.__name__} layer each time, or None to leave the "
        "BatchNormalization.",
        path=norm.path,
    )


def _rebuilt(reading: Reading, made: dict[LayerKey, Replacement]) -> Any:
    try:
        return rebuild(reading, Edit(replace=made))
    except UnsupportedModelError:
        raise
    except reading.adapter.run_errors as error:
        raise UnsupportedModelError(
            f"replace: {reading.model.name} cannot be built with the layers that factory made: "
            f"{gist(error)}. Each has to take what the BatchNormalization takes, and to keep its "
            "shape."
        ) from error
