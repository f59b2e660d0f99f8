"""Fold a per-channel affine map into the linear layer before it.

With y = scale * (W*x + b) + shift per output channel, and W*x linear in W:

    y = (scale W)*x + (scale b + shift)

so only one thing depends on the kind of layer: along which axes of its kernel the output channels
lie. Jacob et al. 2018, arXiv:1712.05877, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bnfix.numerics.moments import Floats

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
}


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
        tied: Why the weights must not be changed ("has a kernel_constraint"), or None.
    """

    kind: str
    kernel: npt.NDArray[np.floating]
    bias: npt.NDArray[np.floating] | None
    axis: int
    activation: str = "linear"
    dtype: str = "float32"
    tied: str | None = None

    @property
    def channels(self) -> int:
        axes = KERNEL_AXES[self.kind]
        return int(np.prod([self.kernel.shape[axis] for axis in axes]))


def scale_and_shift(linear: Linear, scale: Floats, shift: Floats) -> Linear:
    """The layer that computes `scale * linear(x) + shift`, in float64 (not yet rounded)."""
    kernel = np.asarray(linear.kernel, np.float64)
    axes = KERNEL_AXES[linear.kind]
    spread = np.ones(kernel.ndim, int)
    for axis in axes:
        spread[axis] = kernel.shape[axis]
    old = np.zeros(()) if linear.bias is None else np.asarray(linear.bias, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):  # whoever stores the result looks at it
        return replace(linear, kernel=kernel * scale.reshape(spread), bias=old * scale + shift)
