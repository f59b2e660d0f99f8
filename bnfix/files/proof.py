"""Is the model that comes out of a file the one that went in?

A layer's flag `trainable` is written with its configuration, and a layer that a class of the user's
own makes in its constructor has none in the file: it is made anew, trainable, whatever it was. So
what was written is opened again, by the classes of the model in memory, and compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bnfix.adapters import opening, state
from bnfix.adapters.base import Adapter
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.cloning import own_objects
from bnfix.checks.check import CheckReport, check
from bnfix.restoring import put_back_after

#: Layers that a sentence names.
_LISTED = 3

#: What there is to do where a file does not keep flags.
WAY_OUT = (
    "A file holds no flags of layers that a class makes by itself. What survives: trainable=False "
    "given to them in that class, or their call there without training=True; or "
    "bnfix.freeze(model) each time after loading"
)


@dataclass(frozen=True)
class Loss:
    """Something of a model that its file does not give back.

    Attributes:
        path: Full path of the first layer concerned, or None.
        detail: What it is.
        of_flags: Whether a flag is lost.
    """

    path: str | None
    detail: str
    of_flags: bool = False


def reopened(model: Any, file: Path, objects: Mapping[str, Any]) -> Any:
    """What `file`, into which `model` has just been written, gives; raises whatever Keras does."""
    keras = adapter_of(model).keras
    known = {**own_objects(keras, model), **objects}
    # What the file could run is what the model in memory runs.
    return opening.open_model(keras.__name__, str(file), known, compile=False, safe=False)


def may_lose(model: Any) -> bool:
    """Whether `model` has layers in layers, of which the configuration may not tell."""
    adapter = adapter_of(model)
    return any(
        adapter.children(layer) and not (adapter.is_model(layer) and adapter.has_graph(layer))
        for layer in (model, *(layer for _, layer in adapter.tree(model)))
    )


def losses(model: Any, again: Any) -> tuple[Loss, ...]:
    """What `again`, read from the file of `model`, lacks of its layers, flags and weights."""
    adapter = adapter_of(model)
    ours, theirs = (list(adapter.tree(one)) for one in (model, again))
    if [_kind(layer) for _, layer in ours] != [_kind(layer) for _, layer in theirs]:
        return (Loss(None, f"{model.name} comes back with other layers"),)
    found = tuple(_other_flags(adapter, model, again))
    with put_back_after(state.settings(again)):
        for (_, layer), (_, copy) in zip(ours, theirs, strict=True):
            copy.trainable = layer.trainable  # the order of weights depends on it
        if not _same_weights(adapter, model, again):
            found += (Loss(None, f"the weights of {model.name} come back as others"),)
    return found


def new_findings(again: Any, x: Any, before: CheckReport) -> tuple[Loss, ...]:
    """What a check of `again` on `x` finds that the one `before` it was written has not."""
    known = {finding.cause for finding in before.findings}  # names of inner layers may be others
    return tuple(
        Loss(found.path, f"{found.cause} in {found.path or 'the model'}: {found.detail}")
        for found in check(again, x).faults
        if found.cause not in known
    )


def told(lost: tuple[Loss, ...]) -> str:
    """In words, and what to do about it."""
    ways = f". {WAY_OUT}" if any(loss.of_flags for loss in lost) else ""
    return "; ".join(loss.detail for loss in lost) + ways


def _kind(layer: Any) -> str:
    return type(layer).__name__


def _other_flags(adapter: Adapter, model: Any, again: Any) -> Iterator[Loss]:
    ours, theirs = (_trained(adapter, one) for one in (model, again))
    paths = dict(adapter.tree(model))
    other = [
        path for path, a, b in zip(paths, ours, theirs, strict=True) if a is not None and a != b
    ]
    if other:
        more = f" and {len(other) - _LISTED} more" if len(other) > _LISTED else ""
        flag = not paths[other[0]].trainable
        detail = f"trainable={not flag} of {', '.join(other[:_LISTED])}{more} comes back as {flag}"
        yield Loss(other[0], detail, of_flags=True)


def _trained(adapter: Adapter, model: Any) -> list[bool | None]:
    """Of each layer with weights of its own whether they are trained; None for others.

    A BatchNormalization goes by its own flag, others by those of the layers around them as well.
    """
    trained = {id(weight) for weight in model.trainable_weights}
    return [
        None
        if adapter.children(layer) or not layer.weights
        else bool(layer.trainable)
        if adapter.is_batch_norm(layer)
        else any(id(weight) in trained for weight in layer.weights)
        for _, layer in adapter.tree(model)
    ]


def _same_weights(adapter: Adapter, model: Any, again: Any) -> bool:
    ours, theirs = (
        [adapter.to_numpy(weight) for weight in adapter.weights(one)] for one in (model, again)
    )
    return len(ours) == len(theirs) and all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(ours, theirs, strict=True)
    )
