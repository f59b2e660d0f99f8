"""Between Keras layers and plain numbers: BatchNormalization and linear layers, read and written.

Weights are reached by attribute, never by position: a BN has 2, 3, 4 or 7 of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfix.adapters.backends import backend_holding
from bnfix.adapters.spread import here, parts
from bnfix.numerics.deferred import Deferred, bound
from bnfix.numerics.linear import KERNEL_AXES, InputSide, Linear
from bnfix.numerics.moments import Floats
from bnfix.numerics.norm import NormSpec
from bnfix.numerics.tolerance import largest_finite
from bnfix.numerics.window import Window


def channel_axis(layer: Any, rank: int) -> int | None:
    """The one axis along which a BatchNormalization keeps statistics; None if there are several."""
    axes = list(layer.axis) if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    if getattr(layer, "virtual_batch_size", None):
        axes = [axis - 1 for axis in axes]  # build() counts the axis of virtual batches in front
    return int(axes[0]) % rank if len(axes) == 1 else None


def read_norm(layer: Any, rank: int) -> NormSpec | None:
    """`layer`, a built BatchNormalization over inputs of `rank` dimensions, as numbers.

    None where it keeps statistics over several axes at once, which tf_keras allows.
    """
    axis = channel_axis(layer, rank)
    if axis is None:
        return None
    return NormSpec(
        axis=axis,
        gamma=_float64(layer.gamma) if layer.scale else None,
        beta=_float64(layer.beta) if layer.center else None,
        moving_mean=_required(layer.moving_mean),
        moving_variance=_required(layer.moving_variance),
        epsilon=float(layer.epsilon),
        trainable=bool(layer.trainable),
    )


def channels(layer: Any) -> int:
    """Number of channels of a built BatchNormalization."""
    return math.prod(layer.moving_mean.shape)


def statistics(layer: Any) -> list[Any]:
    """The variables of a BatchNormalization that hold statistics, renorm's included."""
    names = ("moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev")
    found = (getattr(layer, name, None) for name in names)
    return [variable for variable in found if variable is not None]


def read_statistics(layer: Any) -> tuple[Floats, Floats]:
    """Stored mean and variance of a BatchNormalization, each (channels,)."""
    return _required(layer.moving_mean), _required(layer.moving_variance)


def read_affine(layer: Any) -> tuple[Floats | None, Floats | None]:
    """Gamma and beta of a BatchNormalization, each (channels,), or None."""
    gamma = _float64(layer.gamma) if layer.scale else None
    return gamma, _float64(layer.beta) if layer.center else None


def read_optional(layer: Any, *names: str) -> tuple[Floats, ...]:
    """Those of the variables called `names` that `layer` has, each (channels,)."""
    found = (_float64(getattr(layer, name, None)) for name in names)
    return tuple(values for values in found if values is not None)


def exchange(layer: Any, ours: str, theirs: str) -> None:
    """Swap the values of two weights of one shape."""
    first, second = getattr(layer, ours), getattr(layer, theirs)
    values = _array(first).copy(), _array(second).copy()
    first.assign(values[1])
    second.assign(values[0])


def is_synchronized(layer: Any) -> bool:
    """Whether a BatchNormalization pools its statistics over replicas in training."""
    return bool(getattr(layer, "synchronized", False)) or "Sync" in type(layer).__name__


def write_statistics(layer: Any, mean: Floats, variance: Floats) -> None:
    """Set every statistic of a BatchNormalization so that they agree with `mean` and `variance`."""
    deviation = np.sqrt(np.maximum(variance, 0) + float(layer.epsilon))
    values = {
        "moving_mean": mean,
        "moving_variance": variance,
        "moving_stddev": deviation,
        "renorm_mean": mean,
        "renorm_stddev": deviation,
    }
    for name, value in values.items():
        variable = getattr(layer, name, None)
        if variable is not None:
            most = largest_finite(_dtype(variable))
            stored = np.clip(value, -most, most).reshape(tuple(variable.shape))
            for part in parts(variable):
                part.assign(stored)


def too_large(layer: Any, mean: Floats, variance: Floats) -> int:
    """Number of channels whose statistics exceed what `layer` can store, and are cut to that."""
    most = largest_finite(_dtype(layer.moving_variance))
    return int(np.sum((np.abs(mean) > most) | (variance > most)))


def read_linear(layer: Any, kind: str, rank: int) -> Linear | None:
    """`layer` as a linear layer, or None if its kind is not in `KERNEL_AXES`.

    `rank` is that of its output.
    """
    if kind not in KERNEL_AXES or (kind == "EinsumDense" and not _keeps_last_axis(layer)):
        return None
    name = _kernel_name(layer)
    kernel = getattr(layer, name, None)
    if kernel is None:
        return None
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    axis = 1 if first else rank - 1
    return Linear(
        kind=kind,
        kernel=Deferred(
            tuple(map(int, kernel.shape)),
            lambda: _array(kernel),
            lambda: bound(_array(kernel)),
        ),
        bias=None if layer.bias is None else _array(layer.bias),
        axis=axis,
        activation=_activation_name(layer.activation),
        dtype=_dtype(kernel),
        tied=_tie(layer),
        output_axes=_kernel_axes(layer) if kind == "EinsumDense" else None,
        input=None if kind == "EinsumDense" else _input_side(layer, kind, axis),
    )


