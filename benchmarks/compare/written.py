"""How graphs are written down, and listed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

IMAGE = (8, 8, 3)
SEQUENCE = (8, 5)
VOLUME = (4, 6, 6, 2)
VECTOR = (7,)


class Graph(NamedTuple):
    """A network: `build(L)` gives its inputs and outputs."""

    name: str
    family: str
    build: Callable[[Any], Any]


LISTED: dict[str, Graph] = {}


def graph(family: str) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Lists the decorated function under its name."""

    def listed(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
        LISTED[build.__name__] = Graph(build.__name__, family, build)
        return build

    return listed


def chains(family: str, shape: Sequence[int], **written: Callable[[Any], list[Any]]) -> None:
    """Lists networks that apply one layer after the other."""
    for name, layers in written.items():

        def build(L: Any, layers: Callable[[Any], list[Any]] = layers) -> Any:
            x = inputs = L.input(shape)
            return [inputs], [apply(x, *layers(L))]

        LISTED[name] = Graph(name, family, build)


def apply(x: Any, *layers: Any) -> Any:
    """`x` through each of `layers`."""
    for layer in layers:
        x = layer(x)
    return x
