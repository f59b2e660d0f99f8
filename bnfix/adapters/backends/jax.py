"""JAX, below Keras 3."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, NoReturn

from bnfix.adapters.backends.base import Backend
from bnfix.errors import UnsupportedModelError

jax: Any = import_module("jax")  # absent in most environments, so that nothing is known of it


class Jax(Backend):
    name = "jax"

    @property
    def accelerated(self) -> bool:
        return jax.default_backend() != "cpu"

    @property
    def rounds_products(self) -> bool:
        return False

    def is_traced(self, value: Any) -> bool:
        return isinstance(value, jax.core.Tracer)

    def compiled(self, fn: Callable[[Any], Any], *, any_rows: bool) -> Callable[[Any], Any]:
        return jax.jit(fn)

    def uncompiled(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()  # `disable_jit` holds for one thread: see inference_thread

    def inference(self) -> AbstractContextManager[None]:
        return (
            contextlib.nullcontext()
        )  # gradients are taken of functions, and what runs outside of one keeps nothing

    def inference_thread(self) -> AbstractContextManager[None]:
        return jax.disable_jit()

    def float64(self) -> AbstractContextManager[None]:
        # Without it JAX makes float32 of whatever is asked for in float64.
        switch = getattr(jax, "enable_x64", None) or import_module("jax.experimental").enable_x64
        return switch(True)

    def compiled_calls(self, model: Any) -> Mapping[str, Callable[[Any], Any]]:
        return {}

    def exported(self, model: Any, **options: Any) -> NoReturn:
        raise UnsupportedModelError(
            "check(export=True) runs the SavedModel that model.export writes, which needs the "
            "TensorFlow backend; this model runs on JAX. Leave export out."
        )
