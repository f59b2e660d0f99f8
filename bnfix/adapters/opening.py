"""How does a Keras open and write model files?

Both Kerases have a safe mode, and both let a global switch or an old format overrule the argument;
the scope set here is the one that each lambda asks last.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from bnfix.adapters import kerases
from bnfix.adapters.choose import adapter_of

#: Where a name in a configuration may come from; the empty one is the module itself.
_NAMESPACES = (
    "", "layers", "models", "optimizers", "losses", "metrics", "initializers", "regularizers",
    "constraints", "activations", "dtype_policies", "mixed_precision",
)  # fmt: skip
#: Classes that files name and no namespace has.
_INTERNAL = frozenset(
    (  # noqa: SIM905 - quoted words would read worse
        "Functional TFOpLambda SlicingOpLambda TensorFlowOpLayer ClassMethod InstanceMethod "
        "InstanceProperty function __keras_tensor__ __tensor__ __numpy__ __bytes__ __ellipsis__ "
        "__slice__ __tuple__ __typespec__"
    ).split()
)


def open_model(
    root: str, path: str, objects: Mapping[str, Any], *, compile: bool, safe: bool
) -> Any:
    """What the Keras called `root` makes of the file at `path`; raises whatever it raises."""
    keras = importlib.import_module(root)
    with _safe_mode(root, safe), unlogged("compiled metrics have yet to be built"):
        return keras.models.load_model(
            path, custom_objects=dict(objects), compile=compile, safe_mode=safe
        )


@contextlib.contextmanager
def unlogged(phrase: str) -> Generator[None]:
    """What Keras logs with `phrase` in it is not shown, for bnfix says it itself or it is known."""

    def others(record: logging.LogRecord) -> bool:
        return phrase not in record.getMessage()

    with contextlib.ExitStack() as stack:
        for name in ("absl", "tensorflow"):  # of Keras 3, and of tf_keras
            logging.getLogger(name).addFilter(others)
            stack.callback(logging.getLogger(name).removeFilter, others)
        yield


def mend_optimizer(model: Any, state: Sequence[Any]) -> bool:
    """Make the optimizer of a Keras 3 model from an .h5 file one that can go on training.

    Keras builds it for the weights that the model has beside its layers, which are none, so that
    it knows nothing of those it has to train. `state` is what the file holds of it; what is
    returned says whether the optimizer goes on from there, if there is anything.
    """
    adapter = adapter_of(model)
    if not adapter.is_compiled(model) or model.optimizer is None:
        return True
    fresh = type(model.optimizer).from_config(model.optimizer.get_config())
    untrained = len(adapter.optimizer_variables(fresh))
    fresh.build(model.trainable_variables)
    variables = adapter.optimizer_variables(fresh)
    fits = [tuple(v.shape) for v in variables] == [tuple(values.shape) for values in state]
    if fits:
        for variable, values in zip(variables, state, strict=True):
            variable.assign(values)
    model.optimizer = fresh
    return fits or len(state) <= untrained


def goes_on(model: Any, state: Sequence[Any]) -> bool:
    """Whether the optimizer of a tf_keras model from an .h5 file has `state`, which that holds."""
    adapter = adapter_of(model)
    if not adapter.is_compiled(model) or model.optimizer is None:
        return True
    variables = adapter.optimizer_variables(model.optimizer)
    values = [adapter.copy_value(variable) for variable in variables]
    # Files of early Adams have more behind it, which nothing reads.
    same = len(values) <= len(state) and all(map(np.array_equal, values, state))
    return same or not any(map(np.ndim, state))  # of steps and rates alone, it has learned nothing


def save_model(model: Any, path: str) -> None:
    """Write `model` to `path` in the format of its extension, by its own Keras."""
    with unlogged("HDF5 file"):  # legacy, as Keras 3 says; whoever names the file so knows
        adapter_of(model).keras.models.save_model(model, path)


@contextlib.contextmanager
def _safe_mode(root: str, safe: bool) -> Generator[None]:
    library = importlib.import_module(f"{root}.src.saving.serialization_lib")
    with library.SafeModeScope(safe):
        yield


def optimizers(root: str, names: Iterable[str]) -> dict[str, Any]:
    """Those of `names` that are optimizers of the Keras in the package `root`, for any backend."""
    module = importlib.import_module(root).optimizers
    found = {name: getattr(module, name, None) for name in names}
    return {name: one for name, one in found.items() if isinstance(one, type)}


def registered(roots: Sequence[str] = ()) -> dict[str, Any]:
    """Classes and functions registered with a Keras, by their full names.

    Kerases that are not in use have none but their own, and are imported only if among `roots`.
    """
    found: dict[str, Any] = {}
    for root in kerases.ROOTS:
        if root in roots or root in sys.modules:
            found |= importlib.import_module(root).saving.get_custom_objects()
    return found


def in_scope(names: Set[str]) -> dict[str, Any]:
    """Those of `names` that a Keras knows here, in a `custom_object_scope` for example."""
    found: dict[str, Any] = {}
    for root in kerases.ROOTS:
        if root in sys.modules:
            get = importlib.import_module(root).saving.get_registered_object
            found |= {name: one for name in names if (one := get(name)) is not None}
    return found


def functions(root: str, names: Iterable[str]) -> dict[str, Any]:
    """What the Keras called `root` takes each of `names` for, as a loss or a metric, if it does."""
    keras = importlib.import_module(root)
    found: dict[str, Any] = {name: name for name in names if name in _SHORT}
    for name in names:
        for get in (keras.metrics.get, keras.losses.get):
            with contextlib.suppress(ValueError, TypeError):
                if callable(one := get(name)):  # tf_keras gives back a name that it does not know
                    found[name] = one
    return found


def functions_among(root: str, names: Iterable[str]) -> frozenset[str]:
    """Those of `names` under which the Keras called `root` has a function of its own."""
    keras = importlib.import_module(root)
    areas = ("activations", "initializers", "regularizers", "constraints", "losses", "metrics")
    spaces = [getattr(keras, area, None) for area in (*areas, "ops")]
    return frozenset(name for name in names if any(hasattr(space, name) for space in spaces))


#: Names that stand for one metric or another, as the loss asks for.
_SHORT = frozenset(("accuracy", "acc", "crossentropy", "ce"))


def knows(root: str, name: str) -> bool:
    """Whether the Keras called `root` has a class of that name, as old files give it."""
    keras = importlib.import_module(root)
    spaces = (getattr(keras, space, None) if space else keras for space in _NAMESPACES)
    return name in _INTERNAL or any(hasattr(space, name) for space in spaces)


def is_function(root: str, name: str) -> bool:
    """Whether a configuration of Keras 3, as `root`, calls a function of `keras.ops` by `name`."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return hasattr(getattr(importlib.import_module(root), "ops", None), words)


