"""Normalizing layers as plain numbers.

A BatchNormalization at inference (Ioffe & Szegedy 2015, arXiv:1502.03167, section 3.1) is

    y = (x - moving_mean) * gamma / sqrt(moving_variance + epsilon) + beta  =  scale * x + shift

and a GroupNormalization (Wu & He 2018, arXiv:1803.08494, section 3) the same with the mean and
variance that each row has within each group of channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnfix.numerics.moments import Floats


@dataclass(frozen=True)
class NormSpec:
    """Everything that inference uses of one BatchNormalization layer.

    Attributes:
        axis: Channel axis as a non-negative index into the input's shape (batch is 0).
        gamma: (channels,), or None where the layer has `scale=False`.
        beta: (channels,), or None where the layer has `center=False`.
        moving_mean: (channels,).
        moving_variance: (channels,).
        epsilon: Added to the variance.
        trainable: False if the layer is frozen, so that `training=True` cannot reach it.
    """

    axis: int
    gamma: Floats | None
    beta: Floats | None
    moving_mean: Floats
    moving_variance: Floats
    epsilon: float
    trainable: bool = True

    @property
    def channels(self) -> int:
        return self.moving_mean.size

    def affine(self) -> tuple[Floats, Floats]:
        """`(scale, shift)`, each (channels,) float64; not finite where the variance is negative."""
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = 1.0 / np.sqrt(self.moving_variance + self.epsilon)
            if self.gamma is not None:
                scale = scale * self.gamma
            shift = -scale * self.moving_mean
            return scale, shift if self.beta is None else shift + self.beta


@dataclass(frozen=True)
class GroupNormSpec:
    """One GroupNormalization layer.

    Attributes:
        groups: A divisor of the number of channels; as many as these normalizes each by itself.
        axis: Channel axis as a non-negative index into the input's shape (batch is 0).
        gamma: (channels,), or None for `scale=False`.
        beta: (channels,), or None for `center=False`.
        epsilon: Added to the variance.
    """

    groups: int
    axis: int
    gamma: Floats | None
    beta: Floats | None
    epsilon: float
