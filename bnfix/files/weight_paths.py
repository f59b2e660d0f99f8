"""Where in an HDF5 file does a BatchNormalization keep its weights?

The older format names its datasets after the layers (`model_weights/bn/bn/gamma:0`), the newer one
numbers them at a place that follows from the configuration (`layers/batch_normalization_3/vars/0`).
Either way the answer is a table from `gamma`, `beta`, `moving_mean` ... to paths of datasets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from bnfix.files.config import LayerEntry
from bnfix.files.hdf5 import Hdf5

#: What a BatchNormalization may have, in the order in which it is stored.
ROLES = ("gamma", "beta", "moving_mean", "moving_variance")
_RENORM = ("moving_stddev", "renorm_mean", "renorm_stddev")
#: Keras 1 called its variance a deviation.
_ALIASES = {"running_mean": "moving_mean", "running_std": "moving_variance"}
_ROLE = re.compile(rf"(?:^|[/_])({'|'.join([*ROLES, *_RENORM, *_ALIASES])})(?:_\d+)?(?::\d+)?$")

Places = Mapping[str, str]


class WeightPaths(Protocol):
    """A way of storing weights."""

    def of(self, layer: LayerEntry) -> Places:
        """Datasets of a BatchNormalization by role; empty if there are none."""
        ...

    def others(self, told: Iterable[LayerEntry]) -> Iterator[tuple[str, Places]]:
        """Path and datasets of what looks like a BatchNormalization and was not asked for.

        `told` are the layers in the configuration.
        """
        ...


def weight_paths_in(hdf5: Hdf5) -> WeightPaths:
    """How `hdf5` stores its weights."""
    root = "model_weights" if hdf5.is_group("model_weights") else "/"
    if hdf5.names(root, "layer_names") is not None:
        return ByName(hdf5, root)
    return ByPlace(hdf5)


class ByName:
    """A group for each layer of the outermost model, in it datasets named by the variables."""

    def __init__(self, hdf5: Hdf5, root: str) -> None:
        self._hdf5, self._root = hdf5, root
        self._stores: dict[str, dict[str, dict[str, str]]] = {}  # by group, by prefix, by role
        self._left: dict[tuple[str, str], dict[str, str]] | None = None

    def of(self, layer: LayerEntry) -> Places:
        stores = self._in_group(layer.group)
        # tf_keras names the variables of a wrapped layer after the wrapper.
        for path in (layer.path, layer.path.rpartition("/")[0]):
            best = max(stores, key=lambda prefix: _likeness(prefix, path), default=None)
            if best is not None and (layer.whole or _likeness(best, path)):
                return stores.pop(best)
        return {}

    def others(self, told: Iterable[LayerEntry]) -> Iterator[tuple[str, Places]]:
        for group in self._hdf5.names(self._root, "layer_names") or []:
            for prefix, places in self._in_group(group).items():
                inner = prefix.split("/")
                inner = inner[::-1][: inner[::-1].index(group)][::-1] if group in inner else inner
                yield "/".join([group, *(part for part in inner if part)]), places

    def _in_group(self, group: str) -> dict[str, dict[str, str]]:
        if group not in self._stores:
            self._stores[group] = self._read(f"{self._root.strip('/')}/{group}".strip("/"))
        return self._stores[group]

    def _read(self, path: str) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for name in self._hdf5.names(path, "weight_names") or []:
            match = _ROLE.search(name)
            if match:
                role = _ALIASES.get(match[1], match[1])
                found.setdefault(name[: match.start()], {})[role] = f"{path}/{name}"
        return {prefix: places for prefix, places in found.items() if "moving_variance" in places}


def _likeness(prefix: str, path: str) -> int:
    """How many names `prefix` and `path` share, counted from their ends."""
    ours, theirs = prefix.split("/")[::-1], path.split("/")[::-1]
    shared = 0
    for one, other in zip(ours, theirs, strict=False):
        if one != other:
            break
        shared += 1
    return shared


class ByPlace:
    """A group for each layer at any depth, named by class and position; weights are numbered."""

    def __init__(self, hdf5: Hdf5) -> None:
        self._hdf5 = hdf5
        self._taken: set[str] = set()
        self._old = not hdf5.is_group("layers") and hdf5.is_group(_OLD)

    def of(self, layer: LayerEntry) -> Places:
        place = self._place(layer)
        held = self._hdf5.children(f"{place}/vars")
        if not held:
            return {}
        self._taken.add(place)
        roles = [
            role
            for role, option in zip(ROLES, ("scale", "center", "", ""), strict=True)
            if layer.config.get(option, True) is not False
        ]
        named = zip([*roles, *_RENORM], sorted(held, key=_number), strict=False)
        return {role: f"{place}/vars/{name}" for role, name in named}

    def _place(self, layer: LayerEntry) -> str:
        if not self._old:
            return layer.place
        # Layers with weights, and all around them, were counted twice.
        doubled = re.sub(r"_(\d+)(?=/|$)", lambda found: f"_{2 * int(found[1])}", layer.place)
        return doubled.replace("layers/", f"{_OLD}/")

    def others(self, told: Iterable[LayerEntry]) -> Iterator[tuple[str, Places]]:
        """Without a configuration a BatchNormalization is known by the name of its class alone."""
        plain = {self._place(layer) for layer in told if layer.is_plain}
        pending = [("", "")]
        while pending:
            place, path = pending.pop()
            for name in reversed(self._hdf5.children(place or "/")):
                inner = f"{place}/{name}".strip("/")
                if name == "vars" or inner in plain or inner in _NO_LAYERS:
                    continue
                if not self._hdf5.is_group(inner):
                    continue
                told = self._hdf5.attribute(f"{inner}/vars", "name")
                shown = told if isinstance(told, str) else name
                listing = name in ("layers", _OLD)
                pending.append((inner, path if listing else f"{path}/{shown}".strip("/")))
            held = self._hdf5.children(f"{place}/vars") if place else []
            if place not in self._taken and self._looks_so(place, path, held):
                yield path, _guessed(place, sorted(held, key=_number))

    def _looks_so(self, place: str, path: str, held: list[str]) -> bool:
        """By the name of its class, or by four vectors of one length, which nothing else has."""
        names = (place.rpartition("/")[2], path.rpartition("/")[2])
        if any(re.search(r"batch_normalization(_\d+)?$", name) for name in names):
            return len(held) in _GUESSED
        shapes = {self._hdf5.shape(f"{place}/vars/{name}") for name in held[:4]}
        shape = shapes.pop() if len(held) == 4 and len(shapes) == 1 else None
        return shape is not None and len(shape) == 1


#: What Keras 2.12 and 2.13 called the list of layers.
_OLD = "_layer_checkpoint_dependencies"
_NO_LAYERS = ("optimizer", "metrics", "_metrics", "compile_metrics", "_compile_metrics")
#: What so many weights are. A third one could be gamma or beta, so it is left out.
_GUESSED = {
    2: ROLES[2:],
    3: ROLES[2:],
    4: ROLES,
    5: (*ROLES[2:], *_RENORM),
    6: (*ROLES[2:], *_RENORM),
    7: (*ROLES, *_RENORM),
}


def _guessed(place: str, held: list[str]) -> Places:
    roles = _GUESSED[len(held)]
    named = zip(roles, held[-len(roles) :], strict=True)
    return {role: f"{place}/vars/{name}" for role, name in named}


def _number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() and len(name) < 9 else (1 << 30, name)
