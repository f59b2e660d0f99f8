"""Fold BatchNormalizations into the linear layers that feed them.

At inference BN is affine. With s = gamma / sqrt(moving_variance + epsilon), per output channel:

    BN(W*x + b) = (s W)*x + [s (b - moving_mean) + beta]

Jacob et al. 2018, arXiv:1712.05877, section 3.2.

A layer that is called several times has one set of weights, so it is folded once or not at all:
every call of the BN must follow some linear layer, and every call of each of these must feed that
BN.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bnfix.graph.definition import LayerKey, NodeKey
from bnfix.graph.edit import Edit
from bnfix.graph.graph import Call, Graph, Value
from bnfix.graph.source import Source
from bnfix.numerics.linear import Linear, scale_and_shift
from bnfix.numerics.norm import NormSpec
from bnfix.numerics.tolerance import largest
from bnfix.report import Outcome, Report

_BATCH_NORM_KINDS = ("BatchNormalization", "SyncBatchNormalization")


class _Objection(Exception):
    """Why a BatchNormalization must stay, in one sentence that names the layers."""


@dataclass
class _Folded:
    """What has been folded so far; later BNs stand on it, so that chains fold one by one."""

    assign: dict[LayerKey, Linear] = field(default_factory=dict[LayerKey, Linear])
    bypass: set[NodeKey] = field(default_factory=set[NodeKey])


def plan(source: Source) -> tuple[Edit, Report]:
    """The edit that folds every BatchNormalization that can be folded, and one outcome for each."""
    graph, done = source.graph, _Folded()
    outcomes: list[Outcome] = []
    seen: set[LayerKey] = set()
    for call in graph:
        if source.is_batch_norm(call.layer) and call.layer not in seen:
            seen.add(call.layer)
            outcomes.append(_outcome(source, call, done))
    notes = () if seen else ("the model has no BatchNormalization in its graph",)
    return Edit(done.assign, frozenset(done.bypass)), Report("fold", tuple(outcomes), notes)


def _outcome(source: Source, call: Call, done: _Folded) -> Outcome:
    try:
        into = _fold(source, source.graph.sharing(call), done)
    except _Objection as objection:
        return Outcome(call.path, False, str(objection))
    return Outcome(call.path, True, f"folded into {', '.join(into)}")


def _fold(source: Source, norms: tuple[Call, ...], done: _Folded) -> list[str]:
    """Fold the BN that `norms` are all the calls of; paths of the layers that take it up."""
    norm = _norm(source, norms)
    scale, shift = norm.affine()
    producers = [_producer(source.graph, call, done) for call in norms]
    _all_calls_feed(source.graph, producers, norms[0])
    folded: dict[LayerKey, Linear] = {}
    for producer, call in zip(producers, norms, strict=True):
        linear = _linear(source, producer, call, norm, done)
        result = scale_and_shift(linear, scale, shift)
        _check_finite(result, producer, call)
        folded[producer.layer] = result
    done.assign.update(folded)
    done.bypass.update(call.node for call in norms)
    return list(dict.fromkeys(producer.path for producer in producers))


def _norm(source: Source, norms: tuple[Call, ...]) -> NormSpec:
    call = norms[0]
    if call.kind not in _BATCH_NORM_KINDS:
        raise _Objection(f"{call.path} is a subclass of BatchNormalization with code of its own")
    norm = source.norm(call)
    if norm is None:
        raise _Objection(f"{call.path} normalizes over several axes at once")
    if norm.trainable and any(each.training for each in norms):
        raise _Objection(
            f"{call.path} is called with training=True and normalizes by the batch; "
            "run bnfix.strip_training first"
        )
    return norm


def _producer(graph: Graph, norm: Call, done: _Folded) -> Call:
    """The call whose result `norm` reads, seen through folded BNs and borders of nested models."""
    value = norm.inputs[0]
    while True:
        _check_sole_reader(graph, value, norm)
        call = graph.producer(value)
        if call.node not in done.bypass and not _is_border(call):
            return call
        value = call.inputs[0]


def _check_sole_reader(graph: Graph, value: Value, norm: Call) -> None:
    call = graph.producer(value)
    if graph.is_output(value):
        raise _Objection(f"{call.path} is an output of the model as well")
    others = [reader.path for reader in graph.consumers(value) if reader.index != norm.index]
    if len(graph.consumers(value)) > 1:
        raise _Objection(f"{call.path} also feeds {', '.join(sorted(set(others))) or norm.path}")


def _is_border(call: Call) -> bool:
    """Whether `call` only hands a tensor into a nested model, as it is."""
    if call.kind != "InputLayer" or not call.inputs:
        return False
    outer, inner = call.inputs[0], call.outputs[0]
    return len(outer.shape) == len(inner.shape) and outer.dtype == inner.dtype


def _all_calls_feed(graph: Graph, producers: list[Call], norm: Call) -> None:
    feeding = {producer.index for producer in producers}
    for producer in producers:
        for call in graph.sharing(producer):
            if call.index not in feeding:
                raise _Objection(
                    f"{producer.path} is called {len(graph.sharing(producer))} times and not every "
                    f"call feeds {norm.path}"
                )


def _linear(source: Source, producer: Call, call: Call, norm: NormSpec, done: _Folded) -> Linear:
    linear = done.assign.get(producer.layer) or source.linear(producer)
    if linear is None:
        raise _Objection(
            f"it follows {producer.path} ({producer.kind}), which is not a linear layer"
        )
    if linear.activation != "linear":
        raise _Objection(f"{producer.path} applies {linear.activation} before the normalization")
    if linear.tied is not None:
        raise _Objection(f"{producer.path} {linear.tied}")
    if norm.axis != linear.axis or norm.channels != linear.channels:
        raise _Objection(
            f"{call.path} normalizes axis {norm.axis}, but the channels of {producer.path} lie "
            "along "
            f"axis {linear.axis}"
        )
    return linear


def _check_finite(linear: Linear, producer: Call, norm: Call) -> None:
    """Both the stored weights and those that the layer computes with must hold the result."""
    limit = min(largest(linear.dtype), largest(producer.outputs[0].dtype))
    for values in (linear.kernel, linear.bias):
        if values is not None and not bool(np.all(np.abs(values) <= limit)):
            raise _Objection(
                f"the weights of {producer.path} would not be finite in "
                f"{producer.outputs[0].dtype} "
                f"(variance of {norm.path} negative, tiny or not finite)"
            )
