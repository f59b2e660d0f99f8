"""What a pass wants changed, as plain data; an adapter carries it out on a copy of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bnfix.graph.definition import LayerKey, NodeKey
from bnfix.numerics.linear import Linear
from bnfix.numerics.norm import NormSpec


@dataclass(frozen=True)
class Edit:
    """Changes to a model, all to be made in one rebuilding.

    Attributes:
        assign: New weights of linear layers, in float64; a bias is added where there was none.
        bypass: Nodes that hand on their first input unchanged and vanish.
        untrain: Nodes that lose the `training=` written into their call.
        lower: BatchNormalizations that become a plain affine layer of the same name.
    """

    assign: Mapping[LayerKey, Linear] = field(default_factory=dict[LayerKey, Linear])
    bypass: frozenset[NodeKey] = frozenset()
    untrain: frozenset[NodeKey] = frozenset()
    lower: Mapping[LayerKey, NormSpec] = field(default_factory=dict[LayerKey, NormSpec])

    def __bool__(self) -> bool:
        return bool(self.assign or self.bypass or self.untrain or self.lower)
