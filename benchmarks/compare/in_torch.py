"""The layers of the graphs in PyTorch, channels first, with the weights of the Keras model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from .in_keras import Inexpressible, Weights
from .torch_modules import (
    Add,
    Concat,
    Crop,
    Doubling,
    FlattenChannelsLast,
    GlobalPool,
    Multiply,
    Swap,
    activation,
    depthwise_of,
    holding,
    out_first,
    padding_of,
    per_channel,
)


def network(inputs: int, steps: Sequence[Any], outputs: Sequence[int]) -> fx.GraphModule:
    """Runs steps `(value made, module, values read)`; the first values are the inputs."""
    root, graph = nn.Module(), fx.Graph()
    held = {i: graph.placeholder(f"x{i}") for i in range(inputs)}
    for made, module, read in steps:
        name = next((n for n, m in root.named_children() if m is module), None)
        if name is None:
            name = f"step{len(root._modules)}"
            root.add_module(name, module)
        held[made] = graph.call_module(name, tuple(held[value] for value in read))
    found = [held[output] for output in outputs]
    graph.output(found[0] if len(found) == 1 else tuple(found))
    return fx.GraphModule(root, graph).eval()


class _Value:
    """A value of a network that is being written, with an example of it for its shape."""

    def __init__(self, tape: list[Any], example: Any) -> None:
        self.tape, self.example = tape, example
        self.index = len(tape)
        tape.append(None)


def _step(module: nn.Module, values: Sequence[_Value]) -> _Value:
    module.eval()
    with torch.no_grad():
        made = _Value(values[0].tape, module(*[v.example for v in values]))
    made.tape[made.index] = (made.index, module, [v.index for v in values])
    return made


class _Layer:
    """Modules that are made when the first call tells the number of channels."""

    def __init__(self, make: Callable[[Any], list[nn.Module]]) -> None:
        self.make = make
        self.modules: list[nn.Module] = []

    def __call__(self, x: Any) -> _Value:
        values = x if isinstance(x, list) else [x]
        self.modules = self.modules or self.make(values[0].example)
        made = _step(self.modules[0], values)
        for module in self.modules[1:]:
            made = _step(module, [made])
        return made


class TorchLayers:
    """Layers by the names that `graphs.py` uses."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.count: dict[str, int] = {}
        self.tape: list[Any] = []
        self.norms: dict[str, Any] = {}

    def input(self, shape: Sequence[int]) -> Any:
        return _Value(self.tape, torch.zeros(1, shape[-1], *shape[:-1]))

    def conv(
        self,
        filters: int,
        size: int = 3,
        *,
        strides: int = 1,
        padding: str = "same",
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        act: str = "linear",
        rank: int = 2,
    ) -> Any:
        arrays = self._arrays("conv", 1 + bias)

        def make(x: Any) -> list[nn.Module]:
            before, pad = padding_of(x, size, strides, dilation, padding, rank)
            options = {"padding": pad, "dilation": dilation, "groups": groups, "bias": bias}
            kind = getattr(nn, f"Conv{rank}d")
            layer = kind(x.shape[1], filters, size, strides, **options)
            return [*before, holding(layer, out_first(arrays[0]), arrays[1:]), *activation(act)]

        return _Layer(make)

    def depthwise(
        self,
        size: int = 3,
        *,
        strides: int = 1,
        padding: str = "same",
        multiplier: int = 1,
        bias: bool = True,
        rank: int = 2,
    ) -> Any:
        arrays = self._arrays("depthwise", 1 + bias)

        def make(x: Any) -> list[nn.Module]:
            before, pad = padding_of(x, size, strides, 1, padding, rank)
            layer = depthwise_of(arrays[0], strides, pad, bias, rank)
            return [*before, holding(layer, per_channel(arrays[0]), arrays[1:])]

        return _Layer(make)

    def separable(self, filters: int, size: int = 3, *, bias: bool = True, rank: int = 2) -> Any:
        arrays = self._arrays("separable", 2 + bias)
        depth = holding(depthwise_of(arrays[0], 1, size // 2, False, rank), per_channel(arrays[0]))
        point = getattr(nn, f"Conv{rank}d")(arrays[1].shape[-2], filters, 1, bias=bias)
        return _Layer(lambda x: [depth, holding(point, out_first(arrays[1]), arrays[2:])])

    def transposed(
        self, filters: int, size: int, strides: int, *, bias: bool = True, rank: int = 2
    ) -> Any:
        arrays = self._arrays("transposed", 1 + bias)
        kind = getattr(nn, f"ConvTranspose{rank}d")

        def make(x: Any) -> list[nn.Module]:
            pad = (size - strides) // 2
            layer = kind(x.shape[1], filters, size, strides, pad, bias=bias)
            return [holding(layer, out_first(arrays[0]), arrays[1:])]

        return _Layer(make)

    def dense(self, units: int, *, bias: bool = True, act: str = "linear") -> Any:
        arrays = self._arrays("dense", 1 + bias)

        def make(x: Any) -> list[nn.Module]:
            if x.dim() > 2:
                raise Inexpressible("Linear wants its channels last, BatchNorm1d its second")
            layer = nn.Linear(x.shape[1], units, bias=bias)
            return [holding(layer, arrays[0].T, arrays[1:]), *activation(act)]

        return _Layer(make)

    def einsum(self, *_: Any) -> Any:
        raise Inexpressible("PyTorch has no layer for an einsum")

    def bn(
        self,
        *,
        scale: bool = True,
        center: bool = True,
        epsilon: float = 1e-3,
        trainable: bool = True,
        call_training: Any = None,
    ) -> Any:
        if call_training is not None:
            raise Inexpressible("a PyTorch network keeps its mode in no graph")
        arrays = self._arrays("bn", 2 + scale + center)
        name = f"bn_{self.count['bn']}"
        gamma, beta = np.ones_like(arrays[-1]), np.zeros_like(arrays[-1])
        if scale:
            gamma = arrays[0]
        if center:
            beta = arrays[int(scale)]

        def make(x: Any) -> list[nn.Module]:
            layer = getattr(nn, f"BatchNorm{max(x.dim() - 2, 1)}d")(len(gamma), eps=epsilon)
            holding(layer, gamma, [beta])
            layer.running_mean.copy_(torch.from_numpy(arrays[-2]))
            layer.running_var.copy_(torch.from_numpy(arrays[-1]))
            layer.requires_grad_(trainable)
            self.norms[name] = layer
            return [layer]

        return _Layer(make)

    def doubling_bn(self) -> Any:
        arrays = self._arrays("bn", 4)
        return _Layer(lambda x: [Doubling(arrays)])

    def act(self, name: str) -> Any:
        return _Layer(lambda x: activation(name))

    def add(self) -> Any:
        return _Layer(lambda x: [Add()])

    def multiply(self) -> Any:
        return _Layer(lambda x: [Multiply()])

    def concat(self) -> Any:
        return _Layer(lambda x: [Concat()])

    def dropout(self) -> Any:
        return _Layer(lambda x: [nn.Dropout(0.3)])

    def average_pool(self, size: int = 2) -> Any:
        return _Layer(lambda x: [nn.AvgPool2d(size)])

    def max_pool(self, size: int = 2, strides: int = 2) -> Any:
        return _Layer(lambda x: [nn.MaxPool2d(size, strides)])

    def global_pool(self) -> Any:
        return _Layer(lambda x: [GlobalPool()])

    def zero_pad(self, width: int = 1) -> Any:
        return _Layer(lambda x: [nn.ZeroPad2d(width)])

    def crop(self) -> Any:
        return _Layer(lambda x: [Crop()])

    def upsample(self, size: int = 2) -> Any:
        return _Layer(lambda x: [nn.Upsample(scale_factor=size)])

    def swap(self) -> Any:
        return _Layer(lambda x: [Swap()])

    def flatten(self) -> Any:
        return _Layer(lambda x: [FlattenChannelsLast()])

    def model(self, shape: Sequence[int], build: Callable[[Any], Any]) -> Any:
        tape: list[Any] = []
        inputs = _Value(tape, torch.zeros(1, shape[-1], *shape[:-1]))
        output = build(inputs)
        inner = network(1, tape[1:], [output.index])
        return _Layer(lambda x: [inner])

    def _arrays(self, kind: str, count: int) -> list[np.ndarray]:
        n = self.count[kind] = self.count.get(kind, -1) + 1
        return [self.weights[f"{kind}_{n}/{i}"] for i in range(count)]


def build(graph: Any, weights: Weights) -> tuple[fx.GraphModule, dict[str, Any]]:
    """The network of `graph` with `weights`, in inference, and its BNs by name."""
    L = TorchLayers(weights)
    inputs, outputs = graph.build(L)
    steps = [step for step in L.tape if step is not None]
    return network(len(inputs), steps, [value.index for value in outputs]), L.norms


def model_of(graph: Any, weights: Weights) -> fx.GraphModule:
    """The network of `graph` with `weights`, in inference."""
    return build(graph, weights)[0]


def run(model: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """What `model` answers to inputs in the layout of Keras, in that layout."""
    with torch.no_grad():
        found = model(*[torch.from_numpy(_first(x)) for x in inputs])
    return [_last(x.numpy()) for x in (found if isinstance(found, tuple) else [found])]


def _first(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim > 2 else x


def _last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 1, -1) if x.ndim > 2 else x


def norms(model: nn.Module) -> int:
    """The number of BNs in `model`."""
    kind = nn.modules.batchnorm._BatchNorm
    return sum(isinstance(module, kind) for module in model.modules())
