"""JAX, below Keras 3."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from bnfix.adapters.backends.base import Compiling, Layers, Undistributed
from bnfix.adapters.backends.promotion import float64_kept
from bnfix.errors import UnsupportedModelError
from bnfix.tree import map_leaves

jax: Any = import_module("jax")  # absent in most environments, so that nothing is known of it


#: How what is called a few times is compiled. Measured on ResNet50, 32 images of 96 x 96: 3.6 s
#: rather than 5.2 s for the first call, and 0.7 s rather than 0.5 s for each other.
_QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def _jit(fn: Callable[..., Any], *, quickly: bool) -> Callable[..., Any]:
    # Older versions take no options, and compile as they always do.
    takes_options = "compiler_options" in inspect.signature(jax.jit).parameters
    return jax.jit(fn, compiler_options=_QUICKLY) if quickly and takes_options else jax.jit(fn)


class Jax(Undistributed):
    name = "jax"
    compiling_pays_from = 24
    compiles_each_length = True
    compiles_flags = True
    compiler = "jax.jit"
    compiled_call = "jax.jit(model.stateless_call)"
    uncompiling = "compile the model with jit_compile=False"

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        return ()  # TypeError, ValueError and RuntimeError, or what is derived of them

    @property
    def accelerated(self) -> bool:
        return jax.default_backend() != "cpu"

    @property
    def product_dtype(self) -> str:
        if jax.config.jax_default_matmul_precision in ("highest", "float32", "F32_F32_F32"):
            return "float32"
        return {"cpu": "float32", "tpu": "bfloat16"}.get(jax.default_backend(), "tensorfloat32")

    # --- tensors ---------------------------------------------------------------------------------

    def is_traced(self, value: Any) -> bool:
        return isinstance(value, jax.core.Tracer)

    def view(self, tensor: Any) -> Any:
        sparse = isinstance(tensor, import_module("jax.experimental.sparse").JAXSparse)
        return np.asarray(tensor.todense() if sparse else tensor)

    def copy_value(self, variable: Any) -> Any:
        return np.asarray(variable.value)  # arrays of JAX never change

    def attributes(self, layer: Any) -> Mapping[str, Any]:
        return vars(layer)

    def fused_batch_norm(
        self, values: Any, axis: int, *, gamma: Any, beta: Any, epsilon: float
    ) -> None:
        return None

    # --- how code runs ---------------------------------------------------------------------------

    def compiled(self, fn: Callable[[Any], Any], how: Compiling) -> Callable[[Any], Any]:
        scope = import_module("keras").StatelessScope

        def pure(values: Sequence[Any], structure: Any) -> Any:
            # It holds what is assigned, for this call; what else is read becomes a constant.
            with scope(state_mapping=list(zip(how.reads, values, strict=True))):
                return fn(structure)

        called = _jit(pure, quickly=how.quickly)
        return lambda structure: called(_values(how.reads), structure)

    def uncompiled(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()  # `disable_jit` holds for one thread: see inference_thread

    def inference(self) -> AbstractContextManager[None]:
        # Gradients are taken of functions; what runs outside of one keeps nothing.
        return contextlib.nullcontext()

    def inference_thread(self) -> AbstractContextManager[None]:
        return jax.disable_jit()

    @contextmanager
    def float64(self) -> Generator[None]:
        # Without it JAX makes float32 of whatever is asked for in float64.
        # Newer versions have it in front; it has no truth value there.
        where = jax if hasattr(jax, "enable_x64") else import_module("jax.experimental")
        with where.enable_x64(True), float64_kept():
            yield

    # --- what is trained and remembered ----------------------------------------------------------

    def remembered(self, layers: Layers) -> Sequence[tuple[str, Any]]:
        return ()  # layers of JAX libraries come in layers of Keras that hold all as variables

    def own_batch_norms(self, layers: Layers) -> Sequence[tuple[str, str]]:
        return ()  # nor do these normalize in a way of their own that could be told

    @contextmanager
    def retrained(self, model: Any, rebuild: Callable[[], None]) -> Generator[None]:
        # In a running `fit` the weights are those of the last step, held apart in the order of what
        # was trained then: that order must not meet another, not even where `fit` fails later.
        model.jax_state_sync()
        yield
        rebuild()
        if getattr(model, "_jax_state", None):
            model._jax_state = {
                "trainable_variables": _values(model.trainable_variables),
                "non_trainable_variables": _values(model.non_trainable_variables),
                "optimizer_variables": _values(model.optimizer.variables),
                "metrics_variables": _values(model.metrics_variables),
            }
            if hasattr(model, "_record_training_state_sharding_spec"):
                # Older Kerases hold by position, too, on which device each weight is.
                model._record_training_state_sharding_spec()

    # --- processes that train together -----------------------------------------------------------

    def replicas(self, model: Any) -> int:
        found = import_module("keras").distribution.distribution()
        if found is None or found.batch_dim_name is None:
            return 1
        mesh = found.device_mesh
        return int(mesh.shape[list(mesh.axis_names).index(found.batch_dim_name)])

    # --- how users run a model -------------------------------------------------------------------

    def runs_eagerly(self, model: Any) -> bool:
        return super().runs_eagerly(model) or not getattr(model, "jit_compile", True)

    def predict(self, model: Any) -> Callable[[Any], Any]:
        run = super().predict(model)

        def kept(inputs: Any) -> Any:
            variables = [*model.trainable_variables, *model.non_trainable_variables]
            before = [self.copy_value(variable) for variable in variables]
            try:
                return run(inputs)
            except BaseException:
                # While Keras predicts, variables are without values, and if it fails they stay so.
                for variable, value in zip(variables, before, strict=True):
                    variable.assign(value)
                raise

        return kept

    def compiled_calls(self, model: Any) -> Mapping[str, Callable[[Any], Any]]:
        return {self.compiler: self._compiled_call(model)}

    def trained(self, model: Any) -> Callable[[Any], Any]:
        # An operation at a time takes several times as long to compile, and `fit` does not do it.
        if self.runs_eagerly(model):
            return super().trained(model)
        return self._compiled_call(model, quickly=True, training=True)

    def _compiled_call(
        self, model: Any, *, quickly: bool = False, **options: Any
    ) -> Callable[[Any], Any]:
        called = _jit(partial(model.stateless_call, **options), quickly=quickly)

        def run(inputs: Any) -> Any:
            states = model.trainable_variables, model.non_trainable_variables
            outputs, left = called(*map(_values, states), inputs)
            # The call itself changes nothing: its caller goes on with the state that it returns.
            for variable, value in zip(model.non_trainable_variables, left, strict=True):
                variable.assign(value)
            return outputs

        return run

    @contextmanager
    def exported(self, model: Any, **options: Any) -> Generator[Callable[[Any], Any]]:
        """The SavedModel that `model.export` writes by way of `jax2tf`."""
        if find_spec("tensorflow") is None:
            raise UnsupportedModelError(
                "on JAX, too, model.export writes a SavedModel, and that takes TensorFlow, which "
                'is not installed here. Install it, or try the ONNX file: export="onnx".'
            )
        from bnfix.adapters.backends.tensorflow_calls import saved_model

        with saved_model(model, **options) as run:
            yield lambda inputs: run(map_leaves(np.asarray, inputs))


def _values(variables: Sequence[Any]) -> list[Any]:
    return [variable.value for variable in variables]
