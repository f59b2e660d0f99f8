"""Put weights of a BatchNormalization back that stand in each other's place."""

from __future__ import annotations

from typing import Any

from bnfix.adapters import weights
from bnfix.adapters.choose import adapter_of
from bnfix.diagnosis.report import Symptom


def exchange_back(model: Any, symptom: Symptom) -> str:
    """Undo what `symptom` tells, in place; what was done, in words."""
    layers = dict(adapter_of(model).batch_norms(model))
    pairs = [pair for pair in weights.EXCHANGEABLE if " and ".join(pair) in symptom.detail]
    for path in symptom.paths:
        for ours, theirs in pairs:
            weights.exchange(layers[path], ours, theirs)
    what = ", ".join(" with ".join(pair) for pair in pairs)
    return f"exchanged {what} in {', '.join(symptom.paths)}"
