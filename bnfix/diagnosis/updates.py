"""How far training has come with the statistics, as the model alone tells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bnfix.diagnosis.cause import Cause
from bnfix.diagnosis.diagnosis_report import Symptom
from bnfix.diagnosis.model_facts import ModelFacts, NormFacts
from bnfix.diagnosis.remedies import RECALIBRATE
from bnfix.remedy import Remedy, Verb

#: Fraction of the initial values that is still noticed in predictions.
LEFT = 0.05


def never_updated(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    if not norm.never_updated:
        return
    if norm.has_learned or (model.steps and norm.trainable):
        detail = (
            "gamma and beta are trained, but mean and variance are still the 0 and 1 that they "
            "start from. That is right where training ran in inference mode too, and wrong "
            "otherwise; labels decide"
        )
        fix = Remedy(Verb.ASK_LABELS)
        yield Symptom((norm.path,), Cause.NEVER_UPDATED, "warning", detail, fix)
    elif model.steps:
        detail = f"{FROZEN}, after {model.steps} steps"
        yield Symptom(
            (norm.path,), Cause.FROZEN_UNTRAINED, "warning", detail, Remedy(Verb.ASK_LABELS), THAW
        )
    else:
        detail = "mean, variance, gamma and beta are as initialized: it has never been trained"
        yield Symptom((norm.path,), Cause.UNTRAINED, "note", detail)


FROZEN = (
    "trainable=False keeps a BatchNormalization in inference mode in training too, so that nothing "
    "in it moves: mean, variance, gamma and beta are as initialized"
)
#: What to do about it beyond the statistics.
THAW = (
    "to train it, set trainable=True and compile again; in a GAN freeze the discriminator for the "
    "generator's step only"
)


def by_momentum(symptom: Symptom, model: ModelFacts) -> Symptom:
    """`symptom`, or where the statistics could not but go wrong with that momentum, this cause."""
    momenta = {norm.momentum for norm in model.norms if norm.path in symptom.paths}
    trained = all(norm.trainable for norm in model.norms if norm.path in symptom.paths)
    about_statistics = symptom.remedy is not None and symptom.remedy.verb in _OF_STATISTICS
    if symptom.severity == "note" or not (about_statistics and trained):
        return symptom
    if any(0 <= momentum < 1 for momentum in momenta):
        return symptom
    keeps = momenta == {1.0}
    what = "leaves the moving statistics as they are" if keeps else "drives them to and fro"
    listed = " and ".join(f"{momentum:g}" for momentum in sorted(momenta))
    return replace(
        symptom,
        cause=Cause.MOMENTUM,
        detail=f"a momentum of {listed} {what} in training: {symptom.detail}",
        advice="and set the momentum to 0.99 before you train on",
    )


_OF_STATISTICS = (Verb.RECALIBRATE, Verb.ASK_LABELS)


def slow(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
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
        yield Symptom((norm.path,), Cause.UNCONVERGED, "warning", detail, RECALIBRATE)


def _left(norm: NormFacts, model: ModelFacts) -> float:
    """What the steps trained leave of the initial values; 0 where their number is not known."""
    return norm.momentum**model.steps if model.steps and 0 < norm.momentum < 1 else 0.0
