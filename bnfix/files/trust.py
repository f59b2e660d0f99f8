"""What in a configuration would run code that is not Keras's own?

A configuration is data, but Keras turns it into objects: it unmarshals the bytecode of lambdas,
imports modules by name, and calls TensorFlow functions by name. tf_keras does so with its safe mode
on, too. Each rule here looks at one object of the configuration and names what it would set off:
a `Danger`, or a `Missing` piece that the user can hand in.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import Any

from bnfix.files.symbols import is_of_tensors, only_computes, operation_only_computes
from bnfix.files.text import Json, items_of


@dataclass(frozen=True)
class Danger:
    """Something that would run, or read what is not the file's own.

    Attributes:
        where: Name of the layer that it belongs to.
        what: What it would do, as the end of a sentence.
    """

    where: str
    what: str


@dataclass(frozen=True)
class Missing:
    """A class or function that is not Keras's own, to be handed in by the user.

    Attributes:
        where: Name of the layer that it belongs to.
        name: Its bare name.
        key: The name under which Keras looks it up, `"package>name"` where it was registered.
        module: The module that the file says it is from, or None.
    """

    where: str
    name: str
    key: str
    module: str | None


Concern = Danger | Missing

#: Parts of Keras whose classes a model is made of, and whose functions it may name.
_CLASSES = frozenset(
    (  # noqa: SIM905 - two dozen quoted words would read worse
        "layers models engine utils activations initializers regularizers constraints losses "
        "metrics optimizers dtype_policies mixed_precision ops random quantizers trainers legacy "
        "premade premade_models"
    ).split()
)
_FUNCTIONS = frozenset(
    (  # noqa: SIM905
        "activations initializers regularizers constraints losses metrics ops optimizers"
    ).split()
)
#: Classes under the names of functions, as Keras 1 and what remains of TensorFlow 1 have them.
_ALIASES = {
    "initializers": frozenset(
        (  # noqa: SIM905
            "constant glorot_normal glorot_uniform he_normal he_uniform identity lecun_normal "
            "lecun_uniform ones orthogonal random_normal random_uniform truncated_normal "
            "variance_scaling zeros"
        ).split()
    ),
    "regularizers": frozenset(("l1", "l2", "l1_l2")),
}
#: Markers that Keras itself decodes; `__lambda__` is not among them.
_PLAIN_MARKERS = frozenset(
    ("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__")
)
#: Optimizers of tf_keras, which registers them, and writes them down, as if they were a user's.
OPTIMIZERS_OF_TF_KERAS = frozenset(
    (  # noqa: SIM905
        "Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lion Nadam RMSprop SGD"
    ).split()
)
_REGISTERED = frozenset(
    f"Custom>{name}"
    for name in (*OPTIMIZERS_OF_TF_KERAS, "SharpnessAwareMinimization", "CustomScaleLayer")
)
_MARSHALLED = "would run Python bytecode that is stored in the file"


def concerns(config: Any, given: Container[str] = ()) -> Iterator[Concern]:
    """Everything in `config` that is not data or Keras's own, apart from the names `given`."""
    pending: list[tuple[str, Any]] = [("the model", config)]
    while pending:
        where, found = pending.pop()
        if isinstance(found, dict):
            where = _name_of(found) or where
            for rule in _RULES:
                yield from rule(found, where, given)
        pending += [(where, inner) for inner in reversed(items_of(found))]


def _name_of(found: Json) -> str | None:
    inner = found.get("config")
    name = inner.get("name") if isinstance(inner, dict) and "class_name" in found else None
    return name if isinstance(name, str) else None


# --- rules -------------------------------------------------------------------------------------


def _bytecode(found: Json, where: str, given: Container[str]) -> Iterator[Concern]:
    if found.get("class_name") == "__lambda__":
        yield Danger(where, _MARSHALLED)
    inner = found.get("config")
    if isinstance(inner, dict) and isinstance(inner.get("function"), list):
        yield Danger(where, _MARSHALLED)  # the old form of a lambda, whatever its type says
    if "lambda" in [value for key, value in found.items() if key.endswith("_type")]:
        yield Danger(where, _MARSHALLED)


def _named_function(found: Json, where: str, given: Container[str]) -> Iterator[Concern]:
    """A Lambda of the old form names its functions, and tf_keras looks for them."""
    for key in ("function", "output_shape", "mask"):
        name = found.get(key)
        if found.get(f"{key}_type") == "function" and isinstance(name, str) and name not in given:
            yield Missing(where, name, name, None)


