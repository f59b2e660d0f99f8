"""What data give away: statistics that are not those of what reaches the layer, and why not.

A layer can be off for reasons of its own (exchanged weights, deviations in the place of variances,
another layer's statistics). What is left is explained together: one number of updates that fits all
layers means that training was too short for the momentum; otherwise the statistics are those of
other data, or of other weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bnfix.diagnosis.cause import Cause
from bnfix.diagnosis.data_facts import DataFacts, Losses, Population
from bnfix.diagnosis.diagnosis_report import LayerDistance, Symptom
from bnfix.diagnosis.model_facts import ModelFacts, NormFacts
from bnfix.diagnosis.remedies import RECALIBRATE, RECALIBRATE_JUDGED, RECALIBRATE_SOME
from bnfix.diagnosis.static import merged
from bnfix.diagnosis.updates import FROZEN, LEFT, THAW
from bnfix.numerics.convergence import Convergence, convergence, distance
from bnfix.numerics.moments import Floats
from bnfix.remedy import Remedy, Verb

#: Fewest values per channel on which a judgement of statistics rests.
MIN_COUNT = 32

#: Distance in sigma beyond which all statistics are not those of the data. Well-trained networks
#: stay below 0.1; a sample of n rows adds 1 / sqrt(n), since values within a row are alike.
_SHIFTED = 0.2

#: The same for one layer to be suspected of a reason of its own.
_SUSPICIOUS = 0.5

#: A better explanation must leave less than this share of the distance.
_SMALL_SHARE = 0.25

#: Share of a shared layer's variance that lies between its calls.
_BETWEEN = 0.3

_Pair = tuple[NormFacts, Population]


def measured_symptoms(facts: ModelFacts, of_data: DataFacts) -> list[Symptom]:
    """Findings about the layers that were measured; see the module."""
    pairs = [(n, of_data.layers[n.path]) for n in facts.norms if n.path in of_data.layers]
    found = [symptom for pair in pairs for symptom in _few(pair)]
    judged = [pair for pair in pairs if pair[1].count >= MIN_COUNT and _is_finite(pair[0])]
    found += [symptom for pair in judged for symptom in _shared(pair)]
    own = [symptom for pair in judged for symptom in _of_its_own(pair, judged)]
    explained = {path for symptom in own for path in symptom.paths}
    clear = before_spreading([pair[0].path for pair in judged], own)
    rest = [pair for pair in judged if pair[0].path not in explained and pair[0].path in clear]
    found += own
    never = [pair for pair in rest if pair[0].never_updated]
    rest = [pair for pair in rest if not pair[0].never_updated]
    found += _never_updated(never, of_data.losses)
    found += _together(rest, of_data.losses, of_data.rows)
    return merged(found)


def before_spreading(paths: list[str], found: list[Symptom]) -> list[str]:
    """Those of `paths`, in the order in which they run, that nothing of `found` reaches."""
    sources = {path for symptom in found if symptom.cause.spreads for path in symptom.paths}
    first = next((at for at, path in enumerate(paths) if path in sources), len(paths))
    return paths[:first]


def relieved(symptom: Symptom, losses: Losses | None) -> Symptom:
    """What training on batches of one has done, with the part of it that statistics mend."""
    if symptom.cause is not Cause.BATCH_OF_ONE or losses is None or not losses.better:
        return symptom
    detail = f"{symptom.detail}; {losses}"
    advice = f"this mends a part: {symptom.advice}"
    return replace(symptom, detail=detail, remedy=RECALIBRATE_JUDGED, advice=advice)


def distances(facts: ModelFacts, of_data: DataFacts) -> tuple[LayerDistance, ...]:
    """Stored against actual statistics, layer by layer."""
    found: list[LayerDistance] = []
    for norm in facts.norms:
        if norm.path in of_data.layers:
            population = of_data.layers[norm.path]
            fit = _fit([(norm, population)])
            fraction, updates = (fit.fraction, fit.updates) if fit else (None, None)
            apart = _apart((norm, population))
            found.append(LayerDistance(norm.path, population.count, apart, fraction, updates))
    return tuple(found)


def _apart(pair: _Pair) -> float:
    norm, actual = pair
    return distance(norm.mean, norm.variance, actual.mean, actual.variance)


def _is_finite(norm: NormFacts) -> bool:
    finite = np.isfinite(norm.mean).all() and np.isfinite(norm.variance).all()
    return bool(finite and np.all(norm.variance >= 0))


def _few(pair: _Pair) -> Iterator[Symptom]:
    norm, actual = pair
    if actual.count < MIN_COUNT:
        detail = (
            f"the data give {actual.count} values per channel; {MIN_COUNT} are the least that "
            "anything can be told from"
        )
        yield Symptom((norm.path,), Cause.TOO_FEW_VALUES, "note", detail)


def _shared(pair: _Pair) -> Iterator[Symptom]:
    norm, actual = pair
    if actual.between > _BETWEEN:
        detail = (
            f"is called {norm.calls} times on inputs so different that {actual.between:.0%} of a "
            "channel's variance lies between the calls: in training each was normalized by its "
            "own, in inference all are by one"
        )
        advice = "give each input a BatchNormalization of its own and train again"
        yield Symptom((norm.path,), Cause.SHARED_DOMAINS, "fault", detail, advice=advice)


# --- reasons of one layer --------------------------------------------------------------------


def _of_its_own(pair: _Pair, pairs: list[_Pair]) -> Iterator[Symptom]:
    norm, actual = pair
    if norm.never_updated or norm.mean.size < _LEAST_CHANNELS:
        return
    if max(_apart(pair), _off(norm.variance, actual.variance)) < _SUSPICIOUS:
        return
    fit = _fit([pair])
    if fit is not None and fit.explained > _ALL_BUT_ALL:
        return
    exchanged = _exchanged(norm, actual)
    if exchanged:
        yield exchanged
    elif _are_deviations(norm, actual):
        detail = (
            "the stored variances are the square roots of the actual ones, within "
            f"{_off(norm.variance, np.sqrt(actual.variance)):.0%}: standard deviations were stored"
        )
        yield Symptom((norm.path,), Cause.DEVIATIONS_STORED, "fault", detail, RECALIBRATE_SOME)
    elif other := _another(pair, pairs):
        detail = f"the stored statistics are those of {other}"
        yield Symptom((norm.path,), Cause.OF_ANOTHER_LAYER, "fault", detail, RECALIBRATE_SOME)


#: Share of a distance explained beyond which nothing else is looked for.
_ALL_BUT_ALL = 0.95

#: With fewer channels a chance agreement is too likely.
_LEAST_CHANNELS = 4


def _exchanged(norm: NormFacts, actual: Population) -> Symptom | None:
    """Beta that is the mean, gamma that is the variance, or both."""
    sigma = np.sqrt(np.maximum(actual.variance, _TINY))
    means = _better(norm.beta, norm.mean, actual.mean, sigma)
    variances = _is_variance(norm, actual)
    if norm.gamma is None or norm.beta is None or not (means or variances):
        return None
    suspects = {("moving_mean", "beta"): means, ("moving_variance", "gamma"): variances}
    pairs = tuple(pair for pair, wrong in suspects.items() if wrong)
    which = ", ".join(" and ".join(pair) for pair in pairs)
    detail = f"{which} are exchanged: the data's statistics are found in the other"
    remedy = Remedy(Verb.EXCHANGE, (norm.path,), exchanged=pairs)
    return Symptom((norm.path,), Cause.EXCHANGED, "fault", detail, remedy)


def _better(candidate: Floats | None, stored: Floats, actual: Floats, sigma: Floats) -> bool:
    """Whether `candidate` is the actual mean, and neither the stored one nor 0 is."""
    if candidate is None:
        return False
    left, apart, initial = (
        float(np.sqrt(np.mean(np.square((found - actual) / sigma))))
        for found in (candidate, stored, np.zeros_like(actual))
    )
    return apart > _SUSPICIOUS and left < _SMALL_SHARE * min(apart, initial, 1.0)


def _is_variance(norm: NormFacts, actual: Population) -> bool:
    """Whether gamma is the actual variance, and neither the stored one nor 1 is."""
    if norm.gamma is None or bool(np.any(norm.gamma <= 0)):
        return False
    left, apart, initial = (
        _off(found, actual.variance)
        for found in (norm.gamma, norm.variance, np.ones_like(norm.gamma))
    )
    return apart > _SUSPICIOUS and left < _SMALL_SHARE * min(apart, initial, 1.0)


def _are_deviations(norm: NormFacts, actual: Population) -> bool:
    sigma = np.sqrt(np.maximum(actual.variance, _TINY))
    means = float(np.sqrt(np.mean(np.square((norm.mean - actual.mean) / sigma))))
    as_stored, as_root = _off(norm.variance, actual.variance), _off(norm.variance, sigma)
    return means < _SUSPICIOUS / 2 and as_root < min(_SMALL_SHARE * as_stored, _SMALL_SHARE)


def _another(pair: _Pair, pairs: list[_Pair]) -> str | None:
    norm, limit = pair[0], _SMALL_SHARE * min(_apart(pair), 1.0)
    for _, other in pairs:
        if other.path != norm.path and other.mean.size == norm.mean.size:
            sigma = np.sqrt(np.maximum(other.variance, _TINY))
            means = float(np.sqrt(np.mean(np.square((norm.mean - other.mean) / sigma))))
            if max(means, _off(norm.variance, other.variance)) < limit:
                return other.path
    return None


def _off(ours: Floats, theirs: Floats) -> float:
    """Root mean square over channels of the logarithm of a ratio."""
    ratio = np.log(np.maximum(ours, _TINY)) - np.log(np.maximum(theirs, _TINY))
    return float(np.sqrt(np.mean(np.square(ratio))))


_TINY = 1e-12


# --- all layers together ---------------------------------------------------------------------


def _never_updated(pairs: list[_Pair], losses: Losses | None) -> Iterator[Symptom]:
    """Only where labels decide; without them the model alone has said what can be said."""
    frozen = tuple(n.path for n, _ in pairs if not n.has_learned and not n.trainable)
    if frozen and losses is not None and losses.better:
        detail = f"{FROZEN}: {losses}"
        remedy = RECALIBRATE_JUDGED
        yield Symptom(frozen, Cause.FROZEN_UNTRAINED, "fault", detail, remedy, THAW)
    paths = tuple(norm.path for norm, _ in pairs if norm.has_learned)
    if not paths or losses is None:
        return
    if losses.better:
        detail = f"gamma and beta are trained, mean and variance are still 0 and 1: {losses}"
        yield Symptom(paths, Cause.NEVER_UPDATED, "fault", detail, RECALIBRATE_JUDGED)
    else:
        detail = (
            "mean and variance are still 0 and 1, and the network has learned with that: "
            f"{losses}. Recalibrating would break it"
        )
        yield Symptom(paths, Cause.SELF_CONSISTENT, "note", detail)


def _together(pairs: list[_Pair], losses: Losses | None, rows: int) -> Iterator[Symptom]:
    """Too few updates, or other data; the loss, where it is known, has the last word."""
    off = [pair for pair in pairs if _apart(pair) > _SHIFTED + 1.0 / np.sqrt(rows)]
    fit = _fit(pairs)
    if fit and (fit.fraction >= LEFT or off) and _is_common(pairs, fit):
        paths = tuple(norm.path for norm, _ in pairs)
        left = "" if fit.updates is None else f", as after {fit.updates:.0f} updates"
        detail = (
            f"{fit.fraction:.0%} of the initial 0 and 1 are still in the statistics of all "
            f"layers{left}; that explains {fit.explained:.0%} of their distance from the data"
        )
        yield _judged(paths, Cause.UNCONVERGED, "fault", detail, losses)
    elif off:
        farthest = max(off, key=_apart)
        detail = (
            f"the stored statistics are not those of the data, by {_apart(farthest):.2g} sigma in "
            f"{farthest[0].path}, and too few updates do not explain it: they come from other data "
            "or preprocessing, or from before the weights were changed or averaged"
        )
        paths = tuple(norm.path for norm, _ in off)
        yield _judged(paths, Cause.SHIFTED, "fault" if losses else "warning", detail, losses)


def _judged(
    paths: tuple[str, ...], cause: Cause, severity: str, detail: str, losses: Losses | None
) -> Symptom:
    if losses is None:
        return Symptom(paths, cause, severity, detail, RECALIBRATE)
    detail = f"{detail}; {losses}"
    if losses.worse:
        return Symptom(paths, cause, "note", f"{detail}: better left as it is")
    return Symptom(paths, cause, severity if losses.better else "warning", detail, RECALIBRATE)


def _fit(pairs: list[_Pair]) -> Convergence | None:
    if not pairs:
        return None
    joined = [
        np.concatenate(parts)
        for parts in zip(*[(n.mean, n.variance, p.mean, p.variance) for n, p in pairs], strict=True)
    ]
    momenta = np.concatenate([np.full(n.mean.shape, n.momentum) for n, _ in pairs])
    return convergence(*joined, momentum=momenta)


def _is_common(pairs: list[_Pair], fit: Convergence) -> bool:
    """Whether most layers taken alone tell nearly the same."""
    alone = [_fit([pair]) for pair in pairs]
    near = [f for f in alone if f and abs(f.fraction - fit.fraction) < 0.5 * fit.fraction]
    return 2 * len(near) >= len(pairs)
