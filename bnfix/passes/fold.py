"""Fold BatchNormalizations into the linear layers around them.

At inference BN is affine, y = scale * x + shift per channel (`bnfix.numerics.norm`). Such a map is
moved up, past layers that it can be moved past, until linear layers absorb it; or else down
(Jacob et al. 2018, arXiv:1712.05877, section 3.2); or sideways, into a layer that reads the same
and is added. Up comes first: it adds at most a bias.

A layer that is called several times has one set of weights, so it absorbs a map once or not at all:
every call of the BN must reach linear layers, and every call of each of these must be reached, by
the same map.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnfix.graph import miscompiled
from bnfix.graph.definition import LayerKey
from bnfix.graph.edit import Edit, Lowered, Replacement
from bnfix.graph.graph import Call
from bnfix.graph.source import Source
from bnfix.numerics.affine import Affine
from bnfix.numerics.deferred import is_within
from bnfix.numerics.norm import NormSpec
from bnfix.numerics.tolerance import largest_finite
from bnfix.outcomes import Outcome, Report
from bnfix.passes import backward, forward, sideways
from bnfix.passes.absorbing import Absorbed, Folded, Objection, is_passed
from bnfix.passes.merge import merged

_BATCH_NORM_KINDS = ("BatchNormalization", "SyncBatchNormalization")


#: Finds what absorbs the map of a BN that `Call` applies.
_Direction = Callable[[Source, Call, NormSpec, Folded], list[Absorbed]]


def plan(
    source: Source, *, lower: bool = False, merge: bool = False, careful: bool = False
) -> tuple[Edit, Report]:
    """The edit that folds every BatchNormalization that can be folded, and one outcome for each.

    Args:
        source: The model read.
        lower: Turn those that cannot into plain affine layers.
        merge: Make linear layers that are added one.
        careful: Keep those too behind whose bias code stands that compilers may get wrong.
    """
    norms: dict[LayerKey, Call] = {}
    for call in source.graph:
        if source.is_batch_norm(call.layer):
            norms.setdefault(call.layer, call)
    done = Folded(careful=careful)
    outcomes = {
        key: _outcome(source, call, done, backward.absorbing) for key, call in norms.items()
    }
    # From the end, so that of two BNs in a row the second makes way for the first.
    for key, call in reversed(norms.items()):
        if not outcomes[key].changed and _may_fold(source, call):
            down = _outcome(source, call, done, forward.absorbing)
            either = f"{outcomes[key].detail}; {down.detail}"
            outcomes[key] = down if down.changed else Outcome(call.path, False, either)
    # Last, for nothing may be moved past the sum of two branches afterwards.
    for key, call in norms.items():
        if not outcomes[key].changed and _is_added(source, call) and _may_fold(source, call):
            beside = _outcome(source, call, done, sideways.absorbing)
            either = f"{outcomes[key].detail}; {beside.detail}"
            outcomes[key] = beside if beside.changed else Outcome(call.path, False, either)
    left = [key for key, outcome in outcomes.items() if lower and not outcome.changed]
    lowered: dict[LayerKey, Replacement] = {}
    for key in left:
        try:
            lowered[key] = Lowered(_lowered(source, norms[key]))
        except Objection as objection:
            detail = f"{outcomes[key].detail}; it cannot be lowered: {objection}"
            outcomes[key] = Outcome(norms[key].path, False, detail)
        else:
            detail = f"lowered to a plain affine layer; {outcomes[key].detail}"
            outcomes[key] = Outcome(norms[key].path, True, detail)
    hidden = [Outcome(path, False, why) for path, why in source.hidden().items()]
    notes = () if norms or hidden else ("the model has no BatchNormalization",)
    dropped, told = merged(source, done) if merge else ({}, ())
    edit = Edit(done.assign, frozenset(done.bypass), drop=dropped, replace=lowered)
    return edit, Report("fold", (*outcomes.values(), *hidden, *told), notes, source.graph.records())


def _outcome(source: Source, call: Call, done: Folded, direction: _Direction) -> Outcome:
    try:
        into = _fold(source, source.graph.sharing(call), done, direction)
    except Objection as objection:
        return Outcome(call.path, False, str(objection))
    return Outcome(call.path, True, f"folded into {', '.join(into)}", tuple(into))


def _lowered(source: Source, call: Call) -> NormSpec:
    calls = source.graph.sharing(call)
    norm = _norm(source, calls)
    if any(each.masked for each in calls) and not source.plain_passes_masks():
        raise Objection("a mask comes with its inputs, which a plain layer would not hand on")
    computes = call.outputs[0].dtype
    if computes not in ("float32", "float64"):
        raise Objection(f"it normalizes in float32, and a plain layer would compute in {computes}")
    if not all(np.all(np.abs(part) <= largest_finite(computes)) for part in norm.affine()):
        raise Objection("its scales or shifts are not finite")
    return norm


def _is_added(source: Source, call: Call) -> bool:
    """Whether the question arises at all: sums read what `call` makes, or a nested model does."""
    readers = source.graph.consumers(call.outputs[0])
    return any(reader.kind in ("Add", "InputLayer") for reader in readers)


def _may_fold(source: Source, call: Call) -> bool:
    try:
        _norm(source, source.graph.sharing(call))
    except Objection:
        return False
    return True


def _fold(
    source: Source, norms: tuple[Call, ...], done: Folded, direction: _Direction
) -> list[str]:
    """Fold the BN that `norms` are all the calls of; paths of the layers that take it up."""
    norm = _norm(source, norms)
    found = [each for call in norms for each in direction(source, call, norm, done)]
    by_layer: dict[LayerKey, Absorbed] = {}
    for each in found:
        _check_finite(each, norms[0])
        same = by_layer.setdefault(each.call.layer, each).affine
        if not _equal(same, each.affine):
            raise Objection(f"the calls of {each.call.path} would need different weights")
    _check_all_reached(source, found, norms[0])
    _check_compiled(source, found, norms, done)
    done.assign.update({key: each.linear for key, each in by_layer.items()})
    done.bypass.update(call.node for call in norms)
    return list(dict.fromkeys(each.call.path for each in found))


def _norm(source: Source, norms: tuple[Call, ...]) -> NormSpec:
    call = norms[0]
    if call.kind not in _BATCH_NORM_KINDS:
        raise Objection(f"{call.path} is a subclass of BatchNormalization with code of its own")
    norm = source.norm(call)
    if norm is None:
        raise Objection(f"{call.path} normalizes over several axes at once")
    if norm.axis == 0:
        raise Objection(f"{call.path} normalizes along the axis of the rows")
    if norm.trainable and any(each.training for each in norms):
        raise Objection(
            f"{call.path} is called with training=True and normalizes by the batch; "
            "run bnfix.strip_training first"
        )
    return norm


def _equal(one: Affine, other: Affine) -> bool:
    return all(
        np.array_equal(a, b, equal_nan=True)
        for a, b in ((one.scale, other.scale), (one.shift, other.shift))
    )


def _check_all_reached(source: Source, found: list[Absorbed], norm: Call) -> None:
    reached = [each.call.index for each in found]
    for each in found:
        calls = source.graph.sharing(each.call)
        if reached.count(each.call.index) > 1:
            raise Objection(f"{each.call.path} is reached in several ways")
        if not {call.index for call in calls} <= set(reached):
            raise Objection(
                f"{each.call.path} is called {len(calls)} times and not every call feeds "
                f"{norm.path} or is fed by it"
            )


def _check_compiled(
    source: Source, found: list[Absorbed], norms: tuple[Call, ...], done: Folded
) -> None:
    """A bias must not complete what TensorFlow's compiled code merges and computes wrongly."""
    vanish = {norm.node for norm in norms}

    def gone(call: Call) -> bool:
        return call.node in vanish or is_passed(call, done)

    for each in found:
        if each.linear.bias is None or not miscompiled.is_merged(each.call, source.options):
            continue
        value, graph = each.call.outputs[0], source.graph
        for hit in miscompiled.merged(
            graph, value, source.options, gone=gone, suspect_all=done.careful
        ):
            if not _is_merged_already(source, each.call):
                raise Objection(
                    f"with a bias, TensorFlow's compiled code would merge {each.call.path} with "
                    f"{hit} on processors unless {miscompiled.SWITCH} was run"
                )


def _is_merged_already(source: Source, call: Call) -> bool:
    linear = source.linear(call)
    biased = linear is not None and linear.bias is not None
    return biased and any(miscompiled.merged(source.graph, call.outputs[0], source.options))


def _check_finite(each: Absorbed, norm: Call) -> None:
    """Both the stored weights and those that the layer computes with must hold the result."""
    computes = each.call.outputs[0].dtype
    limit = min(largest_finite(each.linear.dtype), largest_finite(computes))
    for values in (each.linear.kernel, each.linear.bias):
        if values is not None and not is_within(values, limit):
            raise Objection(
                f"the weights of {each.call.path} would not be finite in {computes} "
                f"(variance of {norm.path} negative, tiny or not finite)"
            )
