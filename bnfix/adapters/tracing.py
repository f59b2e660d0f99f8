"""What does the code of a layer call, and on what?

Run on placeholders, `call` is recorded as any Functional model is: the layers that it calls, with
the very variables that they have, and an operation for each operator. So a layer that is made of
layers, or a subclassed model, becomes a graph, as long as its code goes the same way whatever the
values are.

The layer itself is as before in the end: what recording leaves in it and in the layers inside is
taken out again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnfix.adapters import stepwise
from bnfix.adapters.base import Adapter
from bnfix.errors import BnfixError, gist
from bnfix.graph.definition import TensorSpec
from bnfix.tree import leaves, map_leaves


class Untraceable(BnfixError):
    """The code cannot be had as a graph; the message says why, as the end of a sentence."""


class PassedOn(int):
    """The `training=False` of whoever calls: inference, and told from one that is written down."""


#: What a layer is traced with as `training`.
PASSED_ON = PassedOn(0)


@dataclass(frozen=True)
class Traced:
    """The graph of a layer's call.

    Attributes:
        model: A Functional model of the layers that the layer itself calls.
        fed: The tensors of the call that was traced, in the order of the model's inputs.
    """

    model: Any
    fed: tuple[Any, ...]


#: What a layer within makes of the arguments of a call, as placeholders; it may raise instead.
Made = Callable[..., Any]


def trace(
    adapter: Adapter, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], made: Made
) -> Traced:
    """The graph of `layer(*args, **kwargs)`, in inference where the code asks for `training`.

    Args:
        adapter: Of the layer's Keras.
        layer: Any built layer or model.
        args: Placeholder tensors of a graph are leaves; `training` is left out.
        kwargs: As `args`.
        made: What is known of calls of the layers within, each told first.

    Raises:
        Untraceable: It has none.
    """
    _check(adapter, layer)
    if stepwise.is_stepwise(adapter, layer) and (
        reason := stepwise.objection(adapter, args, kwargs)
    ):
        raise Untraceable(reason)
    if _is_masked_unsaid(adapter, layer, args, kwargs):
        raise Untraceable("a mask comes to its code with a tensor, which a graph would not pass on")
    inputs = _Placeholders(adapter, layer)
    given, options = map_leaves(inputs.stand_in, (args, kwargs))
    with _left_alone(adapter, layer, made):
        model = _recorded(adapter, layer, given, options, inputs.flat())
    return Traced(model, tuple(inputs.tensors))


def _is_masked_unsaid(
    adapter: Adapter, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Whether Keras itself hands the code a mask that is no argument of the recorded call."""
    masked = any(adapter.mask_of(leaf) is not None for leaf in leaves((args, kwargs)))
    takes = "mask" in inspect.signature(layer.call).parameters
    return masked and takes and kwargs.get("mask") is None


def trace_model(adapter: Adapter, model: Any, specs: Any, made: Made) -> Any:
    """A Functional model of what the code of `model` calls.

    Args:
        adapter: Of the model's Keras.
        model: A built model without a graph.
        specs: A `TensorSpec` for each input, in the structure in which the model takes them.
        made: As in `trace`.

    Raises:
        Untraceable: It has no graph.
    """
    _check(adapter, model)
    named = _named(specs, next(iter(inspect.signature(model.call).parameters), "inputs"))
    inputs = map_leaves(lambda leaf: _placeholder(adapter, model, *leaf.of), named)
    with _left_alone(adapter, model, made):
        return _recorded(adapter, model, (inputs,), {}, inputs)


# --- what goes in ------------------------------------------------------------------------------


class _Placeholders:
    """A placeholder for each tensor of a call, the same for the same."""

    def __init__(self, adapter: Adapter, layer: Any) -> None:
        self.adapter, self.layer = adapter, layer
        self.tensors: list[Any] = []
        self._made: list[Any] = []

    def stand_in(self, leaf: Any) -> Any:
        if not self.adapter.is_symbolic(leaf):
            return leaf
        for tensor, made in zip(self.tensors, self._made, strict=True):
            if tensor is leaf:
                return made
        self.tensors.append(leaf)
        name = f"{self.layer.name}_input_{len(self.tensors)}"
        made = _placeholder(self.adapter, self.layer, name, self.adapter.tensor_spec(leaf))
        self._made.append(made)
        return made

    def flat(self) -> Any:
        return self._made[0] if len(self._made) == 1 else self._made


@dataclass(frozen=True)
class _Named:
    """A leaf: the name of an input, and what it is."""

    of: tuple[str, TensorSpec]


def _named(specs: Any, name: str) -> Any:
    """`specs` with a name for each, from the keys and places that they have."""
    if isinstance(specs, dict):
        return {key: _named(spec, str(key)) for key, spec in specs.items()}
    if isinstance(specs, (list, tuple)):
        return [_named(spec, f"{name}_{at}") for at, spec in enumerate(specs, 1)]
    return _Named((name, specs))


