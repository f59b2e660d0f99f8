"""What the rest of bnfix needs of a Keras, and the part of it that both Kerases share.

Everything in which they differ is abstract here and lives in `keras3.py` or `keras2.py`. What a
model is made of is in `models.py`, what it holds in `values.py`, how it is run in `running.py`, how
one is made here.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

from bnfix.adapters.cloning import clone
from bnfix.adapters.running import Running
from bnfix.errors import Incomparable, OptionError, gist


class Adapter(Running):
    """One Keras, seen from the rest of bnfix."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What a user calls this Keras."""

    #: Whether `predict`, which passes training=False, overrules a `training=True` in a call.
    predict_overrules_training: bool
    #: Whether a layer in training mode by default puts those that run after it there, too.
    default_training_spreads: bool

    # --- layers ------------------------------------------------------------------------------

    def clone_layer(self, layer: Any, changes: dict[str, Any] | None = None) -> Any:
        copy = clone(self.keras, layer, changes)
        self.rename(copy, layer.name)  # where get_config() does not tell the name
        return copy

    @abstractmethod
    def rename(self, layer: Any, name: str) -> None: ...

    @abstractmethod
    def without_copying(self, layer: Any) -> tuple[Any, bool]:
        """`layer` for another graph, where its configuration does not say how to make it anew.

        Its place in its own graph stays as it is. Also says whether its weights are still those of
        `layer`, because they cannot be copied either.
        """

    @abstractmethod
    def put_in(self, holder: Any, old: Any, new: Any) -> None:
        """Let the attribute of `holder`, not built yet, that is the layer `old` be `new`."""

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

    def preprocess_input(self, name: str) -> Callable[[Any], Any]:
        """What `keras.applications.<name>` does to images (..., channels) of 0 to 255 first."""
        found = {
            application: module.preprocess_input
            for application, module in vars(self.keras.applications).items()
            if hasattr(module, "preprocess_input") and application != "imagenet_utils"
        }
        if name not in found:
            raise OptionError(
                f"{self.keras.__name__}.applications has no {name!r} with a preprocess_input; "
                f"there is one in {', '.join(sorted(found))}."
            )
        return partial(found[name], data_format="channels_last")

    # --- models ------------------------------------------------------------------------------

    def new_functional(self, model: Any, inputs: Any, outputs: Any) -> tuple[Any, str | None]:
        """A model like `model` over the given symbolic tensors, and what could not be kept."""
        cls = type(model)
        if self.is_own(model):
            return self.keras.Model(inputs=inputs, outputs=outputs, name=model.name), None
        made = _tried(cls, inputs=inputs, outputs=outputs, name=model.name)
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
        if type(model) is self.keras.Sequential:
            return self.keras.Sequential(layers, name=model.name), None
        made = _tried(type(model), layers=layers, name=model.name)
        if made is not None and [id(one) for one in made.layers] == _shown(layers, self.keras):
            return made, None
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

    def copy_optimizer_state(self, source: Any, target: Any) -> bool:
        """Carry over what the optimizer of `source` has learned; says whether that was possible.

        Both train weights of the same names and shapes in the same order, or nothing is copied.
        """
        theirs, ours = getattr(source, "optimizer", None), getattr(target, "optimizer", None)
        if theirs is None or ours is None or type(theirs) is not type(ours):
            return False
        trained, trains = source.trainable_weights, target.trainable_weights
        if [_signature(v) for v in trained] != [_signature(v) for v in trains]:
            return False
        self.build_optimizer(ours, trains)
        states = [list(self.optimizer_variables(one)) for one in (theirs, ours)]
        if [v.shape for v in states[0]] != [v.shape for v in states[1]]:
            return False
        for value, variable in zip(*states, strict=True):
            variable.assign(value)
        return True

    def build_optimizer(self, optimizer: Any, weights: list[Any]) -> None:
        """Make the variables of a new optimizer."""
        optimizer.build(weights)

    def optimizer_variables(self, optimizer: Any) -> list[Any]:
        return list(optimizer.variables)

    def _compile_objects(self, model: Any) -> dict[str, Any]:
        """Losses, metrics and optimizer classes that were made elsewhere, by name."""
        held = self.flatten([model.loss, getattr(model, "metrics", []), model.optimizer])
        named = [item if hasattr(item, "__name__") else type(item) for item in held]
        return {item.__name__: item for item in named if item.__module__ != "builtins"}

    def training_steps(self, model: Any) -> int:
        """Steps that the optimizer of `model` has counted; 0 without one."""
        iterations = getattr(getattr(model, "optimizer", None), "iterations", None)
        return 0 if iterations is None else int(self.to_numpy(iterations))

    def when_trained(self, model: Any, act: Callable[[], None]) -> None:
        """Call `act` before `model` is trained by a method of its own, for as long as it lives."""
        make = model.make_train_function

        def make_train_function(*args: Any, **kwargs: Any) -> Any:
            act()
            return make(*args, **kwargs)

        model.make_train_function = make_train_function

    def loss(self, model: Any, x: Any, y: Any, weight: Any) -> float:
        """The compiled loss of `model` in inference mode on one batch.

        Raises:
            Incomparable: It has none, whatever it raises then.
        """
        try:
            model.reset_metrics()
            found = model.test_on_batch(x, y, sample_weight=weight, return_dict=True)
            return self.a_loss(model, float(found["loss"]))
        except Incomparable:
            raise
        except Exception as error:
            raise Incomparable(gist(error)) from error

    def a_loss(self, model: Any, loss: float) -> float:
        """`loss`, unless it is the 0 that tf_keras takes for the loss of a model without one.

        Raises:
            Incomparable: It is.
        """
        if loss == 0 and not getattr(model, "loss", None) and not model.losses:
            raise Incomparable("it is compiled without a loss")
        return loss

    @contextmanager
    def retrained(self, model: Any) -> Generator[None]:
        """While the block runs, what of `model` is trained may change; later training obeys.

        Raises:
            UnsupportedModelError: Its optimizer cannot be made to.
        """
        with self.backend.retrained(model, partial(self.rebuild_optimizer, model)):
            yield
        self.forget_functions(model)

    @abstractmethod
    def rebuild_optimizer(self, model: Any) -> None:
        """Give `model` an optimizer for what is trained now, with what its own has learned."""

    @abstractmethod
    def stale_flags(self, model: Any) -> frozenset[int]:
        """Ids of the BatchNormalizations whose `trainable` compiled training does not know of."""

    @abstractmethod
    def forget_functions(self, model: Any) -> None:
        """Drop compiled train, test and predict functions, which remember old flags."""


def _signature(variable: Any) -> tuple[str, tuple[int, ...]]:
    """What stays the same of a weight when its model is rebuilt."""
    name = str(variable.name).rpartition("/")[2].partition(":")[0]
    return name, tuple(variable.shape)


def _copy_vocabulary(source: Any, target: Any) -> None:
    learned = source.get_vocabulary(include_special_tokens=False)
    if list(learned) != list(target.get_vocabulary(include_special_tokens=False)):
        target.set_vocabulary(learned)


def _shown(layers: list[Any], keras: Any) -> list[int]:
    """Those that a Sequential of `layers` lists: all but its input."""
    return [id(one) for one in layers if not isinstance(one, keras.layers.InputLayer)]


def _tried(cls: type, **arguments: Any) -> Any:
    """What `cls` makes of `arguments`, if it takes them; None where it does not."""
    if not takes(cls, *arguments):
        return None
    try:
        return cls(**arguments)
    except Exception:  # code of the user's: it may take anything, and ask for anything else
        return None


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
