"""What a model is made of, as one Keras sees it."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bnfix.adapters.operators import Translation
from bnfix.graph.definition import TensorSpec


@dataclass(frozen=True)
class RawNode:
    """One recorded call within a model, still made of Keras objects."""

    layer: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Any, ...]
    is_input: bool


def first_of(*ways: Callable[..., Any]) -> Callable[..., Any]:
    """What the first of `ways` returns that does not raise, which all but the last may do."""

    def call(*args: Any, **kwargs: Any) -> Any:
        for way in ways[:-1]:
            try:
                return way(*args, **kwargs)
            except Exception:  # whatever the code of a layer raises
                continue
        return ways[-1](*args, **kwargs)

    return call


class Models(ABC):
    """Models, layers and the calls between them.

    Attributes:
        keras: The module, `keras` or `tf_keras`.
    """

    def __init__(self, keras: Any) -> None:
        self.keras = keras

    @abstractmethod
    def has_graph(self, model: Any) -> bool:
        """Whether `model` is defined by its graph alone: Functional or Sequential, and built."""

    @abstractmethod
    def nodes(self, model: Any) -> Iterator[RawNode]:
        """The calls recorded in `model`'s own graph, in the order in which Keras runs them."""

    @abstractmethod
    def is_symbolic(self, value: Any) -> bool:
        """Whether `value` is a placeholder tensor of this Keras."""

    @abstractmethod
    def tensor_spec(self, tensor: Any) -> TensorSpec: ...

    @abstractmethod
    def is_operation(self, layer: Any) -> bool:
        """Whether `layer` is a bare function on tensors (`x + 1`, `keras.ops.concatenate`)."""

    @abstractmethod
    def function(self, raw: RawNode) -> tuple[Translation, dict[str, Any]] | None:
        """How a call of a bare function may be read as that of a layer, and its arguments.

        None where no layer does the like.
        """

    @abstractmethod
    def reshape(self, tensor: Any, shape: tuple[int, ...]) -> Any: ...

    @abstractmethod
    def infer_specs(self, layers: Iterable[Any], found: Callable[..., Any]) -> None:
        """Let `found` tell what `layers` of others' classes make of placeholders.

        It takes a layer and the arguments of a call. Where it raises, the layer is asked, and where
        that raises, too, its code is run. An attribute of each says so afterwards.
        """

    @abstractmethod
    def unconnected(self, tensor: Any) -> Any:
        """A placeholder like `tensor`, of which no call is known that made it."""

    def without_sizes(self, model: Any) -> Any | None:
        """`model`, recorded from code, without the size of a batch that it was told as None.

        None where a function in it needs that size.
        """
        return model

    def is_called(self, layer: Any) -> bool:
        """Whether `layer` has been called on a placeholder tensor, so that it has a place."""
        return bool(layer._inbound_nodes)  # neither Keras has a public name for it

    @contextmanager
    def calls_forgotten(self, layers: Iterable[Any]) -> Generator[None]:
        """Calls of `layers` on placeholder tensors leave nothing in them when the block ends."""
        held = [nodes for one in layers for nodes in (one._inbound_nodes, one._outbound_nodes)]
        lengths = [len(nodes) for nodes in held]
        try:
            yield
        finally:
            for nodes, length in zip(held, lengths, strict=True):
                del nodes[length:]

    @abstractmethod
    def casts_inputs(self, layer: Any) -> bool:
        """Whether `layer` is given floating-point inputs in the dtype in which it computes."""

    @abstractmethod
    def input_signature(self, model: Any) -> Any:
        """A `TensorSpec` for each input of a model without a graph, in its structure.

        None where the model does not know what it was built for.
        """

    @abstractmethod
    def input_names(self, model: Any) -> list[str]:
        """Names of the model's inputs, in order."""

    @abstractmethod
    def flatten(self, structure: Any) -> list[Any]:
        """Leaves in the order in which this Keras flattens nested inputs."""

    @abstractmethod
    def pack(self, structure: Any, flat: list[Any]) -> Any:
        """The inverse of `flatten`, shaped like `structure`."""

    def inputs(self, model: Any) -> list[Any]:
        """The placeholders of a model that tells what it takes; none for others."""
        # Before it is built Keras 3.5 raises where later ones have None.
        return list(getattr(model, "inputs", None) or []) if model.built else []

    def batch_size(self, model: Any) -> int | None:
        """The one number of rows that `model` takes, as one with recurrent states does; or None.

        A size of 1 is declared by many a model that takes more.
        """
        shapes = [tuple(tensor.shape) for tensor in self.inputs(model)]
        declared = next((shape[0] for shape in shapes if shape and shape[0]), None)
        binds = any(getattr(layer, "stateful", False) for _, layer in self.tree(model))
        if declared is None or (declared == 1 and not binds):
            return None
        return int(declared) if binds or not self.is_sequential(model) else None

    def is_sequential(self, model: Any) -> bool:
        return isinstance(model, self.keras.Sequential)

    def is_model(self, layer: Any) -> bool:
        return isinstance(layer, self.keras.Model)

    def is_layer(self, value: Any) -> bool:
        return isinstance(value, self.keras.layers.Layer)

    def is_batch_norm(self, layer: Any) -> bool:
        """Subclasses and the base that tf_keras derives all its variants from included."""
        return any(
            cls.__name__ in ("BatchNormalization", "BatchNormalizationBase")
            and cls.__module__.partition(".")[0] == self.keras.__name__
            for cls in type(layer).__mro__
        )

    def is_own(self, layer: Any) -> bool:
        """Whether the class of `layer` is Keras's own, not a subclass made elsewhere."""
        return type(layer).__module__.partition(".")[0] == self.keras.__name__

    @abstractmethod
    def draws_lots(self, layer: Any) -> bool:
        """Whether `layer` is one of Keras's own that makes random numbers, in training or ever."""

    def children(self, layer: Any) -> list[Any]:
        """Layers directly inside `layer`, in lists and dicts too."""
        if isinstance(layer, self.keras.Sequential):
            return list(layer.layers)
        return list(layer._flatten_layers(include_self=False, recursive=False))

    def holders(self, layers: Iterable[Any]) -> Counter[int]:
        """By id of a layer, how many of `layers` are it or hold it, at any depth."""
        held = ({id(one), *(id(inside) for _, inside in self.tree(one))} for one in layers)
        return Counter(identity for ids in held for identity in ids)

    def metrics(self, layer: Any) -> list[Any]:
        """What `layer` counts training by, which tf_keras takes for weights of a model."""
        held = [value for value in vars(layer).values() if self._is_metric(value)]
        return [*held, *(one for one in getattr(layer, "metrics", ()) if self._is_metric(one))]

    def _is_metric(self, value: Any) -> bool:
        return isinstance(value, self.keras.metrics.Metric)

    def tree(self, layer: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Every layer below `layer`, once, with the path at which it is met first."""
        yield from self._tree(layer, prefix, set())

    def _tree(self, layer: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
        for child in self.children(layer):
            if id(child) not in seen:
                seen.add(id(child))
                yield prefix + child.name, child
                yield from self._tree(child, f"{prefix}{child.name}/", seen)

    def batch_norms(self, model: Any) -> list[tuple[str, Any]]:
        """Path and layer of every BatchNormalization at any depth."""
        return [(path, layer) for path, layer in self.tree(model) if self.is_batch_norm(layer)]

    def default_training(self, layer: Any) -> bool | None:
        """The `training` with which the `call` of `layer` works where nobody gives it."""
        parameter = inspect.signature(layer.call).parameters.get("training")
        default = None if parameter is None else parameter.default
        return default if isinstance(default, bool) else None

    def trains_unless_told(self) -> bool:
        """Whether the user has told this Keras to train wherever nobody gives `training`."""
        return False

    def predict_passes_training(self, model: Any) -> bool:
        """Whether `predict` calls `model` with training=False, not without a word."""
        return True

    def recorded_training(self, layer: Any) -> bool | None:
        """The `training` that this Keras notes down for a call in which nobody gave it."""
        return None

    def callables(self, model: Any) -> list[Any]:
        """All layers in `model`, and the bare functions on tensors in its graphs, each once."""
        layers = [layer for _, layer in self.tree(model)]
        graphs = [part for part in [model, *layers] if self.is_model(part) and self.has_graph(part)]
        called = [node.layer for part in graphs for node in self.nodes(part)]
        return list({id(layer): layer for layer in [*layers, *called]}.values())

    def accepts_training(self, layer: Any) -> bool:
        if self.is_operation(layer):
            return False
        return "training" in inspect.signature(layer.call).parameters
