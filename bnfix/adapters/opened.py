"""Which layers are opened when a model is read, and why the others stay closed?

Opened is what holds a BatchNormalization and is not one of Keras's own layers, a TimeDistributed
excepted, as deep as there is
one and no deeper: what holds none keeps its class and its configuration, if it has one that a copy
can be made from.
"""

from __future__ import annotations

import inspect
from typing import Any

from bnfix.adapters.base import Adapter
from bnfix.adapters.stepwise import is_stepwise
from bnfix.adapters.tracing import Traced, Untraceable, trace, trace_model
from bnfix.errors import OptionError, UnsupportedModelError
from bnfix.tree import leaves, map_leaves

#: What may be asked for: to open nothing, what holds a BatchNormalization, or all that can be.
MODES = ("never", "auto", "all")


def check_mode(mode: str) -> None:
    if mode not in MODES:
        raise OptionError(f"open is {mode!r}; it may be {', '.join(map(repr, MODES))}.")


class Opening:
    """Opens layers as they are met, each once for every way in which it is called.

    Attributes:
        adapter: Of the model's Keras.
        mode: One of `MODES`.
    """

    def __init__(self, adapter: Adapter, mode: str = "auto") -> None:
        check_mode(mode)
        self.adapter, self.mode = adapter, mode
        self._reasons: dict[int, tuple[Any, str]] = {}
        self._copies: dict[int, tuple[Any, bool]] = {}
        self._traced: dict[int, list[tuple[Any, Traced]]] = {}

    def whole(self, model: Any, specs: Any, operation: str) -> Any:
        """The Functional model that the code of `model`, which has no graph, amounts to."""
        kind = type(model).__name__
        try:
            return trace_model(self.adapter, model, specs, self.made)
        except Untraceable as reason:
            raise UnsupportedModelError(
                f"{operation} needs a graph, and the code of {model.name} ({kind}) cannot be had as"
                f" one: {reason}. bnfix.check, bnfix.freeze and bnfix.recalibrate accept the model "
                "as it is."
            ) from reason

    def of(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced | None:
        """The graph of this call of `layer`; None where it stays closed."""
        if id(layer) in self._reasons or not self._wanted(layer):
            return None
        specs = map_leaves(self._described, (args, kwargs))
        known = self._traced.setdefault(id(layer), [])
        for described, traced in known:
            if described == specs:
                return Traced(traced.model, self._fed(args, kwargs))
        try:
            traced = trace(self.adapter, layer, args, kwargs, self.made)
        except Untraceable as reason:
            self._reasons[id(layer)] = layer, str(reason)
            return None
        known.append((specs, traced))
        return traced

    def made(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """Placeholders like those that a call of `layer` makes, from its graph.

        So code is recorded once, and not once more in a graph of the backend as both Kerases do.

        Raises:
            Untraceable: That does not tell.
        """
        adapter = self.adapter
        args, kwargs = named(layer, args, kwargs)
        kwargs.pop("training", None)
        traced = self.of(layer, args, kwargs)
        if traced is None:
            raise Untraceable(self.reason(layer) or "it is not to be opened")
        masked = (adapter.mask_of(tensor) for tensor in (*traced.fed, *traced.model.outputs))
        if any(mask is not None for mask in masked):
            raise Untraceable("Keras would have masks travel along")
        return map_leaves(adapter.unconnected, traced.model.output)

    def reason(self, layer: Any) -> str | None:
        """Why `layer`, which has been met, stays closed; None where nothing was tried."""
        return self._reasons.get(id(layer), (layer, None))[1]

    def _wanted(self, layer: Any) -> bool:
        adapter = self.adapter
        if self.mode == "never" or not adapter.is_layer(layer) or adapter.is_batch_norm(layer):
            return False
        if is_stepwise(adapter, layer):
            made_elsewhere = not all(adapter.is_own(one) for _, one in adapter.tree(layer))
            return bool(adapter.batch_norms(layer)) or (self.mode == "all" and made_elsewhere)
        if adapter.is_own(layer):  # a few of Keras's own have no configuration, made by some calls
            return not adapter.children(layer) and not _has_config(layer)
        wanted = self.mode == "all" or bool(adapter.batch_norms(layer))
        return wanted or not self.can_be_copied(layer)

    def can_be_copied(self, layer: Any) -> bool:
        """Whether a closed `layer` can be had again from its configuration."""
        if id(layer) not in self._copies:
            try:
                self.adapter.clone_layer(layer)
                copies = True
            except UnsupportedModelError:
                copies = False
            self._copies[id(layer)] = layer, copies
        return self._copies[id(layer)][1]

    def _described(self, leaf: Any) -> Any:
        return self.adapter.tensor_spec(leaf) if self.adapter.is_symbolic(leaf) else leaf

    def _fed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The tensors of a call, each once, as `trace` puts them in order."""
        tensors = [leaf for leaf in leaves((args, kwargs)) if self.adapter.is_symbolic(leaf)]
        return tuple({id(tensor): tensor for tensor in tensors}.values())


def _has_config(layer: Any) -> bool:
    try:
        layer.get_config()
    except NotImplementedError:
        return False
    return True


def named(
    layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call, `training` and masks under their names if given by position."""
    names = list(inspect.signature(layer.call).parameters)[: len(args)]
    first = next((at for at, name in enumerate(names) if at and _says_how(name)), len(args))
    by_name = dict(zip(names[first:], args[first:], strict=False))
    return args[:first], {**by_name, **kwargs}


def is_mask(name: str) -> bool:
    return name == "mask" or name.endswith("_mask")


def _says_how(name: str) -> bool:
    return name == "training" or is_mask(name)
