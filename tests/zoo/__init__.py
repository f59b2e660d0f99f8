"""The test zoo: small models of every shape that Keras can express, for both Kerases.

    for entry in zoo.entries("tf_keras", having={"bn", "nested"}, lacking={"subclassed"}):
        model = zoo.build(entry, "tf_keras", seed=0)
        model(zoo.inputs_for(model, rows=3))

A model is the same for the same seed, has no zero bias in front of a BatchNormalization (BN), and
every BN in it carries random statistics, so that a wrong fold cannot hide. Nothing here imports
bnfix.

Tags say what a model is:

    functional, sequential      the class of the model (`functional` includes the subclasses below)
    functional_subclass         a Functional of the user's own class
    subclassed                  a Model with `call` and no graph
    bn                          holds a BN at any depth
    opaque_bn                   holds a BN that is no node of a graph: in a custom layer or wrapper
    nested                      a model is a layer of the model (at any depth)
    shared                      a layer or a nested model is called more than once
    multi_io                    several inputs or outputs, or a nested structure of them
    rnn, mask, preprocessing    holds a recurrent layer, a mask that is used, a preprocessing layer
    string_input, int_input     takes strings, integers
    custom                      needs `custom_objects(dialect)` to be loaded
    lambda                      holds a Lambda layer: loads only with `safe_mode=False`
    ops                         operators or functions on symbolic tensors (keras.ops, TFOpLambda)
    mixed, float64              not float32 throughout: 16-bit or 8-bit in places; float64 in places
    baked                       a call recorded with an explicit `training=`
    stochastic                  differs from call to call in training mode, apart from BN
    frozen                      some layer or nested model has `trainable=False`
    compiled                    is compiled; `targets_for(model, rows)` fits its losses
    two_d_only                  BN sees `(batch, channels)` and nothing of higher rank
    tensorflow                  has what Keras 3 has on TensorFlow only

and what its own Keras cannot do with it (measured: save, reload with `custom_objects`, compare
outputs). Where only one Keras fails, the tag ends in the dialect, as in `no_h5:tf_keras`; `entries`
understands that.

    no_h5, no_keras             `.h5`, `.keras`: fails to save, to load, or loads something else
    no_weights                  `.weights.h5` into a second build of the same entry
    no_export                   `model.export` fails, or what it wrote answers differently
"""

from collections.abc import Callable
from typing import Any

import pytest

from . import (
    attention,
    custom,
    foreign,
    inputs,
    linear,
    nesting,
    norms,
    operators,
    precision,
    preprocessing,
    real,
    recurrent,
    structure,
    subclassed,
    topology,
    training,
)
from .entry import (
    BACKEND,
    COMPILED,
    DIALECTS,
    KERASES,
    TAGS,
    Collection,
    Entry,
    custom_objects,
    keras_module,
    need_precision,
    reads_images,
    tensorflow,
    too_old,
)
from .functions import functions
from .inputs import inputs_for, targets_for, to_numpy
from .statistics import batch_norms, randomise_batch_norms

_THEMES = (
    linear,
    norms,
    foreign,
    topology,
    structure,
    nesting,
    operators,
    recurrent,
    attention,
    custom,
    subclassed,
    preprocessing,
    precision,
    training,
    real,
)

MODELS: tuple[Entry, ...] = tuple(entry for theme in _THEMES for entry in theme.zoo)


def entries(
    dialect: str, *, having: set[str] = frozenset(), lacking: set[str] = frozenset()
) -> list[Entry]:
    """Entries that `dialect` can express, with all tags of `having` and none of `lacking`."""
    if unknown := (set(having) | set(lacking)) - TAGS:
        raise ValueError(f"no such tag: {sorted(unknown)}; the tags are {sorted(TAGS)}")
    return [
        entry
        for entry in MODELS
        if dialect in entry.dialects
        and entry.tags_in(dialect) >= set(having)
        and not entry.tags_in(dialect) & set(lacking)
    ]


def cases(
    *,
    having: set[str] = frozenset(),
    lacking: set[str] = frozenset(),
    where: Callable[[Entry, str], bool] = lambda entry, dialect: True,
    quick: Callable[[Entry, str], bool] = lambda entry, dialect: True,
) -> list[Any]:
    """Parameters `entry, dialect` of a law: all that `entries` has and `where` is true of.

    Those that are not `quick` are for long runs.
    """
    return [
        pytest.param(
            entry,
            dialect,
            id=f"{dialect}-{entry}",
            marks=() if quick(entry, dialect) else pytest.mark.long,
        )
        for dialect in DIALECTS
        for entry in entries(dialect, having=having, lacking=lacking)
        if where(entry, dialect)
    ]


def build(entry: Entry, dialect: str, seed: int = 0) -> object:
    """The built model of `entry`, the same for the same seed, its BN statistics randomised.

    A test that asks for a model of a newer Keras than is installed is skipped, with that reason.
    """
    if reason := entry.lack(dialect):
        pytest.skip(reason)
    K = keras_module(dialect)
    K.utils.set_random_seed(seed)
    model = entry.build(K)
    randomise_batch_norms(model, seed)
    inputs.remember(model, entry.sample)
    return model


__all__ = [
    "BACKEND",
    "COMPILED",
    "DIALECTS",
    "KERASES",
    "MODELS",
    "TAGS",
    "Collection",
    "Entry",
    "batch_norms",
    "build",
    "cases",
    "custom_objects",
    "entries",
    "functions",
    "inputs_for",
    "keras_module",
    "need_precision",
    "randomise_batch_norms",
    "reads_images",
    "targets_for",
    "tensorflow",
    "to_numpy",
    "too_old",
]
