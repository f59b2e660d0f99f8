"""What one model of the zoo is, and how a theme module lists its models.

A theme module holds one `Collection` named `zoo`; a decorated builder becomes an entry of that
name. Builders take the Keras as their argument `K`, so that the same text makes both dialects.
"""

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
import pytest

#: What Keras 3 runs on. tf_keras runs on TensorFlow alone, and is tried with that.
BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
DIALECTS = ("keras3", "tf_keras") if BACKEND == "tensorflow" else ("keras3",)
#: What `check` and the proofs of verbs try besides `predict` and `model(x)`.
COMPILED = {"tensorflow": ("tf.function",), "jax": ("jax.jit",), "torch": ()}[BACKEND]
BOTH = frozenset(("keras3", "tf_keras"))
KERAS3 = frozenset({"keras3"})
TF_KERAS = frozenset({"tf_keras"})

TAGS = frozenset(
    (  # noqa: SIM905 - thirty quoted words would read worse
        "functional sequential functional_subclass subclassed bn opaque_bn nested shared multi_io "
        "rnn mask preprocessing string_input int_input custom lambda ops mixed float64 baked "
        "stochastic frozen compiled two_d_only tensorflow no_h5 no_keras no_weights no_export"
    ).split()
)

Builder = Callable[[ModuleType], Any]
Sample = Callable[[int, np.random.Generator], Any]

# Imported when asked for: a test of one Keras must not pay for, or be disturbed by, the other.
KERASES: dict[str, Callable[[], ModuleType]] = {
    "keras3": lambda: importlib.import_module("keras"),
    "tf_keras": lambda: importlib.import_module("tf_keras"),
}


def keras_module(dialect: str) -> ModuleType:
    """The Keras module of `dialect`, imported now; a test of one that is not here is skipped."""
    if dialect not in DIALECTS:
        pytest.skip(f"{dialect} runs on TensorFlow alone, and Keras on {BACKEND} here")
    return KERASES[dialect]()


def tensorflow() -> ModuleType:
    """TensorFlow, for a test of what is its own; elsewhere the test is skipped."""
    if BACKEND != "tensorflow":
        pytest.skip(f"is about TensorFlow's own, and Keras runs on {BACKEND} here")
    return importlib.import_module("tensorflow")


#: Marks tests that read images, which TensorFlow decodes whatever Keras runs on.
reads_images = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None,
    reason="images are decoded by TensorFlow, which is not installed",
)


def need_precision(dtype: str) -> None:
    """Skip a test of what Keras does in float64 on TensorFlow alone."""
    if dtype == "float64" and BACKEND != "tensorflow":
        pytest.skip(f"Keras rounds float64 down to float32 on {BACKEND}")


def too_old(dialect: str, wanted: str) -> str | None:
    """Why what `dialect` has since the version `wanted` cannot be tried; None if it can."""
    K = keras_module(dialect)
    here, oldest = (tuple(map(int, v.split(".")[:2])) for v in (K.__version__, f"{wanted}.0"))
    if here >= oldest:
        return None
    return f"{K.__name__} {K.__version__} is older than {wanted}, which has what this needs"


def is_keras3(K: ModuleType) -> bool:
    """Whether `K` is Keras 3 rather than tf_keras."""
    return K.__name__ == "keras"


@dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    Attributes:
        name: Unique, snake_case.
        build: From the Keras module to a built model.
        dialects: Where the Keras has the feature.
        tags: From the package docstring; `no_h5:tf_keras` holds in one dialect only.
        since: The oldest version of a dialect's Keras that runs the model as it is meant.
        sample: `(rows, rng)` to inputs, where the model's input specs do not say enough.
    """

    name: str
    build: Builder
    dialects: frozenset[str] = BOTH
    tags: frozenset[str] = frozenset()
    since: Mapping[str, str] = field(default_factory=dict)
    sample: Sample | None = None

    def __post_init__(self) -> None:
        for tag in self.tags:
            plain, _, dialect = tag.partition(":")
            if plain not in TAGS or dialect not in {"", *self.dialects}:
                raise ValueError(f"zoo entry {self.name}: no such tag as {tag!r}")

    def tags_in(self, dialect: str) -> frozenset[str]:
        """The tags that hold in `dialect`, without their dialect suffix."""
        split = (tag.partition(":") for tag in self.tags)
        return frozenset(plain for plain, _, where in split if where in {"", dialect})

    def lack(self, dialect: str) -> str | None:
        """Why the installed Keras cannot be asked for this model; None if it can."""
        if "tensorflow" in self.tags and BACKEND != "tensorflow":
            return f"{self.name} has what Keras has on TensorFlow only, and runs on {BACKEND}"
        return too_old(dialect, self.since.get(dialect, "0"))

    def __str__(self) -> str:
        return self.name


class Collection:
    """The entries of one theme, in the order they are written."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def entry(
        self,
        *tags: str,
        only: frozenset[str] = BOTH,
        since: Mapping[str, str] = MappingProxyType({}),
        sample: Sample | None = None,
    ) -> Callable[[Builder], Builder]:
        """Decorator: list the builder under its own name."""

        def add(builder: Builder) -> Builder:
            self._entries.append(
                Entry(builder.__name__, builder, only, frozenset(tags), since, sample)
            )
            return builder

        return add


_CUSTOM: list[Callable[[ModuleType], Any]] = []


def custom(factory: Callable[[ModuleType], Any]) -> Callable[[ModuleType], Any]:
    """Decorator for `K -> class or function` that a model file refers to by name.

    Cached, since two builds of one entry must share the class for one to load the other's file.
    """
    cached = functools.cache(factory)
    _CUSTOM.append(cached)
    return cached


def custom_objects(dialect: str) -> dict[str, Any]:
    """Every unregistered class and function of the zoo by name, for `load_model`."""
    made = [factory(keras_module(dialect)) for factory in _CUSTOM]
    by_name = {thing.__name__: thing for thing in made}
    if len(by_name) != len(made):
        raise ValueError(f"two custom objects share a name: {sorted(t.__name__ for t in made)}")
    return by_name
