"""Make one linear layer of those that read the same tensor and are added.

    W1*x + b1 + W2*x + b2 + x  =  (W1 + W2 + 1)*x + (b1 + b2)

where the taps of the smaller kernels are put where they see the same positions within the largest,
and the identity is a kernel of one tap (Ding et al. 2021, RepVGG, arXiv:2101.03697, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnfix.graph.definition import NodeKey
from bnfix.graph.graph import Call, Value
from bnfix.graph.source import Source
from bnfix.numerics.linear import Linear, plus, plus_input
from bnfix.numerics.tolerance import largest
from bnfix.numerics.window import identity
from bnfix.passes.absorbing import Folded, free_linear
from bnfix.passes.branches import is_whole, maker, origin
from bnfix.passes.objection import Objection
from bnfix.report import Outcome


@dataclass(frozen=True, eq=False)
class _Branch:
    """An addend that is linear in what `read` holds.

    Attributes:
        position: Among the addends.
        read: What it reads.
        call: Of its layer; None for the identity.
        linear: Its layer; None for the identity.
    """

    position: int
    read: Value
    call: Call | None = None
    linear: Linear | None = None


def merged(
    source: Source, done: Folded
) -> tuple[dict[NodeKey, frozenset[int]], tuple[Outcome, ...]]:
    """The addends that each sum loses, and what became of each; `done` takes up the layers."""
    dropped: dict[NodeKey, frozenset[int]] = {}
    outcomes: list[Outcome] = []
    for join in source.graph.of_kind("Add"):
        if len(source.graph.sharing(join)) > 1 or not is_whole(join):
            continue
        branches = _branches(source, join, done)
        linear = [branch for branch in branches if branch.linear is not None]
        gone: dict[_Branch, _Branch] = {}
        for host in sorted(linear, key=_taps, reverse=True):
            if host not in gone:
                beside = [one for one in branches if one is not host and one not in gone]
                gone.update({one: host for one in beside if _take(done, host, one)})
        if gone:
            dropped[join.node] = frozenset(branch.position for branch in gone)
            outcomes += [_outcome(join, one, host) for one, host in gone.items()]
    return dropped, tuple(outcomes)


def _outcome(join: Call, gone: _Branch, host: _Branch) -> Outcome:
    into = "" if host.call is None else host.call.path
    if gone.call is None:
        return Outcome(join.path, True, f"the identity that it added was merged into {into}")
    return Outcome(gone.call.path, True, f"merged into {into}")


def _branches(source: Source, join: Call, done: Folded) -> list[_Branch]:
    """The addends of `join` that could be merged."""
    graph = source.graph
    made = [maker(graph, value, done) for value in join.inputs]
    found: list[_Branch] = []
    for position, (value, call) in enumerate(zip(join.inputs, made, strict=True)):
        linear = None if call is None else _mergeable(source, call, done)
        if call is not None and linear is not None:
            read = origin(graph, call.inputs[0], done)
            found.append(_Branch(position, read, call, linear))
        else:
            found.append(_Branch(position, origin(graph, value, done)))
    return found


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
    if other.call is None:
        places = side.window.places(identity(len(lengths)), lengths)
        fits = side.one_to_one(linear) and shape == call.outputs[0].shape
        if places is None or not fits or call.outputs[0].dtype != other.read.dtype:
            return None
        ones = np.ones(linear.channels)
        return plus_input(linear, tuple(taps[0] for taps in places), ones, 0 * ones)
    theirs = done.assign.get(other.call.layer) or other.linear
    window = theirs.input.window if theirs and theirs.input else None
    if theirs is None or window is None or not linear.is_alike(theirs):
        return None
    places = side.window.places(window, lengths)
    same = call.outputs[0].dtype == other.call.outputs[0].dtype
    return plus(linear, theirs, places) if places is not None and same else None


def _is_finite(linear: Linear, call: Call) -> bool:
    limit = min(largest(linear.dtype), largest(call.outputs[0].dtype))
    parts = [part for part in (linear.kernel, linear.bias) if part is not None]
    return all(bool(np.all(np.abs(part) <= limit)) for part in parts)