def write_linear(layer: Any, linear: Linear) -> None:
    """Round `linear` to the dtype of `layer`'s weights and store it there."""
    getattr(layer, _kernel_name(layer)).assign(np.asarray(linear.kernel))
    if linear.bias is not None:
        layer.bias.assign(linear.bias)


def inner(layer: Any, kind: str) -> Any:
    """What `layer` of that kind applies to each step, or `layer` itself."""
    return layer.layer if kind == "TimeDistributed" else layer


def bias_option(layer: Any, kind: str) -> dict[str, Any]:
    """What to change in the configuration of a linear layer for it to have a bias."""
    if hasattr(inner(layer, kind), "bias_axes"):
        return {"bias_axes": inner(layer, kind).bias_axes or _einsum(inner(layer, kind))[2][-1]}
    return {"use_bias": True}


def for_training(layer: Any, kind: str) -> tuple[str, ...]:
    """The options of a linear layer that say what training may make of its weights and outputs."""
    ends = ("_constraint", "_regularizer")
    config = inner(layer, kind).get_config()
    return tuple(n for n, value in config.items() if n.endswith(ends) and value is not None)


def changed_options(layer: Any, kind: str, changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` to the linear layer that `layer` is or applies, as those of its configuration."""
    if inner(layer, kind) is layer:
        return changes
    written = layer.get_config()["layer"]
    return {"layer": {**written, "config": {**written["config"], **changes}}}


def kernel(layer: Any) -> Any:
    """The variable that carries the output channels of a linear layer."""
    return getattr(layer, _kernel_name(layer))


def _input_side(layer: Any, kind: str, axis: int) -> InputSide:
    size = tuple(map(int, getattr(layer, "kernel_size", ())))
    plain = all(length == 1 for length in size)
    valid = getattr(layer, "padding", "valid") == "valid"
    if kind.endswith("Transpose"):  # which has fewer inputs near its borders and between strides
        return InputSide(axis, uniform=plain and all(step == 1 for step in layer.strides))
    taps = None
    window = None if kind.startswith("Separable") else _window(layer, size)
    if kind.startswith("Separable"):
        first = _array(layer.depthwise_kernel).astype(np.float64)
        taps = first.sum(axis=tuple(range(len(size)))).reshape(-1)
    groups = 1 if kind.startswith(("Depthwise", "Separable")) else getattr(layer, "groups", 1)
    return InputSide(axis, groups=groups, uniform=plain or valid, taps=taps, window=window)


def _window(layer: Any, size: tuple[int, ...]) -> Window:
    ones = (1,) * len(size)
    steps, apart = getattr(layer, "strides", ones), getattr(layer, "dilation_rate", ones)
    padding = str(getattr(layer, "padding", "valid"))
    return Window(size, tuple(map(int, steps)), tuple(map(int, apart)), padding)


def _einsum(layer: Any) -> tuple[str, str, str]:
    """The axes of input, kernel and output of an EinsumDense, a letter each."""
    inputs, _, outputs = layer.equation.replace(" ", "").partition("->")
    given, _, kernel_letters = inputs.partition(",")
    return given, kernel_letters, outputs


def _keeps_last_axis(layer: Any) -> bool:
    """Whether the last axis of the output is one of the kernel alone, and the bias lies along it.

    Then a map along it is one of the kernel.
    """
    given, kernel_letters, outputs = _einsum(layer)
    last = outputs[-1:]
    biased = layer.bias_axes is None or last in layer.bias_axes
    return bool(last.isalpha() and last in kernel_letters and last not in given and biased)


def _kernel_axes(layer: Any) -> tuple[int, ...]:
    _, kernel_letters, outputs = _einsum(layer)
    return (kernel_letters.index(outputs[-1]),)


def _kernel_name(layer: Any) -> str:
    """The kernel that carries the output channels; Keras 3 calls a depthwise one plain `kernel`."""
    names = ("pointwise_kernel", "depthwise_kernel", "kernel")
    return next((name for name in names if getattr(layer, name, None) is not None), "kernel")


def _activation_name(activation: Any) -> str:
    if activation is None:
        return "linear"
    return getattr(activation, "__name__", None) or type(activation).__name__


def _tie(layer: Any) -> str | None:
    """Why the weights of `layer` must stay as they are, or None."""
    if getattr(layer, "quantization_mode", None) is not None:
        return f"is quantized ({layer.quantization_mode})"
    if getattr(layer, "lora_enabled", False):
        return "has LoRA weights"
    return None


def _dtype(variable: Any) -> str:
    """Its name, which PyTorch puts behind its own."""
    return str(getattr(variable.dtype, "name", variable.dtype)).rpartition(".")[2]


def _required(variable: Any) -> Floats:
    found = _float64(variable)
    if found is None:
        raise TypeError("the layer has no statistics: it is not built")
    return found


def _float64(variable: Any) -> Floats | None:
    return None if variable is None else _array(variable).astype(np.float64).reshape(-1)


def _array(variable: Any) -> npt.NDArray[Any]:
    """Of a variable, or of a tensor made of some, as the kernel of a layer with LoRA is."""
    held = here(variable)
    return np.asarray(held.numpy() if hasattr(held, "assign") else backend_holding(held).view(held))
