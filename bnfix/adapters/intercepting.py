"""Stand between a model and its layers: replace `layer.call` for a while.

`call` is what is replaced, not `__call__`, which wrappers such as Keras 3's TimeDistributed go
around. What Keras does in `__call__` (casting, masks, building) happens before.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

from bnfix.errors import BnfixError
from bnfix.restoring import put_back_after

#: From a layer and its own `call` to what is called instead.
Wrap = Callable[[Any, Callable[..., Any]], Callable[..., Any]]


@contextmanager
def intercepted(layers: Iterable[Any], wrap: Wrap) -> Generator[None]:
    """While the block runs, each of `layers` is called as `wrap(layer, layer.call)`."""
    chosen = list(layers)
    undos = [functools.partial(_put_back, layer, vars(layer).get("call")) for layer in chosen]
    with put_back_after(*undos):
        for layer in chosen:
            call = layer.call
            layer.call = functools.wraps(call)(_in_own_words(wrap(layer, call)))
        yield


def _in_own_words(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, whose refusals pass through Keras without the arguments of each call added."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except BnfixError as error:
            vars(error)["_keras_call_info_injected"] = True
            raise

    return refuse


def _put_back(layer: Any, own: Any) -> None:
    """`own` is a `call` that the layer had as an attribute of its own, rarely there."""
    if own is not None:
        layer.call = own
    elif "call" in vars(layer):
        del layer.call
