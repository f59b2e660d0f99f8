"""What the rest of bnfix needs of a Keras, and the part of it that both Kerases share.

Everything in which they differ is abstract here and lives in `keras3.py` or `keras2.py`.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnfix.adapters import backends
from bnfix.adapters.cloning import clone
from bnfix.errors import gist
from bnfix.graph.definition import TensorSpec

_COARSEST_FIRST = ("bfloat16", "float16", "float32", "float64")


@dataclass(frozen=True)
class RawNode:
    """One recorded call within a model, still made of Keras objects."""

    layer: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Any, ...]
    is_input: bool


class Adapter(ABC):
    """One Keras, seen from the rest of bnfix.

    Attributes:
        keras: The module, `keras` or `tf_keras`.
    """

    name: str
    #: Whether `predict`, which passes training=False, overrules a `training=True` in a call.
    predict_overrules_training: bool

    def __init__(self, keras: Any) -> None:
        self.keras = keras

    # --- what a model is made of -------------------------------------------------------------

    @abstractmethod
    def has_graph(self, model: Any) -> bool:
        """Whether `model` is defined by its graph alone: Functional or Sequential, and built."""

    @abstractmethod
    def nodes(self, model: Any) -> Iterator[RawNode]:
        """The calls recorded in `model`'s own graph, in the order in which Keras runs them."""

    @abstractmethod
    def is_symbolic(self, value: Any) -> bool:
        """Whether `value` is a placeholder tensor of this Keras."""

    @abstractmethod
    def tensor_spec(self, tensor: Any) -> TensorSpec: ...

    @abstractmethod
    def is_operation(self, layer: Any) -> bool:
        """Whether `layer` is a bare function on tensors (`x + 1`, `keras.ops.concatenate`)."""

    @abstractmethod
    def input_names(self, model: Any) -> list[str]:
        """Names of the model's inputs, in order."""

    @abstractmethod
    def flatten(self, structure: Any) -> list[Any]:
        """Leaves in the order in which this Keras flattens nested inputs."""

    @abstractmethod
    def pack(self, structure: Any, flat: list[Any]) -> Any:
        """The inverse of `flatten`, shaped like `structure`."""

    def is_sequential(self, model: Any) -> bool:
        return isinstance(model, self.keras.Sequential)

    def is_model(self, layer: Any) -> bool:
        return isinstance(layer, self.keras.Model)

    def is_layer(self, value: Any) -> bool:
        return isinstance(value, self.keras.layers.Layer)

    def is_batch_norm(self, layer: Any) -> bool:
        """Subclasses and the base that tf_keras derives all its variants from included."""
        return any(
            cls.__name__ in ("BatchNormalization", "BatchNormalizationBase")
            and cls.__module__.partition(".")[0] == self.keras.__name__
            for cls in type(layer).__mro__
        )

    def is_own(self, layer: Any) -> bool:
        """Whether the class of `layer` is Keras's own, not a subclass made elsewhere."""
        return type(layer).__module__.partition(".")[0] == self.keras.__name__

    def children(self, layer: Any) -> list[Any]:
        """Layers directly inside `layer`, in lists and dicts too."""
        if isinstance(layer, self.keras.Sequential):
            return list(layer.layers)
        return list(layer._flatten_layers(include_self=False, recursive=False))

    def tree(self, layer: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Every layer below `layer`, once, with the path at which it is met first."""
        yield from self._tree(layer, prefix, set())

    def _tree(self, layer: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
        for child in self.children(layer):
            if id(child) not in seen:
                seen.add(id(child))
                yield prefix + child.name, child
                yield from self._tree(child, f"{prefix}{child.name}/", seen)

    def batch_norms(self, model: Any) -> list[tuple[str, Any]]:
        """Path and layer of every BatchNormalization at any depth."""
        return [(path, layer) for path, layer in self.tree(model) if self.is_batch_norm(layer)]

    def recorded_training(self, layer: Any) -> bool | None:
        """The `training` that this Keras notes down for a call in which nobody gave it."""
        return None

    def callables(self, model: Any) -> list[Any]:
        """All layers in `model`, and the bare functions on tensors in its graphs, each once."""
        layers = [layer for _, layer in self.tree(model)]
        graphs = [part for part in [model, *layers] if self.is_model(part) and self.has_graph(part)]
        called = [node.layer for part in graphs for node in self.nodes(part)]
        return list({id(layer): layer for layer in [*layers, *called]}.values())

    def accepts_training(self, layer: Any) -> bool:
        if self.is_operation(layer):
            return False
        return "training" in inspect.signature(layer.call).parameters

    # --- values ------------------------------------------------------------------------------

    def variables(self, model: Any) -> list[Any]:
        """Everything that `model` remembers: weights, statistics, random states, metrics."""
        return list(model.variables)

    def weights(self, layer: Any) -> list[Any]:
        """What training and statistics have made of `layer`; random states are left out."""
        return [weight for weight in layer.weights if hasattr(weight, "assign")]

    @contextmanager
    def preserved(self, model: Any) -> Generator[None]:
        """Everything that `model` remembers is as before when the block ends, however it ends."""
        variables = self.variables(model)
        before = [self.copy_value(variable) for variable in variables]
        try:
            yield
        finally:
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)

    def carried(self, model: Any) -> list[tuple[str, Any]]:
        """Path and variable of what stateful recurrent layers hand on from call to call.

        Neither Keras counts these among a model's variables.
        """
        held = [
            (path, state)
            for path, layer in self.tree(model)
            if getattr(layer, "stateful", False)
            for state in self.flatten(getattr(layer, "states", None))
            if hasattr(state, "assign")
        ]
        return list({id(state): (path, state) for path, state in held}.values())

    @contextmanager
    def untouched(self, model: Any) -> Generator[None]:
        """As `preserved`; recurrent states are put back as well."""
        carried = [(state, self.copy_value(state)) for _, state in self.carried(model)]
        try:
            with self.preserved(model):
                yield
        finally:
            for state, value in carried:
                state.assign(value)

    def compiled_functions(self, model: Any) -> dict[str, Any]:
        """The compiled train, test and predict functions that `model` has so far."""
        names = ("train_function", "test_function", "predict_function", "train_tf_function")
        found = {name: getattr(model, name, None) for name in names}
        return {name: function for name, function in found.items() if function is not None}

    @contextmanager
    def functions_kept(self, model: Any) -> Generator[None]:
        """Compiled functions are as before when the block ends.

        One that was traced meanwhile would go on to obey the flags of today.
        """
        before = self.compiled_functions(model)
        try:
            yield
        finally:
            for name in {*self.compiled_functions(model), *before}:
                setattr(model, name, before.get(name))

    def copy_value(self, variable: Any) -> Any:
        """The value of `variable` now, which later assignments to it do not reach."""
        return np.array(variable.numpy())

    def infer(self, model: Any, inputs: Any) -> list[Any]:
        """Flat numpy outputs of `model` in inference mode, run as one batch."""
        return [self.to_numpy(tensor) for tensor in self.flatten(model(inputs, training=False))]

    def input_structure(self, model: Any) -> Any:
        """The structure in which `model` takes its inputs, placeholders as leaves."""
        if not self.is_sequential(model):
            return model.input
        return model.inputs[0] if len(model.inputs) == 1 else model.inputs

    def coarsest_dtype(self, model: Any) -> str:
        """The least precise floating dtype in which a layer of `model` computes."""
        used = {str(layer.compute_dtype) for _, layer in self.tree(model)}
        return next((dtype for dtype in _COARSEST_FIRST if dtype in used), "float32")

    def rounding_dtype(self, model: Any) -> str:
        """The precision that decides how far two evaluations of `model` may lie apart."""
        dtype = self.coarsest_dtype(model)
        rounds = dtype == "float32" and backends.multiplies_in_tensorfloat32(self.backend)
        return "tensorfloat32" if rounds else dtype

    def output_labels(self, model: Any, outputs: Any) -> tuple[str, ...]:
        """A name for each leaf of `outputs`, in the order of `flatten`."""
        if isinstance(outputs, dict):
            return tuple(
                label if len(labels) == 1 else f"{key}/{label}"
                for key in sorted(outputs)
                for labels in [self.output_labels(None, outputs[key])]
                for label in (labels if len(labels) > 1 else [str(key)])
            )
        number = len(self.flatten(outputs))
        names = tuple(getattr(model, "output_names", None) or ())
        return names if len(names) == number else tuple(str(i) for i in range(number))

    @property
    @abstractmethod
    def backend(self) -> str:
        """The array library below: "tensorflow", "jax" or "torch"."""

    @property
    @abstractmethod
    def run_errors(self) -> tuple[type[Exception], ...]:
        """What running a model on unsuitable inputs raises."""

    @abstractmethod
    def to_numpy(self, tensor: Any) -> Any:
        """The values of a tensor or variable; bfloat16 comes as float32."""

    @abstractmethod
    def to_tensor(self, value: Any, spec: TensorSpec) -> Any:
        """`value` as an input of a model: in the dtype of `spec`, a last axis of 1 as needed."""

    @abstractmethod
    def cast(self, tensor: Any, dtype: str) -> Any:
        """`tensor` in another dtype, itself if it has that."""

    def affine(self, values: Any, scale: Any, shift: Any) -> Any:
        """`values * scale + shift`, which broadcast as they stand."""
        return backends.affine(self.backend, values, scale, shift)

    def fed(self, array: Any) -> Any:
        """`array` as a tensor that every entry point takes alike; `predict` casts floats."""
        values = np.asarray(array)
        dtype = values.dtype.name
        if values.dtype.kind in "OSU":
            dtype = "string"
        elif values.dtype.kind == "f":
            dtype = self.keras.backend.floatx()
        return self.to_tensor(values, TensorSpec(values.shape, dtype))

    @abstractmethod
    def moments(self, tensor: Any, axis: int, mask: Any) -> tuple[Any, Any, Any]:
        """Count, mean and population variance per channel of what `mask` lets through.

        In the dtype of `tensor`, float32 at least; mean and variance of an empty sample are 0.
        """

    def mask_of(self, tensor: Any) -> Any:
        """The mask that travels with `tensor`, or None."""
        return getattr(tensor, "_keras_mask", None)

    def with_mask(self, tensor: Any, mask: Any) -> Any:
        """`tensor`, with `mask` travelling along."""
        if mask is not None:
            tensor._keras_mask = mask
        return tensor

    def compiled(self, fn: Callable[[Any], Any], *, any_rows: bool) -> Callable[[Any], Any]:
        """`fn` of one structure of tensors, compiled by the backend, if the backend compiles.

        With `any_rows` it is compiled once for batches of every length.
        """
        return backends.compiled(self.backend, fn, any_rows=any_rows)

    def view(self, tensor: Any) -> Any:
        """The values of a tensor, in its own dtype and memory where that is possible."""
        return backends.view(self.backend, tensor)

    @property
    def accelerated(self) -> bool:
        """Whether tensors live outside of the processor's own memory."""
        return backends.accelerated(self.backend)

    @abstractmethod
    def uncompiled(self) -> AbstractContextManager[None]:
        """While the block runs, functions that the user has compiled run step by step."""

    @abstractmethod
    def inference_thread(self) -> Callable[[], AbstractContextManager[None]]:
        """What a new thread enters to run a model in inference as this thread would."""

    @abstractmethod
    def is_traced(self, value: Any) -> bool:
        """Whether `value` stands for one that compiled code will have later."""

    def has_values(self, tensor: Any) -> bool:
        return not (self.is_symbolic(tensor) or self.is_traced(tensor))

    @contextmanager
    def each_step_once(self, model: Any) -> Generator[None]:
        """While the block runs, layers that loop over time make no step twice.

        The loops of both Kerases make the first step once more before, to see what comes out.
        """
        with ExitStack() as undo:
            for _, layer in self.tree(model):
                if self.batch_norms(layer):
                    for name, value in self.without_trial_step(layer).items():
                        undo.callback(setattr, layer, name, getattr(layer, name))
                        setattr(layer, name, value)
            yield

    def without_trial_step(self, layer: Any) -> dict[str, Any]:
        """The attributes that make `layer` loop without a trial."""
        return {"unroll": True} if isinstance(layer, self.keras.layers.RNN) else {}

    @abstractmethod
    def exported(self, model: Any) -> AbstractContextManager[Callable[[Any], Any]]:
        """What `model.export` wrote, loaded again, for as long as the block lasts."""

    @abstractmethod
    def entry_points(self, model: Any) -> Mapping[str, Callable[[Any], Any]]:
        """The ways in which users call a model, by name, each from inputs to outputs."""

    # --- layers ------------------------------------------------------------------------------

    def clone_layer(self, layer: Any, changes: dict[str, Any] | None = None) -> Any:
        copy = clone(self.keras, layer, changes)
        self.rename(copy, layer.name)  # where get_config() does not tell the name
        return copy

    @abstractmethod
    def rename(self, layer: Any, name: str) -> None: ...

    def copy_state(self, source: Any, target: Any) -> None:
        """Carry over what is no variable: names, and what preprocessing layers have learned."""
        for inner, fresh in zip(
            [source, *(layer for _, layer in self.tree(source))],
            [target, *(layer for _, layer in self.tree(target))],
            strict=True,
        ):
            self.rename(fresh, inner.name)  # names inside of composite layers come from counters
            if hasattr(inner, "get_vocabulary") and hasattr(fresh, "set_vocabulary"):
                _copy_vocabulary(inner, fresh)
            elif hasattr(fresh, "finalize_state"):
                fresh.finalize_state()

    @abstractmethod
    def copy_operation(self, operation: Any) -> Any:
        """A fresh copy of a bare function on tensors, without its recorded calls."""

    # --- models ------------------------------------------------------------------------------

    def new_functional(self, model: Any, inputs: Any, outputs: Any) -> tuple[Any, str | None]:
        """A model like `model` over the given symbolic tensors, and what could not be kept."""
        cls = type(model)
        if self.is_own(model):
            return self.keras.Model(inputs=inputs, outputs=outputs, name=model.name), None
        if takes(cls, "inputs", "outputs", "name"):
            try:
                made = cls(inputs=inputs, outputs=outputs, name=model.name)
            except (
                TypeError
            ):  # a constructor that takes anything, and sets inputs and outputs itself
                made = None
            if made is not None and self._gives(made, outputs):
                return made, None
        lost = f"{model.name} is now a Functional model, no longer a {cls.__name__}"
        return self.keras.Model(inputs=inputs, outputs=outputs, name=model.name), lost

    def _gives(self, model: Any, outputs: Any) -> bool:
        """Whether `model` returns these very tensors, not some that its constructor made."""
        pairs = zip(model.outputs, self.flatten(outputs), strict=False)
        return self.has_graph(model) and all(ours is theirs for ours, theirs in pairs)

    @abstractmethod
    def attach(self, model: Any, layers: list[Any]) -> None:
        """Make `layers`, called on tensors of `model` but feeding no output of it, part of it."""

    def new_sequential(self, model: Any, layers: list[Any]) -> tuple[Any, str | None]:
        """A Sequential like `model` of the given layers, and what could not be kept."""
        if type(model) is self.keras.Sequential or takes(type(model), "layers", "name"):
            return type(model)(layers=layers, name=model.name), None
        lost = f"{model.name} is now a Sequential, no longer a {type(model).__name__}"
        return self.keras.Sequential(layers, name=model.name), lost

    @abstractmethod
    def is_compiled(self, model: Any) -> bool:
        """Whether `model` knows its loss."""

    def compile_config(self, model: Any) -> dict[str, Any] | None:
        """How `model` is compiled, serialized; None if it is not."""
        return model.get_compile_config() if self.is_compiled(model) else None

    def copy_compilation(self, source: Any, target: Any) -> str | None:
        """Compile `target` as `source` is compiled; says what could not be kept."""
        try:
            config = self.compile_config(source)
            if config:
                with self.keras.utils.custom_object_scope(self._compile_objects(source)):
                    target.compile_from_config(config)
        except (TypeError, ValueError, AttributeError) as error:
            return f"{source.name} must be compiled again: {gist(error)}"
        return None

    def _compile_objects(self, model: Any) -> dict[str, Any]:
        """Losses, metrics and optimizer classes that were made elsewhere, by name."""
        held = self.flatten([model.loss, getattr(model, "metrics", []), model.optimizer])
        named = [item if hasattr(item, "__name__") else type(item) for item in held]
        return {item.__name__: item for item in named if item.__module__ != "builtins"}

    def training_steps(self, model: Any) -> int:
        """Steps that the optimizer of `model` has counted; 0 without one."""
        iterations = getattr(getattr(model, "optimizer", None), "iterations", None)
        return 0 if iterations is None else int(self.to_numpy(iterations))

    def loss(self, model: Any, x: Any, y: Any, weight: Any) -> float:
        """The compiled loss of `model` in inference mode on one batch."""
        model.reset_metrics()
        found = model.test_on_batch(x, y, sample_weight=weight, return_dict=True)
        return float(found["loss"])

    @abstractmethod
    def stale_flags(self, model: Any) -> frozenset[int]:
        """Ids of the BatchNormalizations whose `trainable` compiled training does not know of."""

    @abstractmethod
    def forget_functions(self, model: Any) -> None:
        """Drop compiled train, test and predict functions, which remember old flags."""


def _copy_vocabulary(source: Any, target: Any) -> None:
    learned = source.get_vocabulary(include_special_tokens=False)
    if list(learned) != list(target.get_vocabulary(include_special_tokens=False)):
        target.set_vocabulary(learned)


def takes(cls: type, *names: str) -> bool:
    """Whether the constructor of `cls` accepts all of `names` and needs nothing else."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    needed = {
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return needed <= set(names) and (any_keyword or set(names) <= {p.name for p in parameters})
