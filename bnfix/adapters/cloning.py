"""A fresh copy of a layer: same configuration, own weights, no connection to the original.

Configurations name functions and classes that a deserializer must find again. Nothing needs to be
registered for that here, since the layer at hand still holds the objects themselves: they are
handed to Keras for the time of the copying.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from bnfix.errors import UnsupportedModelError, gist
from bnfix.tree import leaves, map_leaves

#: Parts of a Lambda that its configuration can only hold as byte code.
_LAMBDA_PARTS = {
    "function": "function",
    "output_shape": "_output_shape",
    "mask": "mask",
    "arguments": "arguments",
}


def clone(keras: Any, layer: Any, changes: dict[str, Any] | None = None) -> Any:
    """A new, unbuilt layer configured like `layer`, but for `changes` to the configuration."""
    try:
        config = {**plain(layer.get_config()), **(changes or {})}
        if type(layer) is keras.layers.Lambda:
            return _clone_lambda(keras, layer, config)
        with keras.utils.custom_object_scope(own_objects(keras, layer)):
            return type(layer).from_config(config)
    except (NotImplementedError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise UnsupportedModelError(
            f"layer {layer.name!r} ({type(layer).__name__}) cannot be copied from its "
            "configuration: "
            f"{gist(error)}. Give {type(layer).__name__} a get_config() that returns all "
            "arguments of its constructor.",
            path=layer.name,
        ) from error


@contextmanager
def starting_plainly(keras: Any, layer: Any) -> Generator[None]:
    """Weights that `layer` makes while the block runs begin as zeros.

    They will be overwritten, and drawing random ones takes a quarter of the time of a copy. A class
    made elsewhere may do anything with its initializers, so it keeps them.
    """
    own = type(layer).__module__.partition(".")[0] == keras.__name__
    initializers = {
        name: value
        for name, value in vars(layer).items()
        if own and name.endswith("_initializer") and isinstance(value, _part_types(keras)[1])
    }
    try:
        for name in initializers:
            setattr(layer, name, keras.initializers.Zeros())
        yield
    finally:
        for name, value in initializers.items():
            setattr(layer, name, value)


def plain(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with numbers for variables: a copy that took them would share them."""
    if not any(hasattr(leaf, "assign") for leaf in leaves(config)):
        return config
    return map_leaves(
        lambda leaf: np.asarray(leaf.numpy()) if hasattr(leaf, "assign") else leaf, config
    )


def _clone_lambda(keras: Any, layer: Any, config: dict[str, Any]) -> Any:
    base = keras.layers.Layer.get_config(layer)
    dtype = config.get("dtype", base.get("dtype"))
    parts = {name: getattr(layer, attribute) for name, attribute in _LAMBDA_PARTS.items()}
    return type(layer)(
        **parts, name=layer.name, trainable=layer.trainable, dtype=_policy(keras, dtype)
    )


def _policy(keras: Any, dtype: Any) -> Any:
    """A dtype as a layer's constructor takes it; configurations hold policies serialized."""
    return keras.saving.deserialize_keras_object(dtype) if isinstance(dtype, dict) else dtype


def own_objects(keras: Any, layer: Any) -> dict[str, Any]:
    """Functions and classes held by `layer` that are not Keras's own, by every name for them."""
    found: dict[str, Any] = {}
    for held in _held(keras, layer, set()):
        named = held if isinstance(held, type) or hasattr(held, "__name__") else type(held)
        if named.__module__.split(".")[0] != keras.__name__ and named.__module__ != "builtins":
            found[named.__name__] = named
            found[keras.saving.get_registered_name(named)] = named
    return found


def _held(keras: Any, holder: Any, seen: set[int]) -> Iterator[Any]:
    """Everything callable or Keras-like within `holder`'s attributes, layers searched in turn."""
    if id(holder) in seen:
        return
    seen.add(id(holder))
    if isinstance(holder, dict):
        inside = list(holder.values())
    elif isinstance(holder, (list, tuple)):
        inside = list(holder)
    else:
        yield holder
        if not isinstance(holder, keras.layers.Layer):
            return
        inside = list(vars(holder).values())
    for value in inside:
        if isinstance(value, (dict, list, tuple)) or _is_part(keras, value):
            yield from _held(keras, value, seen)


def _is_part(keras: Any, value: Any) -> bool:
    kinds = _part_types(keras)
    return isinstance(value, kinds) or (callable(value) and hasattr(value, "__name__"))


@functools.cache
def _part_types(keras: Any) -> tuple[type, ...]:
    return (
        keras.layers.Layer,
        keras.initializers.Initializer,
        keras.regularizers.Regularizer,
        keras.constraints.Constraint,
    )
