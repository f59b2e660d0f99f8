"""PyTorch, below Keras 3."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bnfix.adapters.backends import torch_modules
from bnfix.adapters.backends.base import Compiling, Layers, Undistributed
from bnfix.adapters.backends.promotion import float64_kept
from bnfix.errors import UnsupportedModelError
from bnfix.tree import map_leaves

torch: Any = import_module("torch")  # absent in most environments, so that nothing is known of it


class Torch(Undistributed):
    name = "torch"
    compiling_pays_from = 1 << 62  # never: see `compiled`
    compiles_each_length = False
    compiles_flags = False
    compiler = "torch.export"
    compiled_call = "torch.export.export(model, (x,))"
    uncompiling = "try another version of torch"

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        return ()  # RuntimeError and its like

    @property
    def accelerated(self) -> bool:
        return self._device != "cpu"

    @property
    def product_dtype(self) -> str:
        if self._device != "cuda":
            return "float32"
        matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
        try:
            rounded = matmul.allow_tf32 or convolution.allow_tf32
        except RuntimeError:  # newer versions do not tell what was set by their newer switches
            rounded = True
        return "tensorfloat32" if rounded else "float32"

    @property
    def _device(self) -> str:
        """The kind of device on which Keras puts what it makes now: "cpu", "cuda", "mps"."""
        kind: str = import_module("keras").ops.zeros(()).device.type
        return kind

    # --- tensors ---------------------------------------------------------------------------------

    def is_traced(self, value: Any) -> bool:
        return False

    def view(self, tensor: Any) -> Any:
        if not isinstance(tensor, torch.Tensor):
            return np.asarray(tensor)
        held = tensor.detach().cpu()
        if held.dtype == torch.bfloat16:  # of which NumPy knows through Keras's ml_dtypes alone
            return held.view(torch.int16).numpy().view(import_module("ml_dtypes").bfloat16)
        return held.numpy()

    def copy_value(self, variable: Any) -> Any:
        return np.array(self.view(variable.value))

    def attributes(self, layer: Any) -> Mapping[str, Any]:
        # A layer is a module, and a module keeps those that it holds apart from other attributes.
        return {**vars(layer), **layer._modules}

    def fused_batch_norm(
        self, values: Any, axis: int, *, gamma: Any, beta: Any, epsilon: float
    ) -> None:
        return None

    # --- how code runs ---------------------------------------------------------------------------

    def compiled(self, fn: Callable[[Any], Any], how: Compiling) -> Callable[[Any], Any]:
        return fn  # compiling takes longer than any calibration set would win back

    def uncompiled(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def inference(self) -> AbstractContextManager[None]:
        return torch.no_grad()  # in this thread alone: each new one begins with gradients on

    def inference_thread(self) -> AbstractContextManager[None]:
        return self.inference()

    @contextmanager
    def float64(self) -> Generator[None]:
        with ExitStack() as held:
            if self._device == "mps":  # which has no float64
                held.enter_context(import_module("keras").device("cpu"))
            held.enter_context(float64_kept())
            yield

    # --- what is trained and remembered ----------------------------------------------------------

    def remembered(self, layers: Layers) -> Sequence[tuple[str, Any]]:
        return torch_modules.buffers(layers)

    def own_batch_norms(self, layers: Layers) -> Sequence[tuple[str, str]]:
        return torch_modules.batch_norms(layers)

    def retrained(self, model: Any, rebuild: Callable[[], None]) -> AbstractContextManager[None]:
        return contextlib.nullcontext()  # each step tells the optimizer what is trained

    # --- how users run a model -------------------------------------------------------------------

    def compiled_calls(self, model: Any) -> Mapping[str, Callable[[Any], Any]]:
        return {}  # exporting takes several times as long as all else; export=True asks

    @contextmanager
    def exported(self, model: Any, **options: Any) -> Generator[Callable[[Any], Any]]:
        """The program that `model.export(file, format="torch")` writes: torch.export's, in `.pt2`.

        Keras's default, a SavedModel, takes TensorFlow and torch_xla besides.
        """
        inputs = getattr(model, "inputs", None)
        if not inputs:
            raise UnsupportedModelError(
                f"{model.name} ({type(model).__name__}) declares no inputs, by which an export for "
                "batches of any length is told what to leave open."
            )
        rows = torch.export.Dim("rows", min=1)
        taken = inputs[0] if len(inputs) == 1 else model.input
        open_rows = map_leaves(lambda _: {0: rows}, taken)
        with TemporaryDirectory() as folder:
            file = f"{folder}/model.pt2"
            options = {"format": "torch", "dynamic_shapes": [(open_rows,)], **options}
            with contextlib.redirect_stdout(io.StringIO()), self.inference():
                model.export(file, **options)
            yield torch.export.load(file).module()
