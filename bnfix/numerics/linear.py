"""Fold an affine map into the linear layer before or behind it.

Behind the layer, with one scale and shift per output channel:

    scale * (W*x + b) + shift  =  (scale W)*x + (scale b + shift)

Jacob et al. 2018, arXiv:1712.05877, section 3.2. Before it, with one per input channel:

    W*(scale * x + shift) + b  =  (W scale)*x + (b + W*shift)

where `W*shift` is the same at every position unless zeros are padded, which nothing shifts. So it
only depends on the kind of layer along which axes of its kernel the channels lie.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bnfix.numerics.deferred import Array, Deferred, bound
from bnfix.numerics.moments import Floats
from bnfix.numerics.window import Window

#: For each kind of linear layer, the axes of its kernel along which output channels lie, slowest
#: first. A depthwise kernel ends in (input channel, multiplier): output = in * multipliers + k. Of
# a separable layer's two kernels it is the pointwise one that counts.
KERNEL_AXES: dict[str, tuple[int, ...]] = {
    "Dense": (-1,),
    "Conv1D": (-1,),
    "Conv2D": (-1,),
    "Conv3D": (-1,),
    "DepthwiseConv1D": (-2, -1),
    "DepthwiseConv2D": (-2, -1),
    "SeparableConv1D": (-1,),
    "SeparableConv2D": (-1,),
    "Conv1DTranspose": (-2,),
    "Conv2DTranspose": (-2,),
    "Conv3DTranspose": (-2,),
    "EinsumDense": (-1,),
}


@dataclass(frozen=True)
class InputSide:
    """What matters of a linear layer to an affine map of its input.

    Attributes:
        axis: Channel axis of the input, as a non-negative index into its shape.
        groups: Of channels that are convolved separately.
        uniform: Whether every output sees the whole kernel on inputs, and none on padding.
        taps: What a depthwise kernel before `Linear.kernel` adds up to, (its outputs,); or None.
        window: Where the taps of its kernel lie; None where it has two kernels, or spreads.
    """

    axis: int
    groups: int = 1
    uniform: bool = True
    taps: Floats | None = None
    window: Window | None = None

    def one_to_one(self, linear: Linear) -> bool:
        """Whether there are as many channels on the other side, each of them in its own group."""
        *_, inputs, outputs = linear.kernel.shape
        return outputs == 1 if len(linear.axes) == 2 else inputs * self.groups == outputs


@dataclass(frozen=True)
class Linear:
    """A linear layer as far as an affine map of its output is concerned.

    Attributes:
        kind: A key of `KERNEL_AXES`.
        kernel: The weight that carries the output channels, in Keras's own layout.
        bias: (channels,), or None where the layer has none.
        axis: Channel axis of the output, as a non-negative index into its shape.
        activation: Name of the activation inside the layer; "linear" for none.
        dtype: Of the stored weights.
        tied: Why the weights must not be changed ("is quantized (int8)"), or None.
        output_axes: Axes of `kernel` along which output channels lie, if not those of the kind.
        input: Its other side, or None where a map of the input cannot be folded.
    """

    kind: str
    kernel: Array
    bias: npt.NDArray[np.floating] | None
    axis: int
    activation: str = "linear"
    dtype: str = "float32"
    tied: str | None = None
    output_axes: tuple[int, ...] | None = None
    input: InputSide | None = None

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes of `kernel` along which output channels lie, as non-negative indices."""
        axes = self.output_axes or KERNEL_AXES[self.kind]
        return tuple(axis % self.kernel.ndim for axis in axes)

    def is_alike(self, other: Linear) -> bool:
        """Whether kernels of both differ in their positions at most."""
        return (
            (self.kind, self.axis, self.dtype) == (other.kind, other.axis, other.dtype)
            and self.kernel.shape[-2:] == other.kernel.shape[-2:]
            and (self.input and self.input.groups) == (other.input and other.input.groups)
        )

    @property
    def channels(self) -> int:
        return int(np.prod([self.kernel.shape[axis] for axis in self.axes]))


