"""What takes up the map of a BatchNormalization, and what it passes on its way there."""

from __future__ import annotations

from dataclasses import dataclass, field

from bnfix.graph.definition import LayerKey, NodeKey
from bnfix.graph.graph import Call, Graph, Value
from bnfix.graph.source import Source
from bnfix.numerics.affine import Affine, per_channel
from bnfix.numerics.linear import Linear
from bnfix.numerics.norm import NormSpec


class Objection(Exception):
    """Why a BatchNormalization must stay: one reason, in a clause that names the layers."""


def check_not_returned(graph: Graph, value: Value) -> None:
    """Refuse to change what somebody gets who calls the model, or one nested in it, by itself."""
    made_by = graph.producer(value).path
    if graph.is_output(value):
        raise Objection(f"{made_by} is an output of the model as well")
    if value in graph.unread:
        raise Objection(f"{made_by} is an output of a nested model, although nothing takes it here")


@dataclass(frozen=True)
class Absorbed:
    """A call whose layer takes up a map.

    Attributes:
        call: Of a linear layer.
        affine: On the rows of its output, or of its input.
        linear: The layer with the map in it.
    """

    call: Call
    affine: Affine
    linear: Linear


@dataclass
class Folded:
    """What has been folded so far; later BNs stand on it, so that chains fold one by one.

    Attributes:
        assign: What linear layers have become.
        bypass: Calls of BNs that are gone.
        careful: Whether unknown code behind a bias is a reason not to give one.
    """

    assign: dict[LayerKey, Linear] = field(default_factory=dict[LayerKey, Linear])
    bypass: set[NodeKey] = field(default_factory=set[NodeKey])
    careful: bool = False


def map_of(norm: NormSpec, call: Call) -> Affine:
    """What `norm` does to the rows that `call` is given."""
    return per_channel(*norm.affine(), norm.axis - 1, len(call.inputs[0].shape) - 1)


def is_passed(call: Call, done: Folded) -> bool:
    """Whether `call` hands on its input as it is: a folded BN, or into a nested model."""
    if call.node in done.bypass:
        return True
    if call.kind != "InputLayer" or not call.inputs:
        return False
    outer, inner = call.inputs[0], call.outputs[0]
    return len(outer.shape) == len(inner.shape) and outer.dtype == inner.dtype


def free_linear(source: Source, call: Call, done: Folded) -> Linear | None:
    """The linear layer that `call` applies, as folded so far, if its weights may change."""
    linear = done.assign.get(call.layer) or source.linear(call)
    if linear is not None and linear.tied is not None:
        raise Objection(f"{call.path} {linear.tied}")
    return linear
