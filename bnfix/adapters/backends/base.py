"""What depends on the array library below Keras: tensors, compiling, training, ways of calling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bnfix.adapters.backends.found import Fused
from bnfix.errors import OptionError
from bnfix.workers import Alone, Workers

#: What a thread enters to work on one device.
Place = Callable[[], AbstractContextManager[Any]]

#: Layers of a model, each with its path.
Layers = Iterable[tuple[str, Any]]


@dataclass(frozen=True)
class Compiling:
    """How a function is compiled, where the library can.

    Attributes:
        any_rows: Once for batches of every length.
        quickly: With less optimization, for a few calls.
        reads: Variables that are written to between calls; others may be taken as they are in the
            first call.
    """

    any_rows: bool
    quickly: bool = False
    reads: Sequence[Any] = ()


class Backend(ABC):
    """One array library.

    Whatever two libraries do differently is abstract: each says what it does, or why there is
    nothing to do.
    """

    #: As Keras calls it.
    name: str
    #: Compiling a stage of a network costs about as much as running it on this many pieces of data.
    compiling_pays_from: int
    #: Whether whatever runs, uncompiled code too, is compiled for each length of a batch it meets.
    compiles_each_length: bool
    #: Whether `fit` goes on by what was trained when it was compiled.
    compiles_flags: bool
    #: What makes compiled code of a model, and how that is written.
    compiler: str
    compiled_call: str
    #: What to do where compiled code does not compute what uncompiled code does.
    uncompiling: str

    @property
    @abstractmethod
    def errors(self) -> tuple[type[Exception], ...]:
        """What it raises of its own when an operation cannot be carried out."""

    @property
    @abstractmethod
    def accelerated(self) -> bool:
        """Whether tensors live outside of the processor's own memory."""

    @property
    @abstractmethod
    def product_dtype(self) -> str:
        """To what products of float32 numbers are rounded: accelerators may take fewer digits."""

    # --- tensors ---------------------------------------------------------------------------------

    @abstractmethod
    def is_traced(self, value: Any) -> bool:
        """Whether `value` stands for one that compiled code will have later."""

    @abstractmethod
    def view(self, tensor: Any) -> Any:
        """The values of a tensor in the processor's memory, not copied where that is possible."""

    @abstractmethod
    def copy_value(self, variable: Any) -> Any:
        """The value of `variable` now, which later assignments to it do not reach."""

    @abstractmethod
    def attributes(self, layer: Any) -> Mapping[str, Any]:
        """What `layer` holds by name, other layers included."""

    def to_numpy(self, tensor: Any) -> Any:
        """The values of a tensor, a variable or an array; bfloat16 comes as float32."""
        found = np.asarray(self.view(tensor))
        return found.astype(np.float32) if found.dtype.name == "bfloat16" else found

    def affine(self, values: Any, scale: Any, shift: Any) -> Any:
        """`values * scale + shift`, in a single pass over memory where the library can.

        Args:
            values: Of any rank.
            scale: Of the same rank and dtype, a number for each channel and 1 along other axes.
            shift: As `scale`.
        """
        return values * scale + shift

    @abstractmethod
    def fused_batch_norm(
        self, values: Any, axis: int, *, gamma: Any, beta: Any, epsilon: float
    ) -> Fused | None:
        """`values` normalized by themselves, and their moments.

        Args:
            values: A batch.
            axis: Of the channels.
            gamma: By channel; None stands for 1.
            beta: By channel; None stands for 0.
            epsilon: Added to the variance.

        Returns:
            None where the library has no kernel that finds all in one pass.
        """

    # --- how code runs ---------------------------------------------------------------------------

    @abstractmethod
    def compiled(self, fn: Callable[[Any], Any], how: Compiling) -> Callable[[Any], Any]:
        """`fn` of one structure of tensors, compiled where the library compiles.

        What `fn` assigns to a variable is what it reads there afterwards, in the order of the code.
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

    @abstractmethod
    def float64(self) -> AbstractContextManager[None]:
        """What is made in float64 while the block runs is float64."""

    # --- what is trained and remembered ----------------------------------------------------------

    @abstractmethod
    def remembered(self, layers: Layers) -> Sequence[tuple[str, Any]]:
        """Path and holder of what calls of `layers` change that is no variable of Keras.

        A holder has `assign`, and `copy_value` reads it.
        """

    @abstractmethod
    def own_batch_norms(self, layers: Layers) -> Sequence[tuple[str, str]]:
        """Path and class of what normalizes by the batch in `layers` and is no layer of Keras."""

    @abstractmethod
    def retrained(self, model: Any, rebuild: Callable[[], None]) -> AbstractContextManager[None]:
        """While the block runs, what of `model` is trained may change, also within a `fit`.

        Args:
            model: The model.
            rebuild: Fits the optimizer to what is trained now. Called where training goes by the
                positions of weights among those that the optimizer was built for.
        """

    # --- processes that train together -----------------------------------------------------------

    @abstractmethod
    def is_distributed(self, model: Any) -> bool:
        """Whether `model` was made under a distribution strategy, be it for one replica."""

    @abstractmethod
    def replicas(self, model: Any) -> int:
        """Number of parts into which `predict` and the like split each batch of `model`.

        On JAX they have to be equal.
        """

    @abstractmethod
    def places(self, model: Any) -> tuple[Place, ...]:
        """What a thread enters to run `model` on one or another of the devices that hold it."""

    @abstractmethod
    def workers(self, model: Any, strategy: Any) -> Workers:
        """The processes among which `strategy` trains, by default that under which `model` is.

        Raises:
            OptionError: `strategy` is none that this library has.
        """

    @abstractmethod
    def outside_of_strategies(self, work: Callable[[], Any]) -> Any:
        """What `work` returns, run where variables are made and read as without a strategy."""

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
        """The compiled calls that serving code uses, by name; each leaves in `model` what it makes
        of its state.
        """

    def trained(self, model: Any) -> Callable[[Any], Any]:
        """`model` as a training step calls it; what it makes of its state is left in it."""
        return partial(model, training=True)

    @abstractmethod
    def exported(self, model: Any, **options: Any) -> AbstractContextManager[Callable[[Any], Any]]:
        """What `model.export` writes, as serving code calls it.

        Raises:
            UnsupportedModelError: A package that the format needs is not installed.
        """


class Undistributed(Backend):
    """A library whose processes do not meet in bnfix: a model is one process's, and whole."""

    def is_distributed(self, model: Any) -> bool:
        return False

    def replicas(self, model: Any) -> int:
        return 1

    def places(self, model: Any) -> tuple[Place, ...]:
        return (nullcontext,)

    def workers(self, model: Any, strategy: Any) -> Workers:
        if strategy is not None:
            raise OptionError(f"strategy is for TensorFlow; Keras runs on {self.name} here.")
        return Alone()

    def outside_of_strategies(self, work: Callable[[], Any]) -> Any:
        return work()


def rows(inputs: Any) -> int:
    """How many rows a structure of arrays has."""
    while isinstance(inputs, (dict, list, tuple)):
        inputs = next(iter(inputs.values())) if isinstance(inputs, dict) else inputs[0]
    return int(inputs.shape[0])