def home_of(value: Any) -> str | None:
    """The Keras that the class `value` is derived from; None for anything else."""
    for cls in value.__mro__ if isinstance(value, type) else ():
        root = cls.__module__.partition(".")[0]
        if root in kerases.ROOTS:
            return root
    return None


# --- SavedModels, which Keras 2 alone writes ----------------------------------------------------


def saved_metadata(root: str, content: bytes, name: str) -> str | None:
    """The root's text in `keras_metadata.pb`, or in a `saved_model.pb` older than that."""
    if name == "saved_model.pb":
        from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

        nodes = SavedModel.FromString(content).meta_graphs[0].object_graph_def.nodes
        return nodes[0].user_object.metadata if nodes else None
    proto = importlib.import_module(f"{root}.protobuf.saved_metadata_pb2")
    found = proto.SavedMetadata.FromString(content).nodes
    return next((node.metadata for node in found if node.node_path == "root"), None)


def rebuild(root: str, config: str, objects: Mapping[str, Any]) -> Any:
    """The Keras 2 model of a configuration, with fresh weights."""
    keras = importlib.import_module(root)
    with _safe_mode(root, True):
        return keras.models.model_from_json(config, custom_objects=dict(objects))


def restore(model: Any, checkpoint: str, *, partly: bool = False) -> None:
    """Give `model` the variables of a checkpoint: all that it has, or those that are there."""
    status = model.load_weights(checkpoint)
    if not partly:
        status.assert_existing_objects_matched()
    status.expect_partial()  # else Keras tells of what was left when the model is deleted


def compile_as(root: str, model: Any, config: dict[str, Any], objects: Mapping[str, Any]) -> None:
    """Compile a Keras 2 model as the old formats note it down."""
    saving_utils = importlib.import_module(f"{root}.src.saving.legacy.saving_utils")
    with _safe_mode(root, True):
        arguments = saving_utils.compile_args_from_training_config(config, dict(objects))
        model.compile(**arguments, from_serialized=True)


def checkpoint(prefix: str, tracked: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """For each object, given by the names that lead to it, its variables by name."""
    import tensorflow as tf
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    reader: Any = tf.train.load_checkpoint(prefix)
    graph = TrackableObjectGraph.FromString(reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))

    def children(node: Any) -> dict[str, Any]:
        return {child.local_name: graph.nodes[child.node_id] for child in node.children}

    def variables(names: Sequence[str]) -> dict[str, Any]:
        node = graph.nodes[0]
        for name in names:
            node = children(node).get(name)
            if node is None:
                return {}
        keys = {n: child.attributes for n, child in children(node).items() if child.attributes}
        return {name: reader.get_tensor(held[0].checkpoint_key) for name, held in keys.items()}

    return [variables(names) for names in tracked]
