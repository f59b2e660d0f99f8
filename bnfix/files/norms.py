"""What is wrong with the numbers that a BatchNormalization has in a file?

Each rule sees the arrays by name. Faults make predictions wrong, whatever the data; of a warning
data must decide; a note is worth knowing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfix.files.config import LayerEntry
from bnfix.files.file_report import Defect, NormRecord
from bnfix.files.text import items_of

Arrays = Mapping[str, npt.NDArray[Any]]

#: Below it a tiny epsilon no longer protects against division by rounding errors.
TINY = 1e-6
STATISTICS = ("moving_mean", "moving_variance")


def record(layer: LayerEntry, arrays: Arrays) -> NormRecord:
    """The record of a BatchNormalization whose configuration and weights are known."""
    modes = tuple(sorted(mode for mode in layer.calls if mode is not None))
    config = layer.config
    return NormRecord(
        path=layer.path,
        kind=layer.kind,
        axis=_axes(config.get("axis", -1)),
        epsilon=_float(config.get("epsilon", 1e-3)),
        momentum=_float(config.get("momentum", 0.99)),
        trainable=layer.trainable,
        training=modes,
        channels=_channels(arrays),
        defects=(*_baked(modes, layer.trainable), *_defects(arrays)),
    )


def record_of_weights(path: str, arrays: Arrays) -> NormRecord:
    """The record of a BatchNormalization of which the file has the weights alone."""
    return NormRecord(
        path, None, None, None, None, None, (), _channels(arrays), tuple(_defects(arrays))
    )


def _axes(axis: Any) -> tuple[int, ...] | None:
    # A list, or one of tf_keras's tuples, which it writes as an object with items.
    axes = items_of(axis.get("items")) if isinstance(axis, dict) else items_of(axis) or [axis]
    return tuple(axes) if all(type(one) is int for one in axes) else None


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _channels(arrays: Arrays) -> int | None:
    found = arrays.get("moving_variance")
    return None if found is None else int(found.size)


def _baked(modes: tuple[bool, ...], trainable: bool) -> Iterator[Defect]:
    if True in modes and trainable:
        yield Defect(
            "baked_training",
            "fault",
            "called with training=True: it normalizes by the batch at hand and overwrites its "
            "moving statistics, in tf_keras also in predict",
        )
    elif True in modes:
        yield Defect(
            "baked_training",
            "note",
            "called with training=True, which trainable=False keeps from having effect",
        )


def _defects(arrays: Arrays) -> Iterator[Defect]:
    if not all(name in arrays for name in STATISTICS):
        yield Defect("no_statistics", "fault", "its moving statistics are not in the file")
        return
    lengths = {name: values.shape for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {shape}" for name, shape in lengths.items())
        yield Defect("wrong_length", "fault", f"its weights differ in shape: {told}")
    mean, variance = (arrays[name].astype(np.float64) for name in STATISTICS)
    yield from _not_finite(arrays)
    with np.errstate(invalid="ignore"):
        negative = int(np.sum(variance < 0))
        tiny = int(np.sum((variance >= 0) & (variance < TINY)))
    if negative:
        lowest = np.nanmin(variance)
        detail = f"the variance of {negative} of {variance.size} channels is negative, down to "
        yield Defect("negative_variance", "fault", f"{detail}{lowest:.3g}")
    if tiny:
        detail = f"the variance of {tiny} of {variance.size} channels is below {TINY:.0g}"
        yield Defect("tiny_variance", "note", detail)
    if variance.size and bool(np.all(mean == 0) and np.all(variance == 1)):
        yield _never_updated(arrays)


def _not_finite(arrays: Arrays) -> Iterator[Defect]:
    for name, values in arrays.items():
        bad = int(np.sum(~np.isfinite(values)))
        if bad:
            yield Defect("nonfinite", "fault", f"{name}: {bad} of {values.size} are not finite")


def _never_updated(arrays: Arrays) -> Defect:
    initial = {"gamma": 1, "beta": 0}
    learned = [
        name for name, value in initial.items() if name in arrays and np.any(arrays[name] != value)
    ]
    if not learned:
        return Defect("never_updated", "note", "all as initialized: it has never been trained")
    detail = (
        f"{' and '.join(learned)} trained, but mean and variance are still the 0 and 1 that they "
        "start from; labels decide whether that is right: bnfix.diagnose(model, (x, y))"
    )
    return Defect("never_updated", "warning", detail)
