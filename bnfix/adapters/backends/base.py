"""What depends on the array library below Keras: compiling, and the ways of calling a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from bnfix.errors import OptionError
from bnfix.workers import Alone, Workers

#: What a thread enters to work on one device.
Place = Callable[[], AbstractContextManager[Any]]


class Backend(ABC):
    """One array library. No method has a default that would do nothing where something is asked."""

    #: As Keras calls it.
    name: str

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What it raises of its own when an operation cannot be carried out."""
        return ()

    @property
    @abstractmethod
    def accelerated(self) -> bool:
        """Whether tensors live outside of the processor's own memory."""

    @property
    @abstractmethod
    def rounds_products(self) -> bool:
        """Whether a GPU is at work that rounds factors of float32 products to TensorFloat-32."""

    # --- tensors ---------------------------------------------------------------------------------

    @abstractmethod
    def is_traced(self, value: Any) -> bool:
        """Whether `value` stands for one that compiled code will have later."""

    def view(self, tensor: Any) -> Any:
        """The values of a tensor in the processor's memory, not copied where that is possible."""
        return np.asarray(tensor)

    def copy_value(self, variable: Any) -> Any:
        """The value of `variable` now, which later assignments to it do not reach."""
        return np.asarray(variable.numpy())  # both Kerases copy here

    def affine(self, values: Any, scale: Any, shift: Any) -> Any:
        """`values * scale + shift`, in a single pass over memory where the library can.

        Args:
            values: Of any rank.
            scale: Of the same rank and dtype, a number for each channel and 1 along other axes.
            shift: As `scale`.
        """
        return values * scale + shift

    def fused_batch_norm(
        self, values: Any, axis: int, *, gamma: Any, beta: Any, epsilon: float
    ) -> tuple[Any, Any, Any, Any] | None:
        """`values` normalized by themselves; count, mean and population variance by channel.

        Args:
            values: A batch.
            axis: Of the channels.
            gamma: By channel; None stands for 1.
            beta: By channel; None stands for 0.
            epsilon: Added to the variance.

        Returns:
            None where the library has no kernel that finds all in one pass.
        """
        return None

    # --- how code runs ---------------------------------------------------------------------------

    @abstractmethod
    def compiled(self, fn: Callable[[Any], Any], *, any_rows: bool) -> Callable[[Any], Any]:
        """`fn` of one structure of tensors, compiled where the library compiles.

        With `any_rows` it is compiled once for batches of every length.
        """

    @abstractmethod
    def uncompiled(self) -> AbstractContextManager[None]:
        """What the user has compiled runs step by step while the block runs, in all threads."""

    @abstractmethod
    def inference(self) -> AbstractContextManager[None]:
        """This thread keeps nothing for gradients while the block runs."""

    @abstractmethod
    def inference_thread(self) -> AbstractContextManager[None]:
        """This thread keeps nothing for gradients, and compiles nothing, while the block runs."""

    def float64(self) -> AbstractContextManager[None]:
        """What is made in float64 while the block runs is float64."""
        return nullcontext()

    @property
    def assigns_in_compiled_code(self) -> bool:
        """Whether compiled code may write to variables, and does so in the order of the code."""
        return False

    def is_distributed(self, model: Any) -> bool:
        """Whether `model` was made under a distribution strategy, be it for one replica."""
        return False

    def replicas(self, model: Any) -> int:
        """Number of parts into which `predict` and the like split each batch of `model`."""
        return 1

    def places(self, model: Any) -> tuple[Place, ...]:
        """What a thread enters to run `model` on one or another of the devices that hold it."""
        return (nullcontext,)

    def workers(self, model: Any, strategy: Any) -> Workers:
        """The processes among which `strategy` trains, by default that under which `model` is.

        Raises:
            OptionError: `strategy` is none that this library has.
        """
        if strategy is not None:
            raise OptionError(f"strategy is for TensorFlow; Keras runs on {self.name} here.")
        return Alone()

    def outside_of_strategies(self, work: Callable[[], Any]) -> Any:
        """What `work` returns, run where variables are made and read as without a strategy."""
        return work()

    # --- how users run a model -------------------------------------------------------------------

    def entry_points(self, model: Any, *, one_trace: bool) -> Mapping[str, Callable[[Any], Any]]:
        """The ways of calling `model` for its outputs: "predict", "call" and compiled code.

        Nobody compiles one that was compiled to run eagerly; often its code could not be.

        With `one_trace`, which holds where `predict` and compiled calls do the same, the model may
        be traced once for both.
        """
        compiled = {} if self.runs_eagerly(model) else self.compiled_calls(model)
        return {"predict": self.predict(model), "call": model, **compiled}

    def runs_eagerly(self, model: Any) -> bool:
        """Whether `model` itself was compiled to run eagerly."""
        return bool(getattr(model, "run_eagerly", False))

    def predict(self, model: Any) -> Callable[[Any], Any]:
        """`model.predict` in a single batch of whatever length it is given, without a bar."""

        def run(inputs: Any) -> Any:
            return model.predict(inputs, batch_size=rows(inputs), verbose=0)

        return run

    @abstractmethod
    def compiled_calls(self, model: Any) -> Mapping[str, Callable[[Any], Any]]:
        """The compiled calls that serving code uses, by name."""

    @abstractmethod
    def exported(self, model: Any, **options: Any) -> AbstractContextManager[Callable[[Any], Any]]:
        """What `model.export` writes, as serving code calls it."""


def rows(inputs: Any) -> int:
    """How many rows a structure of arrays has."""
    while isinstance(inputs, (dict, list, tuple)):
        inputs = next(iter(inputs.values())) if isinstance(inputs, dict) else inputs[0]
    return int(inputs.shape[0])
