"""Make one linear layer of those that read the same tensor and are added.

    W1*x + b1 + W2*x + b2 + x  =  (W1 + W2 + 1)*x + (b1 + b2)

where the taps of the smaller kernels are put where they see the same positions within the largest,
and the identity is a kernel of one tap (Ding et al. 2021, RepVGG, arXiv:2101.03697, section 3.3),
as a mean of positions (`averaging`) is one of several.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from bnfix.graph.definition import NodeKey
from bnfix.graph.graph import Call, Graph, Value
from bnfix.graph.source import Source
from bnfix.numerics.deferred import is_within
from bnfix.numerics.linear import InputSide, Linear, plus
from bnfix.numerics.tolerance import largest_finite
from bnfix.numerics.window import identity
from bnfix.outcomes import Outcome
from bnfix.passes.absorbing import Folded, Objection, free_linear
from bnfix.passes.averaging import Mean, averaged, plus_mean
from bnfix.passes.branches import Addend, addends, is_whole, maker, origin, partial_sum


@dataclass(frozen=True, eq=False)
class _Branch:
    """An addend that is linear in what `read` holds.

    Attributes:
        addend: What it makes.
        read: What it reads.
        call: Of its layer; None for the identity.
        linear: Its layer; None for the identity and for a mean.
        mean: Over which window it takes the mean; None for the identity and for a layer.
    """

    addend: Addend
    read: Value
    call: Call | None = None
    linear: Linear | None = None
    mean: Mean | None = None


def merged(
    source: Source, done: Folded
) -> tuple[dict[NodeKey, frozenset[int]], tuple[Outcome, ...]]:
    """The addends that each sum loses, and what became of each; `done` takes up the layers."""
    dropped: dict[NodeKey, set[int]] = defaultdict(set)
    outcomes: list[Outcome] = []
    for join in _whole_sums(source, done):
        branches = _branches(source, join, done)
        linear = [branch for branch in branches if branch.linear is not None]
        gone: dict[_Branch, _Branch] = {}
        for host in sorted(linear, key=_taps, reverse=True):
            if host not in gone:
                beside = [one for one in branches if one is not host and one not in gone]
                gone.update({one: host for one in beside if _take(done, host, one)})
        for branch in gone:
            dropped[branch.addend.join.node].add(branch.addend.position)
        _drop_empty(source.graph, join, done, dropped)
        outcomes += [_outcome(one, host) for one, host in gone.items()]
    return {node: frozenset(positions) for node, positions in dropped.items()}, tuple(outcomes)


def _whole_sums(source: Source, done: Folded) -> list[Call]:
    """The sums that are no part of another."""
    graph = source.graph
    sums = [
        join for join in graph.of_kind("Add") if is_whole(join) and len(graph.sharing(join)) == 1
    ]
    inner = [partial_sum(graph, value, done) for join in sums for value in join.inputs]
    parts = {part.index for part in inner if part is not None}
    return [join for join in sums if join.index not in parts]


def _drop_empty(graph: Graph, join: Call, done: Folded, dropped: dict[NodeKey, set[int]]) -> None:
    """Drop the sums within `join` of which nothing is left."""
    for position, value in enumerate(join.inputs):
        inner = partial_sum(graph, value, done)
        if inner is not None:
            _drop_empty(graph, inner, done, dropped)
            if len(dropped.get(inner.node, ())) == len(inner.inputs):
                dropped[join.node].add(position)


def _outcome(gone: _Branch, host: _Branch) -> Outcome:
    into = "" if host.call is None else host.call.path
    if gone.call is None:
        join = gone.addend.join
        detail = f"the identity that it added was merged into {into}"
        return Outcome(join.path, True, detail, (into,))
    return Outcome(gone.call.path, True, f"merged into {into}", (into,))


def _branches(source: Source, join: Call, done: Folded) -> list[_Branch]:
    """The addends of `join` that could be merged."""
    return [_branch(source, addend, done) for addend in addends(source.graph, join, done)]


def _branch(source: Source, addend: Addend, done: Folded) -> _Branch:
    graph = source.graph
    call = maker(graph, addend.value, done)
    linear = None if call is None else _mergeable(source, call, done)
    mean = None if call is None else averaged(call, source)
    if call is None or (linear is None and mean is None):
        read = origin(graph, addend.value, done)
        return _Branch(addend, read)
    return _Branch(addend, origin(graph, call.inputs[0], done), call, linear, mean)


def _mergeable(source: Source, call: Call, done: Folded) -> Linear | None:
    try:
        linear = free_linear(source, call, done)
    except Objection:
        return None
    if linear is None or linear.activation != "linear" or len(source.graph.sharing(call)) > 1:
        return None
    return linear if linear.input is not None and linear.input.window is not None else None


def _taps(branch: _Branch) -> int:
    side = branch.linear.input if branch.linear else None
    return int(np.prod(side.window.size)) if side and side.window else 0


def _take(done: Folded, host: _Branch, other: _Branch) -> bool:
    """Let `host` do what `other` does as well, if it can."""
    call = host.call
    if call is None or host.linear is None or host.read != other.read:
        return False
    linear = done.assign.get(call.layer, host.linear)
    both = _sum(linear, call, other, done)
    if both is None or not _is_finite(both, call):
        return False
    done.assign[call.layer] = both
    return True


def _sum(linear: Linear, call: Call, other: _Branch, done: Folded) -> Linear | None:
    """`linear`, which `call` applies, and `other` in one."""
    side, shape = linear.input, call.inputs[0].shape
    if side is None or side.window is None:
        return None
    lengths = [size for axis, size in enumerate(shape) if axis not in (0, side.axis)]
    lengths = lengths[len(lengths) - len(side.window.size) :]
    if other.linear is None:
        window = identity(len(lengths)) if other.mean is None else other.mean.window
        if len(window.size) != len(lengths):
            return None
        places = side.window.places(window, lengths)
        fits = side.one_to_one(linear) and _channels_alike(side, call, other)
        if places is None or not fits or call.outputs[0].dtype != other.read.dtype:
            return None
        ones = np.ones(linear.channels)
        return plus_mean(linear, places, ones, 0 * ones)
    if other.call is None:
        return None
    theirs = done.assign.get(other.call.layer) or other.linear
    window = theirs.input.window if theirs.input else None
    if window is None or not linear.is_alike(theirs):
        return None
    places = side.window.places(window, lengths)
    same = call.outputs[0].dtype == other.call.outputs[0].dtype
    return plus(linear, theirs, places) if places is not None and same else None


def _channels_alike(side: InputSide, call: Call, other: _Branch) -> bool:
    """Whether channels lie along one axis; of the identity, whether shapes stay as they are."""
    if other.mean is None:
        return call.inputs[0].shape == call.outputs[0].shape
    return other.mean.axis == side.axis


def _is_finite(linear: Linear, call: Call) -> bool:
    limit = min(largest_finite(linear.dtype), largest_finite(call.outputs[0].dtype))
    parts = [part for part in (linear.kernel, linear.bias) if part is not None]
    return all(is_within(part, limit) for part in parts)
