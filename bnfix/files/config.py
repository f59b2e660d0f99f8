"""Which layers does a configuration describe, where do they lie, and how are they called?

Keras 1, 2 and 3 write models as lists of layers in slightly different forms. What comes out is
flat: each layer under its full path, with the places at which the formats keep its weights.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

from bnfix.files.text import Json, items_of

#: Wrappers keep what they wrap under these names, in the configuration and among their attributes.
_WRAPPED = ("layer", "backward_layer", "cell", "main_layer")
_NORMS = frozenset(
    ("BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization")
)


@dataclass(frozen=True)
class LayerEntry:
    """One layer of a configuration.

    Attributes:
        path: Full path, as bnfix shows it everywhere.
        kind: Bare name of its class.
        config: Its own configuration.
        entry: The object in the model's configuration that holds all of this.
        place: Where the third format of Keras keeps its weights: `"layers/functional/layers/bn"`.
        tracked: What TensorFlow's checkpoints call it, after the model around it: `("layer-3",)`.
        calls: The `training=` of each of its calls, as far as given there or around it.
        trainable: Whether it and all models around it are.
        whole: Whether it is no part of another layer: neither nested nor wrapped.
        supposed: Whether `place` is a guess: a class of someone's own holds it, or what is around
            it, under whatever name it likes.
    """

    path: str
    kind: str
    config: Json
    entry: Json
    place: str
    tracked: tuple[str, ...]
    calls: frozenset[bool | None]
    trainable: bool
    whole: bool
    supposed: bool = False

    @property
    def is_batch_norm(self) -> bool:
        """Subclasses of a BatchNormalization are told by what it alone is initialized with."""
        return self.kind in _NORMS or "moving_variance_initializer" in self.config

    @property
    def is_plain(self) -> bool:
        """Whether it is a layer of Keras's own that holds no others."""
        module = self.entry.get("module")
        own = isinstance(module, str) and module.startswith("keras.layers")
        return own and not any(isinstance(self.config.get(key), dict) for key in _WRAPPED)

    @property
    def group(self) -> str:
        """Name of the layer of the outermost model that it is, or is part of."""
        return self.path.partition("/")[0]


def layers_of(model: Json) -> Iterator[LayerEntry]:
    """Every layer in the configuration of a model, at any depth, in the order of telling."""
    called: frozenset[bool | None] = frozenset({None})
    root = LayerEntry("", _kind(model), _config(model), model, "", (), called, True, True)
    yield from _inside(root)


def _inside(outer: LayerEntry) -> Iterator[LayerEntry]:
    inner = _listed(outer.entry)
    if inner is None:
        yield from _wrapped(outer)
        return
    used: Counter[str] = Counter()
    sequential = outer.kind == "Sequential"
    ordinal = 0
    for number, entry in enumerate(inner):
        kind = _kind(entry)
        if sequential and number == 0 and kind == "InputLayer":
            continue  # which a Sequential does not count among its layers
        snake = _snake_case(kind)
        place = f"{outer.place}/layers/{snake}" + (f"_{used[snake]}" if used[snake] else "")
        if not _is_operation(entry):
            used[snake] += 1
            ordinal += 1
        found = _entry(entry, outer, place.strip("/"), f"layer-{ordinal - 1}")
        yield found
        yield from _inside(found)


def _wrapped(outer: LayerEntry) -> Iterator[LayerEntry]:
    """Layers that another one has in its configuration: a wrapper's, or those of a class that
    serializes its parts under names of its own, alone or in lists.
    """
    for key, value in outer.config.items():
        if key in _WRAPPED and isinstance(value, dict) and "class_name" in value:
            held = [(cast(Json, value), f"{outer.place}/{key}", False)]
        else:
            held = [(entry, f"{outer.place}/{place}", True) for entry, place in _held(key, value)]
        for entry, place, supposed in held:
            found = _entry(entry, outer, place.strip("/"), key)
            found = replace(found, supposed=True) if supposed else found
            yield found
            yield from _inside(found)


def _held(key: str, value: Any) -> Iterator[tuple[Json, str]]:
    """The layers among `value`, and where Keras keeps what has such a name as an attribute."""
    if _is_layer(value):
        yield value, key
        return
    used: Counter[str] = Counter()
    listed = value.values() if isinstance(value, dict) else items_of(value)
    for entry in listed if key not in _NO_LAYERS else ():
        if _is_layer(entry):
            snake = _snake_case(_kind(entry))
            yield entry, f"{key}/{snake}" + (f"_{used[snake]}" if used[snake] else "")
            used[snake] += 1


def _is_layer(value: Any) -> bool:
    """Initializers, policies and the like are written in the same way, but cannot be frozen."""
    if not isinstance(value, dict) or not isinstance(value.get("class_name"), str):
        return False
    config = value.get("config")
    return isinstance(config, dict) and ("trainable" in config or "layers" in config)


#: What a model's own configuration lists beside its layers.
_NO_LAYERS = ("input_layers", "output_layers", "build_config", "compile_config")


def _entry(entry: Json, outer: LayerEntry, place: str, tracked: str) -> LayerEntry:
    config = _config(entry)
    name = config.get("name", entry.get("name"))
    prefix = f"{outer.path}/" if outer.path else ""
    calls = frozenset(
        mode for own in _calls(entry) for mode in ([own] if own is not None else outer.calls)
    )
    return LayerEntry(
        path=prefix + (name if isinstance(name, str) else _snake_case(_kind(entry))),
        kind=_kind(entry),
        config=config,
        entry=entry,
        place=place,
        tracked=(*outer.tracked, tracked),
        calls=calls,
        trainable=outer.trainable and config.get("trainable", True) is not False,
        whole=outer.path == "",
        supposed=outer.supposed,
    )


def _listed(entry: Json) -> list[Json] | None:
    """The layers of a model; None if `entry` is none. Keras 1 wrote a Sequential as a bare list."""
    config = entry.get("config")
    found = config.get("layers") if isinstance(config, dict) else config
    if not isinstance(found, list):
        return None
    return [inner for inner in cast("list[Any]", found) if isinstance(inner, dict)]


def _config(entry: Json) -> Json:
    config = entry.get("config")
    return cast(Json, config) if isinstance(config, dict) else {}


def _kind(entry: Json) -> str:
    kind = entry.get("class_name")
    return re.split(r"[>.]", kind)[-1] if isinstance(kind, str) else "?"


def _is_operation(entry: Json) -> bool:
    """Whether it is a bare function of Keras 3, which is no layer and not counted as one."""
    module = entry.get("module")
    return isinstance(module, str) and re.match(r"keras\.(src\.)?ops\b", module) is not None


def _snake_case(name: str) -> str:
    """As both Kerases do it: `Conv2D` is `conv2d`, `BatchNormalization` `batch_normalization`."""
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def _calls(entry: Json) -> list[bool | None]:
    """The `training=` of each call that is written down, None where it is left open."""
    nodes = entry.get("inbound_nodes")
    if not isinstance(nodes, list) or not nodes:
        return [None]
    return [baked_in(node) for node in cast("list[Any]", nodes)]


def baked_in(node: Any) -> bool | None:
    """The `training=` of one recorded call, however nested its inputs are."""
    for keywords in keywords_of(node):
        return bool(keywords["training"])
    return None


def keywords_of(node: Any) -> Iterator[Json]:
    """The objects in a recorded call that hold a `training=` of it."""
    pending = [node]
    while pending:
        found = pending.pop()
        if isinstance(found, dict) and isinstance(found.get("training"), bool):
            yield cast(Json, found)
        pending += items_of(found)
