"""What a pass wants changed, as plain data; an adapter carries it out on a copy of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bnfix.graph.definition import LayerKey, NodeKey
from bnfix.numerics.linear import Linear
from bnfix.numerics.moments import Floats
from bnfix.numerics.norm import GroupNormSpec, NormSpec


@dataclass(frozen=True)
class Lowered:
    """In place of a BatchNormalization, the plain affine layer that it is at inference."""

    norm: NormSpec


@dataclass(frozen=True)
class Plain:
    """In place of a BatchNormalization, `scale * x + shift` along `axis`, for proofs.

    Attributes:
        axis: A non-negative index into the shape.
        scale: (channels,), float64.
        shift: As `scale`.
    """

    axis: int
    scale: Floats
    shift: Floats


@dataclass(frozen=True)
class Given:
    """In place of a BatchNormalization, a layer that the user has made.

    Attributes:
        layer: Of the model's Keras, called nowhere yet.
        norm: Whose gamma and beta it takes over if it is not built yet and has such.
    """

    layer: Any
    norm: NormSpec | None


#: What can stand in place of a BatchNormalization; a GroupNormSpec for a GroupNormalization.
Replacement = Lowered | Plain | GroupNormSpec | Given


@dataclass(frozen=True)
class Edit:
    """Changes to a model, all to be made in one rebuilding.

    Attributes:
        assign: New weights of linear layers, in float64; a bias is added where there was none.
        bypass: Nodes that hand on their first input unchanged and vanish.
        untrain: Nodes that lose the `training=` written into their call.
        infer: Nodes into whose call training=False is written.
        drop: Positions of the tensors that a sum adds no more; it hands on one that is left alone.
        replace: What BatchNormalizations become, under the name that they have.
    """

    assign: Mapping[LayerKey, Linear] = field(default_factory=dict[LayerKey, Linear])
    bypass: frozenset[NodeKey] = frozenset()
    untrain: frozenset[NodeKey] = frozenset()
    infer: frozenset[NodeKey] = frozenset()
    drop: Mapping[NodeKey, frozenset[int]] = field(default_factory=dict[NodeKey, frozenset[int]])
    replace: Mapping[LayerKey, Replacement] = field(default_factory=dict[LayerKey, Replacement])

    def __bool__(self) -> bool:
        nodes = self.bypass or self.untrain or self.infer or self.drop
        return bool(self.assign or nodes or self.replace)
