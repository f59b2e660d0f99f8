"""What the model alone gives away about its BatchNormalizations.

Each rule looks at one layer and yields what it sees there; equal findings of several layers are
told once. A rule knows no data, so it calls something a fault only where no data could excuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bnfix.diagnosis.facts import ModelFacts, NormFacts
from bnfix.diagnosis.remedy import Remedy, Verb
from bnfix.diagnosis.report import Symptom
from bnfix.numerics.moments import Floats

Rule = Callable[[NormFacts, ModelFacts], Iterator[Symptom]]

FREEZE = Remedy(Verb.FREEZE, ())
RECALIBRATE = Remedy(Verb.RECALIBRATE)
RECALIBRATE_JUDGED = Remedy(Verb.RECALIBRATE, labels=True)
RECALIBRATE_SOME = Remedy(Verb.RECALIBRATE, ())

#: Largest gain of a channel that real networks need; a tiny variance with a tiny epsilon exceeds
#: it, and multiplies rounding errors and outliers alike.
_LARGEST_GAIN = 1e3

#: Fraction of the initial values that is still noticed in predictions.
LEFT = 0.05

#: Ratio of statistics kept twice over; averages of deviations and of variances differ a little.
_OUT_OF_STEP = 2.0


def static_symptoms(facts: ModelFacts) -> list[Symptom]:
    """Findings of all rules, those of one cause and fix put together, in the model's order."""
    found = [symptom for rule in RULES for norm in facts.norms for symptom in rule(norm, facts)]
    return merged(found)


def merged(symptoms: list[Symptom]) -> list[Symptom]:
    """One for each cause, severity and fix, with all its paths; the first one's detail."""
    groups: dict[Any, list[Symptom]] = {}
    for symptom in symptoms:
        key = symptom.cause, symptom.severity, symptom.remedy, symptom.advice
        groups.setdefault(key, []).append(symptom)
    return [_one(group) for group in groups.values()]


def _one(group: list[Symptom]) -> Symptom:
    paths = tuple(dict.fromkeys(path for symptom in group for path in symptom.paths))
    remedy = group[0].remedy
    return replace(group[0], paths=paths, remedy=remedy.on(paths) if remedy else None)


# --- flags -------------------------------------------------------------------------------------


