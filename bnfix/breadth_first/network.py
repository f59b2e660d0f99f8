"""What the engine runs, and what it does where that has to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from bnfix.adapters.backends.base import Place
from bnfix.adapters.subject import Subject
from bnfix.graph.definition import LayerKey
from bnfix.graph.graph import Call, Graph, Value


@dataclass(frozen=True)
class Network:
    """A model as calls, and the layers that they call.

    Attributes:
        subject: What everything belongs to; its variables are put back after a run.
        graph: The calls.
        layers: Keras objects by key.
    """

    subject: Subject
    graph: Graph
    layers: Mapping[LayerKey, Any]

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """What a thread enters to run on one or another of the devices that hold the model."""
        adapter, model = self.subject
        return adapter.places(model)


class Stop(Protocol):
    """What is found out where the network stops, and what goes on in place of the calls there."""

    def taken(self, call: Call, made: Mapping[Value, Any]) -> Any:
        """The tensors of a piece that `call` is judged by; runs in compiled code."""
        ...

    def summed(self, call: Call, taken: Any, where: str) -> Any:
        """What they come to; runs in several threads at a time. `where` is "batch 3"."""
        ...

    def absorb(self, call: Call, summary: Any) -> None:
        """Add what a piece came to, in the order of the pieces."""
        ...

    def settle(self, calls: Sequence[Call]) -> Mapping[int, Callable[..., Any]]:
        """By index, what runs in place of `calls`, which all pieces have come to."""
        ...

    def rows_of(self, call: Call, rows: slice) -> Any:
        """What runs in place of `call` is given as `by_row` for these rows; None for nothing.

        Asked for once for each row, in order.
        """
        ...