def _placeholder(adapter: Adapter, layer: Any, name: str, spec: TensorSpec) -> Any:
    dtype = spec.dtype
    if adapter.casts_inputs(layer) and "float" in dtype:
        dtype = str(layer.compute_dtype)
    return adapter.keras.Input(batch_shape=spec.shape, dtype=dtype, name=name)


# --- recording ---------------------------------------------------------------------------------


def _recorded(
    adapter: Adapter, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: Any
) -> Any:
    call = _code(adapter, layer)
    if adapter.accepts_training(layer):
        kwargs = {**kwargs, "training": PASSED_ON}
    try:
        outputs = call(*args, **kwargs)
        _check_outputs(adapter, outputs)
        # Neither Keras calls a model that hands on its own input.
        fed = {id(tensor) for tensor in adapter.flatten(inputs)}
        outputs = map_leaves(
            lambda leaf: _handed_on(adapter, layer, leaf) if id(leaf) in fed else leaf, outputs
        )
        recorded = adapter.keras.Model(inputs=inputs, outputs=outputs, name=layer.name)
        model = adapter.without_sizes(recorded)
        if model is None:
            raise Untraceable("its code needs the size of a batch, which a graph does not have")
        nodes = list(adapter.nodes(model))
    except Untraceable:
        raise
    except Exception as error:  # code of the user's, which may raise anything
        raise Untraceable(f"its code does not run on placeholders ({gist(error)})") from error
    for node in nodes:
        if any(hasattr(leaf, "assign") for leaf in leaves((node.args, node.kwargs))):
            raise Untraceable("its code computes with weights of another layer")
    return model


def _code(adapter: Adapter, layer: Any) -> Callable[..., Any]:
    if stepwise.is_stepwise(adapter, layer):
        return stepwise.call_of(adapter, layer)
    # A function compiled by the user records nothing; what it was made of does.
    return getattr(layer.call, "python_function", layer.call)


def _handed_on(adapter: Adapter, layer: Any, tensor: Any) -> Any:
    dtype = adapter.tensor_spec(tensor).dtype
    return adapter.keras.layers.Activation("linear", name=f"{layer.name}_same", dtype=dtype)(tensor)


def _check_outputs(adapter: Adapter, outputs: Any) -> None:
    flat = adapter.flatten(outputs)
    if not flat or not all(adapter.is_symbolic(leaf) for leaf in flat):
        raise Untraceable("it returns something that is no tensor of the graph")


def _check(adapter: Adapter, layer: Any) -> None:
    inside = {id(v) for child in adapter.children(layer) for v in adapter.weights(child)}
    inside |= {id(v) for metric in adapter.metrics(layer) for v in metric.variables}
    own = [weight for weight in adapter.weights(layer) if id(weight) not in inside]
    if own:
        names = ", ".join(str(weight.name).partition(":")[0] for weight in own)
        raise Untraceable(f"it has weights of its own ({names}), beside those of layers in it")


# --- and leaving no trace ----------------------------------------------------------------------


@contextmanager
def _left_alone(adapter: Adapter, layer: Any, made: Made) -> Generator[None]:
    """Whatever the block does, `layer` and all layers in it are as before when it ends."""
    states = adapter.variables(layer)
    before = [adapter.copy_value(state) for state in states]
    parts = [layer, *(part for _, part in adapter.tree(layer))]
    assigned: list[str] = []
    try:
        with adapter.calls_forgotten(parts), _attributes_kept(parts):
            vars(layer)["add_loss"] = _refuse_losses
            _told_apart(adapter, parts[1:])
            adapter.infer_specs(parts[1:], made)
            yield
    finally:
        for state, value in zip(states, before, strict=True):
            if not np.array_equal(adapter.copy_value(state), value):
                state.assign(value)
                assigned.append(str(state.name))
    if assigned:
        raise Untraceable(f"its code assigns to a variable ({assigned[0]})")


@contextmanager
def _attributes_kept(layers: Iterable[Any]) -> Generator[None]:
    """Attributes of `layers` are as before: code may keep the tensors that it is given."""
    before = [(layer, dict(vars(layer))) for layer in layers]
    try:
        yield
    finally:
        for layer, attributes in before:
            vars(layer).clear()
            vars(layer).update(attributes)


def _told_apart(adapter: Adapter, layers: Iterable[Any]) -> None:
    """Give each of `layers` a name of its own, without which Keras makes no model of them."""
    taken: set[str] = set()
    for layer in layers:
        name, number = layer.name, 0
        while name in taken:
            number += 1
            name = f"{layer.name}_{number}"
        taken.add(name)
        if name != layer.name:
            adapter.rename(layer, name)


def _refuse_losses(*_: Any, **__: Any) -> None:
    raise Untraceable("its code adds a loss, which a graph would lose")
