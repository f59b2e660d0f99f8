"""How a model is run: by users, compiled or not, and by bnfix."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from bnfix.adapters.backends.base import Compiling, Place
from bnfix.adapters.models import RawNode
from bnfix.adapters.values import Values
from bnfix.errors import UnsupportedModelError
from bnfix.restoring import Undo, put_back_after
from bnfix.workers import Workers


class Running(Values):
    """Ways of calling a model, and what was compiled for them."""

    def compiled_functions(self, model: Any) -> dict[str, Any]:
        """The compiled train, test and predict functions that `model` has so far."""
        names = ("train_function", "test_function", "predict_function", "train_tf_function")
        found = {name: getattr(model, name, None) for name in names}
        return {name: function for name, function in found.items() if function is not None}

    def functions_kept(self, model: Any) -> AbstractContextManager[None]:
        """Compiled functions are as before when the block ends.

        One that was traced meanwhile would go on to obey the flags of today.
        """
        return put_back_after(self.noted_functions(model))

    def noted_functions(self, model: Any) -> Undo:
        """The compiled functions of `model` as they are now, to be put back."""
        before = self.compiled_functions(model)

        def undo() -> None:
            for name in {*self.compiled_functions(model), *before}:
                setattr(model, name, before.get(name))

        return undo

    def noted_optimizer(self, model: Any) -> Undo:
        """The optimizer of `model` as it is now, to be put back."""
        before = getattr(model, "optimizer", None)

        def undo() -> None:
            if getattr(model, "optimizer", None) is not before:
                model.optimizer = before

        return undo

    def replicas(self, model: Any) -> int:
        """Number of parts into which `predict` and the like split each batch of `model`."""
        return self.backend.replicas(model)

    def places(self, model: Any) -> tuple[Place, ...]:
        """What a thread enters to run `model` on one or another of the devices that hold it."""
        return self.backend.places(model)

    def is_distributed(self, model: Any) -> bool:
        """Whether `model` was made under a distribution strategy, be it for one replica."""
        return self.backend.is_distributed(model)

    def workers(self, model: Any, strategy: Any) -> Workers:
        """The processes among which `strategy` trains, by default that under which `model` is.

        Raises:
            OptionError: `strategy` is none.
        """
        return self.backend.workers(model, strategy)

    def check_alone(self, model: Any, operation: str) -> None:
        """Refuse what knows nothing of other processes.

        Raises:
            UnsupportedModelError: `model` was made under a strategy of several workers.
        """
        if self.workers(model, None).size > 1:
            raise UnsupportedModelError(
                f"{operation} works in one process, and {model.name} was made under a strategy of "
                "several workers. Save it, and open it in a process of its own; recalibrate and "
                "diagnose work on all workers at once."
            )

    def outside_of_strategies(self, work: Callable[[], Any]) -> Any:
        """What `work` returns, run where variables are made and read as without a strategy."""
        return self.backend.outside_of_strategies(work)

    def infer(self, model: Any, inputs: Any) -> list[Any]:
        """Flat numpy outputs of `model` in inference mode, run as one batch."""
        with self.inference():
            made = model(inputs, training=False)
        return [self.to_numpy(tensor) for tensor in self.flatten(made)]

    def compiled(
        self,
        fn: Callable[[Any], Any],
        *,
        any_rows: bool,
        quickly: bool = False,
        reads: Sequence[Any] = (),
    ) -> Callable[[Any], Any]:
        """`fn` of one structure of tensors, compiled by the backend, if the backend compiles.

        The options are those of `Compiling`.
        """
        return self.backend.compiled(fn, Compiling(any_rows, quickly, reads))

    def uncompiled(self) -> AbstractContextManager[None]:
        """While the block runs, functions that the user has compiled run step by step."""
        return self.backend.uncompiled()

    def inference(self) -> AbstractContextManager[None]:
        """This thread keeps nothing for gradients while the block runs."""
        return self.backend.inference()

    @abstractmethod
    def inference_thread(self) -> Callable[[], AbstractContextManager[None]]:
        """What a new thread enters to run a model in inference as this thread would."""

    @contextmanager
    def each_step_once(self, model: Any) -> Generator[None]:
        """While the block runs, layers that loop over time make no step twice.

        The loops of both Kerases make the first step once more before, to see what comes out.
        """
        looping = [layer for _, layer in self.tree(model) if self.batch_norms(layer)]
        changes = [(layer, self.without_trial_step(layer)) for layer in looping]
        undos = [
            partial(setattr, layer, name, getattr(layer, name))
            for layer, values in changes
            for name in values
        ]
        with put_back_after(*undos):
            for layer, values in changes:
                for name, value in values.items():
                    setattr(layer, name, value)
            yield

    def without_trial_step(self, layer: Any) -> dict[str, Any]:
        """The attributes that make `layer` loop without a trial."""
        return {"unroll": True} if isinstance(layer, self.keras.layers.RNN) else {}

    @abstractmethod
    def exported(
        self, model: Any, *, onnx: bool = False
    ) -> AbstractContextManager[Callable[[Any], Any]]:
        """What `model.export` wrote, loaded again, for as long as the block lasts.

        Args:
            model: The model.
            onnx: As an ONNX file; else in the format that the backend's own library runs.
        """

    def entry_points(
        self, model: Any, *, apart: bool = False
    ) -> Mapping[str, Callable[[Any], Any]]:
        """The ways in which users call a model, by name, each from inputs to outputs."""
        return self.backend.entry_points(model, one_trace=not apart and self.runs_one_way(model))

    def runs_one_way(self, model: Any) -> bool:
        """Whether no code in `model` can tell how it is called: all of it is Keras's own.

        `predict` calls a model with `training=False` and compiled calls with none. That is the same
        unless a layer's default is another, or a call in the graph has a `training=` of its own.
        """
        step = getattr(model.predict_step, "__func__", None)
        parts = [model, *(layer for _, layer in self.tree(model))]
        models = [part for part in parts if self.is_model(part)]
        return (
            step is self.keras.Model.predict_step
            and not self.trains_unless_told()
            and not getattr(model, "run_eagerly", False)
            and getattr(model, "jit_compile", None) is not True
            and all(self.has_graph(part) for part in models)
            and all(self._is_plain(part) for part in parts if part not in models)
            and all(_calm(node) for part in models for node in self.nodes(part))
        )

    def _is_plain(self, layer: Any) -> bool:
        return (
            self.is_own(layer)
            and not isinstance(layer, self.keras.layers.Lambda)
            and self.default_training(layer) is not True
            and not _along_rows(layer)
        )


def _along_rows(layer: Any) -> bool:
    """Whether `layer` works along the rows, whose number compiled code may not know."""
    axis = getattr(layer, "axis", None)
    return axis == 0 or (isinstance(axis, (list, tuple)) and 0 in axis)


def _calm(node: RawNode) -> bool:
    training = node.kwargs.get("training")
    return training is None or training is False
