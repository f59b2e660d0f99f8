"""PyTorch, below Keras 3."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, NoReturn

from bnfix.adapters.backends.base import Backend
from bnfix.errors import UnsupportedModelError

torch: Any = import_module("torch")  # absent in most environments, so that nothing is known of it


class Torch(Backend):
    name = "torch"

    @property
    def accelerated(self) -> bool:
        return torch.cuda.is_available()

    @property
    def rounds_products(self) -> bool:
        return False

    def is_traced(self, value: Any) -> bool:
        return False

    def view(self, tensor: Any) -> Any:
        return tensor.detach().cpu().numpy()

    def compiled(self, fn: Callable[[Any], Any], *, any_rows: bool) -> Callable[[Any], Any]:
        return fn  # compiling takes longer than any calibration set would win back

    def uncompiled(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def inference_thread(self) -> AbstractContextManager[None]:
        return torch.no_grad()

    def compiled_calls(self, model: Any) -> Mapping[str, Callable[[Any], Any]]:
        return {}

    def exported(self, model: Any, **options: Any) -> NoReturn:
        raise UnsupportedModelError(
            "check(export=True) runs the SavedModel that model.export writes, which needs the "
            "TensorFlow backend; this model runs on PyTorch. Leave export out."
        )