def _baked(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    if True in norm.baked:
        where = "model(x), tf.function and the exported model" if model.overrules else "predict"
        if norm.trainable:
            detail = (
                f"called with training=True: {where} normalize by the batch at hand and overwrite "
                "the moving statistics"
            )
            yield Symptom((norm.path,), "baked_training", "fault", detail, _strip(model))
            if model.makes_images:
                yield Symptom((norm.path,), "instance_statistics", "warning", _MEANT, _INSTANCES)
        else:
            detail = "called with training=True, which trainable=False keeps from having effect"
            yield Symptom((norm.path,), "baked_training", "note", detail)
    if False in norm.baked and norm.trainable:
        if model.overrules:
            detail = (
                "called with training=False, but fit overrules that in this Keras: while it is "
                "trainable, fit normalizes by the batch and moves its statistics"
            )
            yield Symptom((norm.path,), "baked_inference", "warning", detail, FREEZE)
        else:
            detail = "called with training=False, so fit leaves its statistics as they are"
            yield Symptom((norm.path,), "baked_inference", "note", detail)


#: Generators such as pix2pix's normalize by the one image that they are given, on purpose.
_MEANT = (
    "the model makes images and normalizes by the batch at hand; if it was trained on one at a "
    "time and that is meant, GroupNormalization of one group a channel does the same to each image"
)
_INSTANCES = Remedy(Verb.TO_GROUP_NORM)


def _strip(model: ModelFacts) -> Remedy:
    return Remedy(Verb.STRIP_TRAINING, model.baked_calls if model.baked_elsewhere else None)


def _stale(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    if not norm.stale:
        return
    if norm.trainable:
        detail = "trainable was set to True after compile; fit still goes by False"
        fix = Remedy(Verb.COMPILE)
    else:
        detail = "trainable was set to False after compile; fit still trains it, statistics too"
        fix = FREEZE
    yield Symptom((norm.path,), "stale_compile", "warning", detail, fix)


def _synchronized(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    if norm.synchronized:
        detail = "pools its statistics over replicas in training; inference is not affected"
        yield Symptom((norm.path,), "synchronized", "note", detail)


# --- values ------------------------------------------------------------------------------------


def _not_finite(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    statistics = {"moving_mean": norm.mean, "moving_variance": norm.variance}
    affine = {"gamma": norm.gamma, "beta": norm.beta}
    if bad := _spoilt(affine):
        advice = f"{bad} cannot be had from data; take the weights of an earlier epoch"
        yield Symptom((norm.path,), "nonfinite", "fault", _counted(bad, affine), advice=advice)
    elif bad := _spoilt(statistics):
        detail = _counted(bad, statistics)
        yield Symptom((norm.path,), "nonfinite", "fault", detail, RECALIBRATE_SOME)


def _spoilt(values: Mapping[str, Floats | None]) -> str:
    bad = [n for n, found in values.items() if found is not None and not np.isfinite(found).all()]
    return " and ".join(bad)


def _counted(bad: str, values: Mapping[str, Floats | None]) -> str:
    arrays = [found for found in values.values() if found is not None]
    number = sum(int(np.sum(~np.isfinite(found))) for found in arrays)
    return f"{bad}: {number} of {arrays[0].size} channels are not finite"


def _negative(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    negative = int(np.sum(norm.variance < 0))
    if negative:
        root = int(np.sum(norm.variance + norm.epsilon <= 0))
        detail = (
            f"the variance of {negative} of {norm.variance.size} channels is negative, down to "
            f"{np.nanmin(norm.variance):.3g}; {root} of them give no number at all"
        )
        yield Symptom((norm.path,), "negative_variance", "fault", detail, RECALIBRATE_SOME)


def _collapsed(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    """All channels alike: what training has shown the layer did not vary at all."""
    variance = norm.variance
    if variance.size < 2 or not np.isfinite(variance).all():
        return
    if bool(np.all(np.abs(variance) < _NOTHING) and np.all(norm.mean == 0)):
        detail = (
            "mean and variance of all channels are 0: batches that were masked in full, or all "
            "zeros, have taken them there"
        )
        yield Symptom((norm.path,), "zero_variance", "fault", detail, RECALIBRATE_SOME)
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
        yield Symptom((norm.path,), "batch_of_one", "fault", detail, advice=advice)


_NOTHING = 1e-12


def _gain(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
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
            "huge_gain",
            "warning",
            detail,
            None if nested else Remedy(Verb.RAISE_EPSILON, (norm.path,)),
            f"raise the epsilon of {norm.path}" if nested else "",
        )
    else:
        yield Symptom((norm.path,), "tiny_variance", "note", detail)


_TINY = 1e-6


def _out_of_step(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    wanted = np.sqrt(np.maximum(norm.variance, 0) + norm.epsilon)
    apart = [_ratio(found, wanted) for found in norm.deviations]
    apart += [1 + float(np.max(np.abs(found - norm.mean) / wanted)) for found in norm.means]
    if apart and max(apart) > _OUT_OF_STEP:
        detail = (
            f"statistics of renormalization and moving statistics differ by a factor of "
            f"{max(apart):.3g} at most; inference may go by either"
        )
        yield Symptom((norm.path,), "out_of_step", "fault", detail, RECALIBRATE_SOME)


def _ratio(found: Floats, wanted: Floats) -> float:
    with np.errstate(all="ignore"):
        ratio = np.maximum(found / wanted, wanted / found)
    return float(np.max(np.where(np.isfinite(ratio), ratio, np.inf), initial=1.0))


# --- shape -------------------------------------------------------------------------------------


def _axis(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    if norm.axis is None or norm.producer_axis is None or norm.axis == norm.producer_axis:
        return
    detail = (
        f"normalizes axis {norm.axis}, but the channels of {norm.producer} lie along axis "
        f"{norm.producer_axis}"
    )
    advice = f"build it with axis={norm.producer_axis} and train again"
    yield Symptom((norm.path,), "wrong_axis", "warning", detail, advice=advice)


# --- training ----------------------------------------------------------------------------------


def _never_updated(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    if not norm.never_updated:
        return
    if norm.has_learned or (model.steps and norm.trainable):
        detail = (
            "gamma and beta are trained, but mean and variance are still the 0 and 1 that they "
            "start from. That is right where training ran in inference mode too, and wrong "
            "otherwise; labels decide"
        )
        fix = Remedy(Verb.ASK_LABELS)
        yield Symptom((norm.path,), "never_updated", "warning", detail, fix)
    else:
        detail = "mean, variance, gamma and beta are as initialized: it has never been trained"
        yield Symptom((norm.path,), "untrained", "note", detail)


def _slow(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    """Statistics that began at 1 cannot lie below what is left of it, in any layer."""
    left = _left(norm, model)
    began = all(
        bool(np.all(other.variance >= _left(other, model) * (1 - 1e-3)))
        for other in model.norms
        if other.trainable
    )
    if left >= LEFT and norm.trainable and began and not norm.never_updated:
        detail = (
            f"after {model.steps} steps with momentum {norm.momentum:g}, {left:.0%} of the initial "
            "0 and 1 are still in the statistics"
        )
        yield Symptom((norm.path,), "unconverged", "warning", detail, RECALIBRATE)


def _left(norm: NormFacts, model: ModelFacts) -> float:
    """What the steps trained leave of the initial values; 0 where their number is not known."""
    return norm.momentum**model.steps if model.steps and 0 < norm.momentum < 1 else 0.0


RULES: tuple[Rule, ...] = (
    _baked,
    _stale,
    _not_finite,
    _negative,
    _collapsed,
    _out_of_step,
    _gain,
    _axis,
    _never_updated,
    _slow,
    _synchronized,
)
