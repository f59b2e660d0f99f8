"""What the outputs of a new model are held against: its source, run call by call or in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bnfix.adapters import overruling, weights
from bnfix.adapters.base import Adapter
from bnfix.adapters.defining import flat_inputs
from bnfix.adapters.reading import Reading
from bnfix.adapters.rebuilding import rebuild
from bnfix.errors import UnsupportedModelError
from bnfix.graph.definition import Definition, Definitions, LayerKey, NodeKey
from bnfix.graph.edit import Edit, Plain, Replacement
from bnfix.graph.graph import Value, unfold
from bnfix.tree import map_leaves

Outputs = list[Any]


def uncompiled(reading: Reading, inputs: Any) -> Outputs:
    """Flat outputs of the model read in inference mode, uncompiled; it stays as it is."""
    adapter, model = reading.adapter, reading.model
    with adapter.untouched(model):
        return _uncompiled(adapter, lambda: adapter.infer(model, inputs))


def _uncompiled(adapter: Adapter, run: Callable[[], Outputs]) -> Outputs:
    try:
        with adapter.uncompiled():
            return run()
    except Exception:  # layers that TensorFlow 2.2 wrote run in a graph of their own only
        return run()


def call_by_call(reading: Reading, inputs: Any, untrained: frozenset[NodeKey]) -> Outputs:
    """As `uncompiled`, with the `training=` that is written into `untrained` left out.

    The layers of the model itself are called one after the other, so that nothing rests on how a
    changed model is put together.
    """
    adapter, graph = reading.adapter, unfold(_without_training(reading.definitions, untrained))
    model = reading.functional
    fed = flat_inputs(adapter, model, inputs)
    specs = [adapter.tensor_spec(tensor) for tensor in model.inputs]
    taken = [adapter.to_tensor(array, spec) for array, spec in zip(fed, specs, strict=True)]

    def run() -> Outputs:
        tensors: dict[Value, Any] = dict(zip(graph.inputs, taken, strict=True))
        for call in graph:
            if call.kind == "InputLayer":
                if call.inputs:
                    tensors[call.outputs[0]] = tensors[call.inputs[0]]
                continue
            args, kwargs = map_leaves(
                lambda leaf: tensors[leaf] if isinstance(leaf, Value) else leaf, call.arguments
            )
            if call.accepts_training:
                kwargs["training"] = bool(call.training)
            made = adapter.flatten(reading.layers[call.layer](*args, **kwargs))
            tensors.update(zip(call.outputs, made, strict=True))
        return [adapter.to_numpy(tensors[value]) for value in graph.outputs]

    with adapter.untouched(reading.model), adapter.inference():
        return _uncompiled(adapter, run)


def _without_training(definitions: Definitions, nodes: frozenset[NodeKey]) -> Definitions:
    def plain(definition: Definition) -> Definition:
        own = tuple(
            replace(node, training=None) if (definition.key, position) in nodes else node
            for position, node in enumerate(definition.nodes)
        )
        return replace(definition, nodes=own)

    nested = {key: plain(each) for key, each in definitions.nested.items()}
    return Definitions(plain(definitions.top), nested)


@dataclass(frozen=True)
class Twins:
    """What the model read and what an edit makes of it answer in float64.

    Attributes:
        old: Flat outputs of the model read.
        new: Of what becomes of it.
        dtype: The least precise one in which a layer of the first computes.
    """

    old: Outputs
    new: Outputs
    dtype: str


def twins(reading: Reading, edit: Edit, inputs: Any) -> Twins | None:
    """Both models in float64 and without baked `training=`; None where they cannot be had so.

    BatchNormalization is bnfix's own affine map in both, so that no arithmetic of Keras's is taken
    for granted.
    """
    adapter, calm, affine = reading.adapter, overruling.baked(reading), _affine(reading)
    ours = {key: new for key, new in affine.items() if key not in edit.replace}
    changed = replace(edit, untrain=edit.untrain | calm, replace={**ours, **edit.replace})
    try:
        with adapter.backend.float64():
            old = rebuild(reading, Edit(untrain=calm, replace=affine), dtype="float64").model
            new = rebuild(reading, changed, dtype="float64").model
            answers = adapter.infer(old, inputs), adapter.infer(new, inputs)
            return Twins(*answers, adapter.coarsest_dtype(old))
    except (UnsupportedModelError, *adapter.run_errors):
        return None


def rounded(reading: Reading, inputs: Any) -> Outputs | None:
    """What the model read answers in float32 and without baked `training=`; None if it cannot."""
    calm = Edit(untrain=overruling.baked(reading), replace=_affine(reading))
    try:
        return reading.adapter.infer(rebuild(reading, calm, dtype="float32").model, inputs)
    except (UnsupportedModelError, *reading.adapter.run_errors):
        return None


def _affine(reading: Reading) -> dict[LayerKey, Replacement]:
    """Each BatchNormalization as the affine map that it is; one that sees a mask has to pass it.

    Computed here anew from the layer's weights, so that folding and its proof can share no mistake.
    """
    found: dict[LayerKey, Replacement] = {}
    for call in reading.graph:
        axis = reading.channel_axis(call) if reading.is_batch_norm(call.layer) else None
        if axis is None or call.masked:
            continue
        layer = reading.layers[call.layer]
        mean, variance = weights.read_statistics(layer)
        gamma, beta = weights.read_affine(layer)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            scale = (1.0 if gamma is None else gamma) / np.sqrt(variance + float(layer.epsilon))
            shift = (0.0 if beta is None else beta) - scale * mean
        found[call.layer] = Plain(axis, scale, shift)
    return found
