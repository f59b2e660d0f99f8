"""A model of its own that is and does what another does, made to be changed in place."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from bnfix.adapters.base import Adapter
from bnfix.adapters.cloning import own_objects
from bnfix.adapters.reading import read
from bnfix.adapters.rebuilding import Rebuilt, rebuild
from bnfix.adapters.spread import here
from bnfix.adapters.subject import Subject
from bnfix.errors import UnsupportedModelError
from bnfix.graph.edit import Edit
from bnfix.tree import map_leaves


def copied(subject: Subject, operation: str, *, x: Any = None) -> Rebuilt:
    """A model once more: class, names, weights, flags, compilation and what its optimizer knows.

    A graph is built anew. Code is copied with what it holds; where a class does not tell how it is
    made, its code becomes a graph, which the sentences with it tell.

    Args:
        subject: Built model of any kind.
        operation: Named in errors.
        x: Inputs that tell what a model without a graph takes, where it does not know.

    Raises:
        UnsupportedModelError: There is no way to have it twice.
    """
    adapter, model = subject
    otherwise = "Pass copy=False to have it changed in place, or give"
    made = untrained(subject, operation, x=x, otherwise=otherwise)
    learned = getattr(getattr(model, "optimizer", None), "iterations", None)
    if adapter.copy_optimizer_state(model, made.model) or learned is None or not int(learned):
        return made
    said = f"the optimizer of {model.name} starts anew, since other weights train than it knows"
    return Rebuilt(made.model, (*made.lost, said))


def untrained(
    subject: Subject, operation: str, *, x: Any = None, otherwise: str = "Give"
) -> Rebuilt:
    """As `copied`, with an optimizer that has learned nothing.

    `otherwise` is how the sentence begins that says what to do where there is no way.
    """
    adapter, model = subject
    if adapter.has_graph(model):
        made = rebuild(read(subject, operation, open="never"), Edit())
    else:
        made = _deep_copy(adapter, model, x)
        try:
            made = made or rebuild(read(subject, operation, x=x), Edit())
        except UnsupportedModelError as refusal:
            why = str(refusal.__cause__ or refusal)
            raise _refusal(model, operation, why, otherwise) from refusal
    if share_norms(subject, made.model):
        why = "a layer with a BatchNormalization cannot be made anew"
        raise _refusal(model, operation, why, otherwise)
    return made


def share_norms(subject: Subject, other: Any) -> bool:
    """Whether a BatchNormalization is in both, as one in a layer that cannot be made anew is."""
    adapter, model = subject
    ours, theirs = ({id(layer) for _, layer in adapter.batch_norms(m)} for m in (model, other))
    return bool(ours & theirs)


def _deep_copy(adapter: Adapter, model: Any, x: Any) -> Rebuilt | None:
    # Keras copies by way of a file, for which it reads all there is of every variable.
    spread = any(here(weight) is not weight for weight in model.weights)
    ways = [] if spread else [copy.deepcopy]
    for copy_of in (*ways, lambda model: _built_on(adapter, model, x)):
        try:
            with adapter.keras.utils.custom_object_scope(own_objects(adapter.keras, model)):
                made = copy_of(model)
        except Exception:  # whatever the code of a class raises when it is made in another way
            continue
        if made is not model and _is_alike(adapter, model, made):
            # Anew, as the flags were others when the optimizer was made along.
            said = adapter.copy_compilation(model, made)
            return Rebuilt(made, () if said is None else (said,))
    return None


def _built_on(adapter: Adapter, model: Any, x: Any) -> Any:
    """A copy that has run on `x`: Keras builds on placeholders, which not all code runs on."""
    made = type(model).from_config(model.get_config())
    adapter.infer(made, map_leaves(adapter.fed, x))
    for weight, twin in zip(model.weights, made.weights, strict=True):
        twin.assign(adapter.copy_value(weight))
    return made


def _is_alike(adapter: Adapter, model: Any, made: Any) -> bool:
    """Whether `made`, which gets the flags of `model`, has its layers and weights."""
    ours, theirs = ([one, *(layer for _, layer in adapter.tree(one))] for one in (model, made))
    if [type(layer) for layer in ours] != [type(layer) for layer in theirs]:
        return False
    # From the outside in, as Keras hands a layer's flag down to what is inside.
    for layer, twin in zip(ours, theirs, strict=True):
        twin.trainable = layer.trainable
    values = [[adapter.copy_value(weight) for weight in one.weights] for one in (model, made)]
    return len(values[0]) == len(values[1]) and all(
        np.array_equal(value, twin, equal_nan=value.dtype.kind == "f")
        for value, twin in zip(*values, strict=True)
    )


def _refusal(model: Any, operation: str, why: str, otherwise: str) -> UnsupportedModelError:
    kind = type(model).__name__
    return UnsupportedModelError(
        f"{operation} cannot make a copy of {model.name} ({kind}): {why.rstrip('.')}. "
        f"{otherwise} {kind} and its layers a get_config() that returns all arguments of their "
        "constructors.",
        advises=("copy",) if "copy=" in otherwise else (),
    )
