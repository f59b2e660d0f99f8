"""Everything that the model itself tells about its BatchNormalizations, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnfix.adapters import weights
from bnfix.adapters.overruling import baked, overruled
from bnfix.adapters.reading import Reading, readable
from bnfix.adapters.subject import Subject
from bnfix.graph.graph import Call, Graph
from bnfix.graph.source import baked_over_batch_norm
from bnfix.numerics.moments import Floats

#: Layers of one input behind which channels are still where a linear layer has put them.
_PASSES_CHANNELS_ON = frozenset(
    (  # noqa: SIM905 - two dozen quoted words would read worse
        "Activation ReLU LeakyReLU PReLU ELU Softplus Dropout SpatialDropout1D SpatialDropout2D "
        "SpatialDropout3D GaussianNoise GaussianDropout MaxPooling1D MaxPooling2D MaxPooling3D "
        "AveragePooling1D AveragePooling2D AveragePooling3D ZeroPadding1D ZeroPadding2D "
        "ZeroPadding3D Cropping1D Cropping2D Cropping3D UpSampling1D UpSampling2D UpSampling3D"
    ).split()
)


@dataclass(frozen=True)
class NormFacts:
    """One BatchNormalization, whatever data it may see.

    Attributes:
        path: Full path of the layer.
        trainable: Its flag now.
        stale: Whether compiled training code goes by the opposite flag.
        baked: Every `training=` written into one of its calls or around it.
        overruled: Whether `predict` and `fit` overrule that: Keras 3 does, but in code.
        momentum: Of its moving statistics.
        epsilon: Added to the variance.
        axis: Channel axis, or None where there are several or the layer is not in a graph.
        producer: Path of the linear layer whose channels it normalizes, or None.
        producer_axis: Along which axis these lie.
        calls: How often it is called.
        synchronized: Whether it pools statistics over replicas.
        mean: (channels,), as stored.
        variance: (channels,), as stored.
        gamma: (channels,), or None.
        beta: (channels,), or None.
        deviations: Further stored standard deviations that should be the variance's root.
        means: Further stored means that should be `mean`.
    """

    path: str
    trainable: bool
    stale: bool
    baked: frozenset[bool]
    overruled: bool
    momentum: float
    epsilon: float
    axis: int | None
    producer: str | None
    producer_axis: int | None
    calls: int
    synchronized: bool
    mean: Floats
    variance: Floats
    gamma: Floats | None
    beta: Floats | None
    deviations: tuple[Floats, ...]
    means: tuple[Floats, ...]

    @property
    def never_updated(self) -> bool:
        return bool(np.all(self.mean == 0) and np.all(self.variance == 1))

    @property
    def has_learned(self) -> bool:
        """Whether gamma or beta have left the 1 and 0 that they start from."""
        gamma = self.gamma is not None and bool(np.any(self.gamma != 1))
        return gamma or (self.beta is not None and bool(np.any(self.beta != 0)))

    @property
    def gain(self) -> float:
        """Largest factor by which a channel is multiplied."""
        with np.errstate(all="ignore"):
            scale = 1.0 / np.sqrt(self.variance + self.epsilon)
            scale = scale if self.gamma is None else scale * self.gamma
        return float(np.max(np.abs(scale), initial=0.0))


@dataclass(frozen=True)
class ModelFacts:
    """A model's BatchNormalizations, and what applies to all of them.

    Attributes:
        norms: In the order in which they run, as far as that is known.
        has_graph: Whether calls can be read and rewritten.
        steps: Training steps that the optimizer has counted; 0 if unknown.
        baked_calls: Paths of the calls with `training=True` that reach a BatchNormalization.
        baked_elsewhere: Whether there are others, such as dropout that is meant to be on.
        makes_images: Whether all that the model returns has at least two axes of positions.
        augmenting: Paths of the calls in training mode by default whose mode goes over to a
            BatchNormalization behind them.
    """

    norms: tuple[NormFacts, ...]
    has_graph: bool
    steps: int
    baked_calls: tuple[str, ...] = ()
    baked_elsewhere: bool = False
    makes_images: bool = False
    augmenting: tuple[str, ...] = ()


def facts_of(subject: Subject) -> ModelFacts:
    """Read the model, whatever kind of model it is; nothing is run or changed."""
    adapter, model = subject
    reading = readable(subject)
    stale = adapter.stale_flags(model)
    return ModelFacts(
        norms=tuple(_norms(subject, reading, stale)),
        has_graph=reading is not None,
        steps=adapter.training_steps(model),
        **(_baked(reading) if reading else {}),
    )


def _baked(reading: Reading) -> dict[str, Any]:
    written = {path for _, path, node in reading.definitions.written() if node.training}
    reaching = tuple(baked_over_batch_norm(reading))
    images = all(len(value.shape) >= _RANK_OF_IMAGES for value in reading.graph.outputs)
    elsewhere = len(reaching) < len(written)
    return {
        "baked_calls": reaching,
        "baked_elsewhere": elsewhere,
        "makes_images": images,
        "augmenting": _augmenting(reading),
    }


def _augmenting(reading: Reading) -> tuple[str, ...]:
    if not reading.adapter.default_training_spreads:
        return ()
    norms = [call for call in reading.graph if reading.is_batch_norm(call.layer)]
    # What is written, or frozen, does not go by the default.
    follow = [c.index for c in norms if c.training is None and reading.layers[c.layer].trainable]
    last = max(follow, default=-1)
    return tuple(
        call.path for call in reading.graph if call.trains_by_default and call.index < last
    )


#: Batch, two positions, channels.
_RANK_OF_IMAGES = 4


def _norms(subject: Subject, reading: Reading | None, stale: frozenset[int]) -> Iterator[NormFacts]:
    adapter, model = subject
    graph = reading.graph if reading else Graph((), (), ())
    calls: dict[int, list[Call]] = {}
    for call in graph:
        if reading and reading.is_batch_norm(call.layer):
            calls.setdefault(id(reading.layers[call.layer]), []).append(call)
    left = _left(reading) if reading else ()
    paths = {id(layer): path for path, layer in adapter.batch_norms(model)}
    layers = {id(layer): layer for _, layer in adapter.batch_norms(model)}
    for key in [*calls, *(key for key in layers if key not in calls)]:
        layer, found = layers.get(key), calls.get(key, [])
        if layer is not None and layer.built:
            path = found[0].path if found else paths[key]
            spots = [f"{call.path}/" for call in found]
            holds = any(spot.startswith(f"{at}/") for spot in spots for at in left)
            yield _facts(layer, path, key in stale, not holds, reading, found)


def _left(reading: Reading) -> tuple[str, ...]:
    """Paths of the calls in which a `training=` is written that holds in `predict` and `fit`."""
    held = baked(reading) - overruled(reading)
    return tuple(path for key, path, _ in reading.definitions.written() if key in held)


def _facts(
    layer: Any,
    path: str,
    stale: bool,
    overruled: bool,
    reading: Reading | None,
    calls: list[Call],
) -> NormFacts:
    mean, variance = weights.read_statistics(layer)
    gamma, beta = weights.read_affine(layer)
    first = calls[0] if calls else None
    producer = _producer(reading, first) if reading and first else None
    linear = reading.linear(producer) if reading and producer else None
    return NormFacts(
        path=path,
        trainable=bool(layer.trainable),
        stale=stale,
        baked=frozenset(call.training for call in calls if call.training is not None),
        overruled=overruled,
        momentum=float(layer.momentum),
        epsilon=float(layer.epsilon),
        axis=reading.channel_axis(first) if reading and first else None,
        producer=producer.path if producer else None,
        producer_axis=linear.axis if linear else None,
        calls=len(calls),
        synchronized=weights.is_synchronized(layer),
        mean=mean,
        variance=variance,
        gamma=gamma,
        beta=beta,
        deviations=weights.read_optional(layer, "moving_stddev", "renorm_stddev"),
        means=weights.read_optional(layer, "renorm_mean"),
    )


def _producer(reading: Reading, norm: Call) -> Call | None:
    """The linear layer whose output channels `norm` sees, through what leaves them in place."""
    value = norm.inputs[0]
    while True:
        call = reading.graph.producer(value)
        if reading.linear(call) is not None:
            return call
        border = call.kind == "InputLayer" and bool(call.inputs)
        passes = call.kind in _PASSES_CHANNELS_ON or reading.is_batch_norm(call.layer)
        if not (border or passes) or len(call.inputs) != 1:
            return None
        value = call.inputs[0]
