"""Modules of PyTorch as the graphs need them, and the weights of Keras in their layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

ACTIVATIONS = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softmax": lambda: nn.Softmax(-1),
}


class Add(nn.Module):
    def forward(self, *xs: Any) -> Any:
        total = xs[0]
        for x in xs[1:]:
            total = total + x
        return total


class Multiply(nn.Module):
    def forward(self, x: Any, y: Any) -> Any:
        return x * y


class Concat(nn.Module):
    def forward(self, *xs: Any) -> Any:
        return torch.cat(xs, 1)


class FlattenChannelsLast(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.permute(0, 2, 3, 1).flatten(1)


class GlobalPool(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.mean((2, 3))


class Crop(nn.Module):
    def forward(self, x: Any) -> Any:
        return x[:, :, 1:-1, 1:-1]


class Swap(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.transpose(2, 3)


class Doubling(nn.BatchNorm2d):
    """A subclass that computes something else."""

    def __init__(self, arrays: list[np.ndarray]) -> None:
        super().__init__(len(arrays[0]), eps=1e-3)
        holding(self, arrays[0], arrays[1:2])
        self.running_mean.copy_(torch.from_numpy(arrays[2]))
        self.running_var.copy_(torch.from_numpy(arrays[3]))

    def forward(self, x: Any) -> Any:
        return 2.0 * super().forward(x)


def activation(name: str) -> list[nn.Module]:
    return [] if name == "linear" else [ACTIVATIONS[name]()]


def padding_of(x: Any, size: int, strides: int, dilation: int, how: str, rank: int) -> Any:
    """Layers that pad as Keras does, and the convolution's own padding where it can."""
    reach = dilation * (size - 1)
    if how == "valid":
        return [], 0
    if how == "causal":
        return [nn.ConstantPad1d((reach, 0), 0.0)], 0
    if strides == 1:
        return [], reach // 2
    total = max(size - strides, 0)
    sides = (total // 2, total - total // 2) * rank
    return ([nn.ConstantPad2d(sides, 0.0)] if total else []), 0


def depthwise_of(kernel: np.ndarray, strides: int, pad: int, bias: bool, rank: int) -> nn.Module:
    channels, multiplier = kernel.shape[-2:]
    options = {"stride": strides, "padding": pad, "groups": channels, "bias": bias}
    kind = getattr(nn, f"Conv{rank}d")
    return kind(channels, channels * multiplier, kernel.shape[0], **options)


def out_first(kernel: np.ndarray) -> np.ndarray:
    """The last two axes first, the last one foremost."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def per_channel(kernel: np.ndarray) -> np.ndarray:
    flat = kernel.reshape(*kernel.shape[:-2], 1, -1)
    return out_first(flat)


def holding(layer: Any, weight: np.ndarray, bias: Sequence[np.ndarray] = ()) -> Any:
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.array(weight)))
        for array in bias:
            layer.bias.copy_(torch.from_numpy(np.array(array)))
    return layer