def _outside_of_keras(found: Json, where: str, given: Container[str]) -> Iterator[Concern]:
    kind = found.get("class_name")
    if kind is None:
        return
    if not isinstance(kind, str):
        yield Danger(where, f"names {kind!r:.80} where the name of a class belongs")
        return
    if kind in _PLAIN_MARKERS and not found.get("module"):
        return
    is_function = kind == "function"
    inner = found.get("config") if is_function else found.get("spec_name", kind)
    registered = found.get("registered_name")
    # A function is looked up by its own name, a class by the one it was registered under.
    key = str(inner if is_function or not isinstance(registered, str) else registered)
    name, module = (inner if isinstance(inner, str) else kind), found.get("module")
    if key in _REGISTERED and module is None:
        return
    if key in given or name in given:
        # Without a registered name Keras would not look among the objects given.
        unregistered = not is_function and found.get("registered_name", kind) is None
        if unregistered and isinstance(module, str) and not _is_of_keras(module, name, _CLASSES):
            yield Danger(where, f"would import {module!r:.80}")
        return
    if kind == "__typespec__" and _is_of_tensorflow(module) and name.endswith("Spec"):
        return
    if not isinstance(module, str):
        # Without a module nothing is imported: Keras looks in its own tables.
        elsewhere = isinstance(registered, str) and registered != kind
        if elsewhere or ">" in name or ("module" in found and module is None):
            yield Missing(where, name.rpartition(">")[2], key, None)
        return
    if not _is_of_keras(module, name, _FUNCTIONS if is_function else _CLASSES):
        yield Missing(where, name.rpartition(">")[2], key, module)
    elif isinstance(registered, str) and not registered.rpartition(">")[2].isidentifier():
        yield Danger(where, f"registers {registered!r:.80}, which is not a name")


def _is_of_keras(module: str, name: str, areas: Container[str]) -> bool:
    if not name.isidentifier() or name.startswith("__"):
        return False
    if module == "builtins":  # how Keras writes functions that it finds by name; Python has some
        return areas is _FUNCTIONS and not hasattr(builtins, name)
    root, *rest = module.split(".")
    if root not in ("keras", "tf_keras"):
        return False
    rest = [part for part in rest if part not in ("src", "api", "_v2", "keras")]
    if areas is _CLASSES and rest and name in _ALIASES.get(rest[0], ()):
        return True
    if areas is _CLASSES and not name[0].isupper():  # else any function of Keras could be called
        return False
    return (rest[0] in areas) if rest else areas is _CLASSES


def _is_of_tensorflow(module: Any) -> bool:
    return isinstance(module, str) and module.startswith("tensorflow.python.")


def _runs_foreign_code(found: Json, where: str, given: Container[str]) -> Iterator[Concern]:
    names = {_last(found.get("class_name")), _last(found.get("registered_name"))}
    for name in names & _FOREIGN.keys() - {None}:
        yield Danger(where, _FOREIGN[str(name)])


_FOREIGN = {
    "TFSMLayer": "would run a SavedModel from elsewhere",
    "TorchModuleWrapper": "would unpickle Python objects that are stored in the file",
    "JaxLayer": "would run a function that is stored in the file",
    "FlaxLayer": "would run a function that is stored in the file",
}


def _tensorflow(found: Json, where: str, given: Container[str]) -> Iterator[Concern]:
    inner = found.get("config")
    inner = inner if isinstance(inner, dict) else {}
    kinds = {_last(found.get("class_name")), _last(found.get("registered_name"))}
    if kinds & {"TFOpLambda", "SlicingOpLambda"}:
        symbol = inner.get("function")
        if not (isinstance(symbol, str) and only_computes(symbol)):
            yield Danger(where, f"would call {symbol!r:.80} of TensorFlow")
    if kinds & {"ClassMethod", "InstanceMethod", "InstanceProperty"}:
        attribute = inner.get("method_name", inner.get("attr_name"))
        if not (isinstance(attribute, str) and is_of_tensors(attribute)):
            yield Danger(where, f"would call {attribute!r:.80} of a tensor")
    if "TensorFlowOpLayer" in kinds:
        definition = inner.get("node_def")
        operation = definition.get("op") if isinstance(definition, dict) else definition
        if not (isinstance(definition, dict) and operation_only_computes(str(operation))):
            yield Danger(where, f"would run the operation {operation!r:.80} of TensorFlow")


def _reads_files(found: Json, where: str, given: Container[str]) -> Iterator[Concern]:
    vocabulary = found.get("vocabulary")
    if isinstance(vocabulary, str) and vocabulary:
        yield Danger(where, f"would read {vocabulary!r:.80} on this machine")


def _last(name: Any) -> str | None:
    """Of `"Custom>layers.Lambda"` the bare name, which is what some lookups go by."""
    return name.replace(">", ".").rpartition(".")[2] if isinstance(name, str) else None


Rule = Callable[[Json, str, Container[str]], Iterator[Concern]]
_RULES: tuple[Rule, ...] = (
    _bytecode,
    _named_function,
    _outside_of_keras,
    _runs_foreign_code,
    _tensorflow,
    _reads_files,
)
