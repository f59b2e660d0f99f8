"""Past which layers can an affine map be moved, and what is it on their other side?

A map on the output of such a layer equals another one on its inputs (`before`), and the other way
round (`after`), exactly and for all inputs. Linear layers are not among them: they absorb it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bnfix.graph.graph import Call, Value
from bnfix.numerics.affine import Affine, compact, per_channel
from bnfix.numerics.moments import Floats
from bnfix.passes.absorbing import Objection
from bnfix.passes.positions import (
    Options,
    flattened,
    joined_after,
    joined_before,
    permute_after,
    permute_before,
    repeated_after,
    repeated_before,
    reshape_after,
    reshape_before,
    sliced_before,
    unflattened,
)

#: Kind of what reads the shape of a tensor and not what is in it.
SHAPE_ONLY = "Shape"


def before(
    call: Call, options: Callable[[Call], Options], affine: Affine, output: int = 0
) -> list[Affine]:
    """The maps on the inputs of `call`, in order, that equal `affine` on one of its outputs.

    Args:
        call: Of any layer.
        options: The configuration of a call's layer.
        affine: On the rows of that output.
        output: Which one; the others stay as they are.

    Raises:
        Objection: There are none, or they are not known.
    """
    if call.kind in _ONE_INPUT:
        return [_ONE_INPUT[call.kind][0](call, options(call), affine)]
    if call.kind in _JOINS:
        return _JOINS[call.kind](call, options(call), affine)
    if call.kind == "Slice":
        return [sliced_before(call, options(call)["slices"][output], affine)]
    raise Objection(f"it follows {call.path} ({call.kind}), which is not a linear layer")


def after(
    call: Call, options: Callable[[Call], Options], affine: Affine, position: int
) -> list[Affine]:
    """The maps on the outputs of `call`, in order, that equal `affine` on its input `position`.

    Raises:
        Objection: There are none, or they are not known.
    """
    if call.kind in _ONE_INPUT:
        return [_ONE_INPUT[call.kind][1](call, options(call), affine)]
    if call.kind == "Concatenate":
        return [joined_after(call, options(call), affine, position)]
    if call.kind == "Slice":
        return [affine.taken(index) for index in options(call)["slices"]]
    raise Objection(f"it feeds {call.path} ({call.kind}), which is not a linear layer")


# --- what is done with rows ------------------------------------------------------------------


def _channel_axis(options: Options, rank: int) -> int:
    return 0 if options.get("data_format") == "channels_first" else rank - 1


def _check_along(call: Call, affine: Affine, axis: int) -> None:
    if affine.varies - {axis}:
        raise Objection(
            f"{call.path} ({call.kind}) joins positions that the normalization treats differently"
        )


def _check_steady(call: Call) -> None:
    if call.training:
        raise Objection(f"{call.path} is called with training=True and is random")


def _check_order(call: Call, affine: Affine) -> None:
    if not affine.keeps_order:
        raise Objection(
            f"{call.path} ({call.kind}) takes the largest or smallest value, and some scales of "
            "the normalization are not positive"
        )


def _check_whole(call: Call) -> None:
    """Inputs of one shape, none of them twice."""
    if len(set(call.inputs)) < len(call.inputs):
        raise Objection(f"{call.path} ({call.kind}) reads the same tensor twice")
    if any(value.shape != call.outputs[0].shape for value in call.inputs):
        raise Objection(f"{call.path} ({call.kind}) joins tensors of different shapes")


# --- one input -------------------------------------------------------------------------------


def _same(call: Call, options: Options, affine: Affine) -> Affine:
    _check_steady(call)
    return affine


def _activation(call: Call, options: Options, affine: Affine) -> Affine:
    if options.get("activation") != "linear":
        raise Objection(f"{call.path} applies {_named(options.get('activation'))}")
    return affine


def _named(activation: Any) -> str:
    return activation if isinstance(activation, str) else "an activation"


def _local(call: Call, options: Options, affine: Affine) -> Affine:
    """Means over, copies of and choices among positions, each channel by itself."""
    if options.get("interpolation", "nearest") not in ("nearest", "bilinear"):
        raise Objection(f"{call.path} interpolates by {options['interpolation']}")
    _check_along(call, affine, _channel_axis(options, affine.rank))
    return affine


def _largest(call: Call, options: Options, affine: Affine) -> Affine:
    _check_order(call, affine)
    return _local(call, options, affine)


def _padded(call: Call, options: Options, affine: Affine) -> Affine:
    if not affine.only_scales:
        raise Objection(f"{call.path} ({call.kind}) adds zeros, which the normalization shifts")
    return _local(call, options, affine)


def _widened(call: Call, options: Options, affine: Affine) -> Affine:
    """Past the padding that a bare function adds, in any mode, along any axes."""
    padded = {axis for axis, widths in enumerate(options["widths"]) if any(widths)}
    if affine.varies & padded:
        raise Objection(
            f"{call.path} ({call.kind}) joins positions that the normalization treats differently"
        )
    if options["mode"] == "constant" and not (affine.only_scales and options["value"] == 0):
        raise Objection(f"{call.path} ({call.kind}) adds a constant, which the map would change")
    return affine


def _stretched(call: Call, options: Options, rank: int) -> tuple[Floats, Floats]:
    """Scale and offset of a Rescaling, each of the rank of a row."""
    parts = (np.asarray(options[name], np.float64) for name in ("scale", "offset"))
    scale, offset = (part.reshape((1,) * (rank - part.ndim) + part.shape) for part in parts)
    return scale, offset


def _rescaled_before(call: Call, options: Options, affine: Affine) -> Affine:
    """s (r x + o) + t  =  r (s x + (s o + t - o) / r) + o."""
    scale, offset = _stretched(call, options, affine.rank)
    if not scale.all():
        raise Objection(f"{call.path} ({call.kind}) multiplies by zero")
    shift = (affine.scale * offset + affine.shift - offset) / scale
    return compact(affine.scale, shift)


def _rescaled_after(call: Call, options: Options, affine: Affine) -> Affine:
    """r (s x + t) + o  =  s (r x + o) + (r t + o - s o)."""
    scale, offset = _stretched(call, options, affine.rank)
    return compact(affine.scale, scale * affine.shift + offset - affine.scale * offset)


def _global(call: Call, options: Options, affine: Affine, old: Value, new: Value) -> Affine:
    """From the rows of `old` to those of `new`, of which one is pooled over all positions."""
    ranks = len(old.shape) - 1, len(new.shape) - 1
    axes = [_channel_axis(options, rank) if rank > 1 else 0 for rank in ranks]
    if "Max" in call.kind:
        _check_order(call, affine)
    _check_along(call, affine, axes[0])
    size = max(affine.scale.shape[axes[0]], affine.shift.shape[axes[0]])
    return per_channel(*affine.along(axes[0], size), axes[1], ranks[1])


# --- several inputs --------------------------------------------------------------------------


def _sum_before(call: Call, options: Options, affine: Affine) -> list[Affine]:
    _check_whole(call)
    return [affine, *(affine.unshifted() for _ in call.inputs[1:])]


def _mean_before(call: Call, options: Options, affine: Affine) -> list[Affine]:
    _check_whole(call)
    return [affine for _ in call.inputs]


def _extreme_before(call: Call, options: Options, affine: Affine) -> list[Affine]:
    _check_order(call, affine)
    return _mean_before(call, options, affine)


# --- the rules, by kind ----------------------------------------------------------------------

_One = Callable[[Call, Options, Affine], Affine]


def _global_before(call: Call, options: Options, affine: Affine) -> Affine:
    return _global(call, options, affine, call.outputs[0], call.inputs[0])


def _global_after(call: Call, options: Options, affine: Affine) -> Affine:
    return _global(call, options, affine, call.inputs[0], call.outputs[0])


def _of_each_rank(name: str, ranks: str = "123") -> list[str]:
    return [f"{name}{rank}D" for rank in ranks]


_STEADY = (
    *("Dropout", "AlphaDropout", "GaussianNoise", "GaussianDropout"),
    *("ActivityRegularization", "Identity", *_of_each_rank("SpatialDropout")),
)
_LOCAL = [
    each for name in ("AveragePooling", "UpSampling", "Cropping") for each in _of_each_rank(name)
]

#: Layers of one input: the map before it from that after it, and the other way round.
_ONE_INPUT: dict[str, tuple[_One, _One]] = {
    **dict.fromkeys(_STEADY, (_same, _same)),
    "Activation": (_activation, _activation),
    "Rescaling": (_rescaled_before, _rescaled_after),
    "Pad": (_widened, _widened),
    **dict.fromkeys(_LOCAL, (_local, _local)),
    **dict.fromkeys(_of_each_rank("MaxPooling"), (_largest, _largest)),
    **dict.fromkeys(_of_each_rank("ZeroPadding"), (_padded, _padded)),
    **dict.fromkeys(_of_each_rank("GlobalAveragePooling"), (_global_before, _global_after)),
    **dict.fromkeys(_of_each_rank("GlobalMaxPooling"), (_global_before, _global_after)),
    "Flatten": (unflattened, flattened),
    "Reshape": (reshape_before, reshape_after),
    "Permute": (permute_before, permute_after),
    "RepeatVector": (repeated_before, repeated_after),
    "RowsToSteps": (repeated_before, repeated_after),  # the same map for every step
    "StepsToRows": (repeated_after, repeated_before),
}


#: Layers of several inputs: the maps before them from that after them.
_JOINS: dict[str, Callable[[Call, Options, Affine], list[Affine]]] = {
    "Add": _sum_before,
    "Subtract": _sum_before,  # what is taken away is scaled as well, and the shift comes once
    "Average": _mean_before,
    "Maximum": _extreme_before,
    "Minimum": _extreme_before,
    "Concatenate": joined_before,
}