def scale_and_shift(linear: Linear, scale: Floats, shift: Floats) -> Linear:
    """The layer that computes `scale * linear(x) + shift`, in float64 (not yet rounded)."""
    kernel = linear.kernel
    spread = np.ones(kernel.ndim, int)
    for axis in linear.axes:
        spread[axis] = kernel.shape[axis]
    with _unchecked():
        bias = _bias(linear) * scale + shift
    return replace(linear, kernel=_scaled(kernel, scale.reshape(spread)), bias=bias)


def scale_and_shift_input(linear: Linear, side: InputSide, scale: Floats, shift: Floats) -> Linear:
    """The layer that computes `linear(scale * x + shift)`, in float64 (not yet rounded).

    Args:
        linear: What takes the map up.
        side: Its `input`; `uniform` unless `shift` is 0.
        scale: (input channels,).
        shift: As `scale`.
    """
    kernel, taps = linear.kernel, side.taps
    if taps is not None:  # the kernel sees each channel once for every output of the first kernel
        scale, shift = (np.repeat(part, taps.size // part.size) for part in (scale, shift))
        shift = shift * taps
    others = tuple(axis for axis in range(kernel.ndim) if axis not in linear.axes)
    bias = linear.bias
    if shift.any():
        with _unchecked():
            moved = np.multiply(kernel, _spread(linear, side, shift), dtype=np.float64)
            bias = _bias(linear) + moved.sum(axis=others).reshape(-1)
    return replace(linear, kernel=_scaled(kernel, _spread(linear, side, scale)), bias=bias)


def plus_input(linear: Linear, tap: tuple[int, ...], scale: Floats, shift: Floats) -> Linear:
    """The layer that computes `linear(x) + scale * x + shift`, in float64 (not yet rounded).

    Args:
        linear: Of as many channels on either side.
        tap: Where in its kernel the position lies which is made.
        scale: (channels,).
        shift: As `scale`.
    """
    kernel = np.array(linear.kernel, np.float64)
    channel = np.arange(scale.size)
    if len(linear.axes) == 2:  # depthwise, one output a channel
        kernel[(*tap, channel, 0)] += scale
    else:
        kernel[(*tap, channel % kernel.shape[-2], channel)] += scale
    return replace(linear, kernel=kernel, bias=_bias(linear) + shift)


def plus(linear: Linear, other: Linear, places: tuple[tuple[int, ...], ...]) -> Linear:
    """The layer that computes `linear(x) + other(x)`, in float64 (not yet rounded).

    Args:
        linear: Of the larger kernel.
        other: What `is_alike`.
        places: Along each axis of positions, where the taps of `other` lie in that kernel.
    """
    kernel = np.array(linear.kernel, np.float64)
    kernel[np.ix_(*places)] += np.asarray(other.kernel)
    bias = None
    if linear.bias is not None or other.bias is not None:
        bias = _bias(linear) + _bias(other)
    return replace(linear, kernel=kernel, bias=bias)


def _scaled(kernel: Array, scale: Floats) -> Deferred:
    """`kernel` times what broadcasts against it, in float64."""

    def make() -> Floats:
        with _unchecked():
            return np.multiply(kernel, scale, dtype=np.float64)

    def largest() -> float:
        with _unchecked():
            return bound(kernel) * float(np.max(np.abs(scale)))

    return Deferred(kernel.shape, make, largest)


def _unchecked() -> np.errstate:
    """Whoever stores the result looks at it."""
    return np.errstate(invalid="ignore", over="ignore")


def _spread(linear: Linear, side: InputSide, values: Floats) -> Floats:
    """`values` of the input channels, broadcasting against the kernel."""
    shape, groups = linear.kernel.shape, side.groups
    if linear.kind.endswith("Transpose"):
        return values
    if groups == 1:
        return values[:, np.newaxis]
    # Output channels lie group by group, and so do input channels; a kernel holds those of one.
    return np.repeat(values.reshape(groups, -1).T, shape[-1] // groups, axis=1)


def _bias(linear: Linear) -> Floats:
    return np.zeros(()) if linear.bias is None else np.asarray(linear.bias, np.float64)
