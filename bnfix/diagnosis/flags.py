"""Flags and calls that are not what they should be, or not what they look like."""

from __future__ import annotations

from collections.abc import Iterator

from bnfix.diagnosis.cause import Cause
from bnfix.diagnosis.diagnosis_report import Symptom
from bnfix.diagnosis.model_facts import ModelFacts, NormFacts
from bnfix.diagnosis.remedies import FREEZE
from bnfix.remedy import Remedy, Verb


def baked(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    if True in norm.baked:
        if norm.trainable:
            detail = f"called with training=True: {_IN_CALLS if norm.overruled else _IN_PREDICT}"
            others = any(one.overruled for one in model.norms if True in one.baked)
            advice = _IN_CODE if others and not norm.overruled else ""
            remedy = _strip(model)
            yield Symptom((norm.path,), Cause.BAKED_TRAINING, "fault", detail, remedy, advice)
            if model.makes_images:
                yield Symptom(
                    (norm.path,), Cause.INSTANCE_STATISTICS, "warning", _MEANT, _INSTANCES
                )
        else:
            detail = "called with training=True, which trainable=False keeps from having effect"
            yield Symptom((norm.path,), Cause.BAKED_TRAINING, "note", detail)
    if False in norm.baked and norm.trainable:
        if norm.overruled:
            detail = (
                "called with training=False, but fit overrules that in this Keras: while it is "
                "trainable, fit normalizes by the batch and moves its statistics"
            )
            yield Symptom((norm.path,), Cause.BAKED_INFERENCE, "warning", detail, FREEZE)
        else:
            detail = "called with training=False, so fit leaves its statistics as they are"
            yield Symptom((norm.path,), Cause.BAKED_INFERENCE, "note", detail)


_IN_CODE = "this one stands in code, which predict obeys"
_IN_PREDICT = "predict normalizes by the batch at hand and overwrites the moving statistics"
_IN_CALLS = (
    "model(x), compiled calls and the exported model normalize by the batch at hand and overwrite "
    "the moving statistics"
)

#: Generators such as pix2pix's normalize by the one image that they are given, on purpose.
_MEANT = (
    "the model makes images and normalizes by the batch at hand; if it was trained on one at a "
    "time and that is meant, GroupNormalization of one group a channel does the same to each image"
)
_INSTANCES = Remedy(Verb.TO_GROUP_NORM)


def _strip(model: ModelFacts) -> Remedy:
    return Remedy(Verb.STRIP_TRAINING, model.baked_calls if model.baked_elsewhere else None)


def stale(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    if not norm.stale:
        return
    if norm.trainable:
        detail = "trainable was set to True after compile; fit still goes by False"
        fix = Remedy(Verb.COMPILE)
    else:
        detail = "trainable was set to False after compile; fit still trains it, statistics too"
        fix = FREEZE
    yield Symptom((norm.path,), Cause.STALE_COMPILE, "warning", detail, fix)


def synchronized(norm: NormFacts, model: ModelFacts) -> Iterator[Symptom]:
    if norm.synchronized:
        detail = "pools its statistics over replicas in training; inference is not affected"
        yield Symptom((norm.path,), Cause.SYNCHRONIZED, "note", detail)


def by_default(model: ModelFacts) -> Iterator[Symptom]:
    """What runs before a BatchNormalization in training mode, unless someone says otherwise."""
    if model.augmenting:
        detail = (
            "training=True is the default of its call, and in this Keras goes over to every "
            "BatchNormalization behind it: model(x) normalizes by the batch at hand and overwrites "
            "the moving statistics; predict, fit and model(x, training=False) are right"
        )
        remedy = Remedy(Verb.STRIP_AUGMENTATION)
        advice = "or call model(x, training=False)"
        yield Symptom(model.augmenting, Cause.TRAINING_BY_DEFAULT, "note", detail, remedy, advice)
