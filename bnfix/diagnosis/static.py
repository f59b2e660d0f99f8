"""What the model alone gives away about its BatchNormalizations.

Each rule looks at one layer and yields what it sees there; equal findings of several layers are
told once. A rule knows no data, so it calls something a fault only where no data could excuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from bnfix.diagnosis.diagnosis_report import Symptom
from bnfix.diagnosis.flags import baked, by_default, stale, synchronized
from bnfix.diagnosis.model_facts import ModelFacts, NormFacts
from bnfix.diagnosis.updates import never_updated, slow
from bnfix.diagnosis.values import axis, collapsed, gain, negative, not_finite, out_of_step

#: Of one layer.
Rule = Callable[[NormFacts, ModelFacts], Iterator[Symptom]]

RULES: tuple[Rule, ...] = (
    baked,
    stale,
    not_finite,
    negative,
    collapsed,
    out_of_step,
    gain,
    axis,
    never_updated,
    slow,
    synchronized,
)


def static_symptoms(facts: ModelFacts) -> list[Symptom]:
    """Findings of all rules, those of one cause and fix put together, in the model's order."""
    found = [symptom for rule in RULES for norm in facts.norms for symptom in rule(norm, facts)]
    return merged([*found, *by_default(facts)])


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
