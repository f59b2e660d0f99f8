"""Modules of PyTorch's own within a Keras model: what they remember, and which normalize by rows.

Keras wraps each into a layer that shows its parameters as variables, but not its buffers: running
statistics, and how many batches they were counted over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

torch: Any = import_module("torch")


class Buffer:
    """A buffer, read and assigned to as a variable is."""

    def __init__(self, module: Any, name: str) -> None:
        self.module, self.name = module, name

    @property
    def value(self) -> Any:
        return self.module.get_buffer(self.name)

    def assign(self, value: Any) -> None:
        with torch.no_grad():
            self.value.copy_(torch.as_tensor(value))


def buffers(layers: Iterable[tuple[str, Any]]) -> list[tuple[str, Buffer]]:
    """The buffers of the modules in `layers`, by path, each with the path of its layer."""
    return [
        (path, Buffer(module, name))
        for path, module in _wrapped(layers)
        for name, _ in module.named_buffers()
    ]


def batch_norms(layers: Iterable[tuple[str, Any]]) -> list[tuple[str, str]]:
    """Path and class of PyTorch's own batch normalizations in `layers`, by path."""
    kind = torch.nn.modules.batchnorm._BatchNorm  # what all of them, and no other, derive from
    return [
        (f"{path}/{name}" if name else path, type(inner).__name__)
        for path, module in _wrapped(layers)
        for name, inner in module.named_modules()
        if isinstance(inner, kind)
    ]


def _wrapped(layers: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    for path, layer in layers:
        if any(cls.__name__ == "TorchModuleWrapper" for cls in type(layer).__mro__):
            yield path, layer.module
