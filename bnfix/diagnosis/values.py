"""Stored values that no data could excuse, and channel axes that no layer before made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from bnfix.diagnosis.cause import Cause
from bnfix.diagnosis.diagnosis_report import Symptom
from bnfix.diagnosis.model_facts import ModelFacts, NormFacts
from bnfix.diagnosis.remedies import RECALIBRATE_SOME
from bnfix.numerics.moments import Floats
from bnfix.remedy import Remedy, Verb

#: Largest gain of a channel that real networks need; a tiny variance with a tiny epsilon exceeds
#: it, and multiplies rounding errors and outliers alike.
_LARGEST_GAIN = 1e3

#: Ratio of statistics kept twice over; averages of deviations and of variances differ a little.
_OUT_OF_STEP = 2.0


def not_finite(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    statistics = {"moving_mean": norm.mean, "moving_variance": norm.variance}
    affine = {"gamma": norm.gamma, "beta": norm.beta}
    if bad := _spoilt(affine):
        advice = f"{bad} cannot be had from data; take the weights of an earlier epoch"
        yield Symptom((norm.path,), Cause.NONFINITE, "fault", _counted(bad, affine), advice=advice)
    elif bad := _spoilt(statistics):
        detail = _counted(bad, statistics)
        yield Symptom((norm.path,), Cause.NONFINITE, "fault", detail, RECALIBRATE_SOME)


def _spoilt(values: Mapping[str, Floats | None]) -> str:
    bad = [n for n, found in values.items() if found is not None and not np.isfinite(found).all()]
    return " and ".join(bad)


def _counted(bad: str, values: Mapping[str, Floats | None]) -> str:
    arrays = [found for found in values.values() if found is not None]
    number = sum(int(np.sum(~np.isfinite(found))) for found in arrays)
    return f"{bad}: {number} of {arrays[0].size} channels are not finite"


def negative(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    negative = int(np.sum(norm.variance < 0))
    if negative:
        root = int(np.sum(norm.variance + norm.epsilon <= 0))
        detail = (
            f"the variance of {negative} of {norm.variance.size} channels is negative, down to "
            f"{np.nanmin(norm.variance):.3g}; {root} of them give no number at all"
        )
        yield Symptom((norm.path,), Cause.NEGATIVE_VARIANCE, "fault", detail, RECALIBRATE_SOME)


def collapsed(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    """All channels alike: what training has shown the layer did not vary at all."""
    variance = norm.variance
    if variance.size < 2 or not np.isfinite(variance).all():
        return
    if bool(np.all(np.abs(variance) < _NOTHING) and np.all(norm.mean == 0)):
        detail = (
            "mean and variance of all channels are 0: batches that were masked in full, or all "
            "zeros, have taken them there"
        )
        yield Symptom((norm.path,), Cause.ZERO_VARIANCE, "fault", detail, RECALIBRATE_SOME)
    elif bool(np.ptp(variance) <= 1e-5 * np.max(variance) and np.max(variance) < 1) and bool(
        np.ptp(norm.mean) > 0
    ):
        detail = (
            f"the variance is {variance[0]:.3g} in all {variance.size} channels: each training "
            "batch had a single value per channel, of which the variance is 0 and the normalized "
            "value is beta, whatever the input"
        )
        advice = (
            f"the layers before {norm.path} have had no gradient; train again with larger "
            "batches, or with LayerNormalization"
        )
        yield Symptom((norm.path,), Cause.BATCH_OF_ONE, "fault", detail, advice=advice)


_NOTHING = 1e-12


def gain(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    tiny = int(np.sum((norm.variance >= 0) & (norm.variance < _TINY)))
    if not tiny:
        return
    detail = (
        f"the variance of {tiny} of {norm.variance.size} channels is below {_TINY:.0g}; the "
        f"largest gain is {norm.gain:.3g}"
    )
    if norm.gain > _LARGEST_GAIN:
        nested = "/" in norm.path
        yield Symptom(
            (norm.path,),
            Cause.HUGE_GAIN,
            "warning",
            detail,
            None if nested else Remedy(Verb.RAISE_EPSILON, (norm.path,)),
            f"raise the epsilon of {norm.path}" if nested else "",
        )
    else:
        yield Symptom((norm.path,), Cause.TINY_VARIANCE, "note", detail)


_TINY = 1e-6


def out_of_step(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    wanted = np.sqrt(np.maximum(norm.variance, 0) + norm.epsilon)
    apart = [_ratio(found, wanted) for found in norm.deviations]
    apart += [1 + float(np.max(np.abs(found - norm.mean) / wanted)) for found in norm.means]
    if apart and max(apart) > _OUT_OF_STEP:
        detail = (
            f"statistics of renormalization and moving statistics differ by a factor of "
            f"{max(apart):.3g} at most; inference may go by either"
        )
        yield Symptom((norm.path,), Cause.OUT_OF_STEP, "fault", detail, RECALIBRATE_SOME)


def _ratio(found: Floats, wanted: Floats) -> float:
    with np.errstate(all="ignore"):
        ratio = np.maximum(found / wanted, wanted / found)
    return float(np.max(np.where(np.isfinite(ratio), ratio, np.inf), initial=1.0))


def axis(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    if norm.axis is None or norm.producer_axis is None or norm.axis == norm.producer_axis:
        return
    detail = (
        f"normalizes axis {norm.axis}, but the channels of {norm.producer} lie along axis "
        f"{norm.producer_axis}"
    )
    advice = f"build it with axis={norm.producer_axis} and train again"
    yield Symptom((norm.path,), Cause.WRONG_AXIS, "warning", detail, advice=advice)
