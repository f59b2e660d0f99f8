"""What data give away: statistics that are not those of what reaches the layer, and why not.

A layer can be off for reasons of its own (`single`). What is left is explained together: one number
of updates that fits all layers means that training was too short for the momentum; otherwise the
statistics are those of other data, or of other weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bnfix.diagnosis.cause import Cause
from bnfix.diagnosis.data_facts import DataFacts, Losses
from bnfix.diagnosis.diagnosis_report import LayerDistance, Symptom
from bnfix.diagnosis.model_facts import ModelFacts, NormFacts
from bnfix.diagnosis.remedies import RECALIBRATE, RECALIBRATE_JUDGED, RECALIBRATE_SOME
from bnfix.diagnosis.single import Pair, apart, fitted, of_its_own
from bnfix.diagnosis.static import merged
from bnfix.diagnosis.updates import FROZEN, LEFT, THAW
from bnfix.numerics.convergence import Convergence
from bnfix.numerics.tolerance import BETWEEN, SHIFTED
from bnfix.numerics.units import other_unit, told
from bnfix.remedy import Remedy, Verb

#: Fewest values per channel on which a judgement of statistics rests.
MIN_COUNT = 32


def measured_symptoms(facts: ModelFacts, of_data: DataFacts) -> list[Symptom]:
    """Findings about the layers that were measured; see the module."""
    pairs = [(n, of_data.layers[n.path]) for n in facts.norms if n.path in of_data.layers]
    found = [symptom for pair in pairs for symptom in _few(pair)]
    finite = [pair for pair in pairs if pair[1].count >= MIN_COUNT and _is_finite(pair[0])]
    judged = [pair for pair in finite if np.all(pair[0].variance >= 0)]
    found += [symptom for pair in judged for symptom in _shared(pair)]
    if in_units := list(_in_other_units(judged)):  # what else the data tell is told in them, too
        return merged([*found, *in_units])
    own = [symptom for pair in finite for symptom in of_its_own(pair, judged)]
    explained = {path for symptom in own for path in symptom.paths}
    clear = before_spreading([pair[0].path for pair in finite], own)
    rest = [pair for pair in judged if pair[0].path not in explained and pair[0].path in clear]
    found += own
    never = [pair for pair in rest if pair[0].never_updated]
    rest = [pair for pair in rest if not pair[0].never_updated]
    found += _never_updated(never, of_data.losses)
    still = frozenset(n.path for n, _ in rest if _is_kept_still(n))
    found += _together(rest, of_data.losses, of_data.rows, still)
    return merged(found)


def behind_what_stays(facts: ModelFacts, of_data: DataFacts) -> tuple[str, ...]:
    """Paths of the layers to be measured again, with those that are kept still as they are.

    They were measured on inputs normalized by the actual statistics of all layers before them. So
    they seem off where one before them is and stays so, which is where no loss says otherwise.
    """
    known = [
        (norm, of_data.layers[norm.path]) for norm in facts.norms if norm.path in of_data.layers
    ]
    still = [pair for pair in known if _is_kept_still(pair[0]) and _is_finite(pair[0])]
    if of_data.losses or not _off(still, of_data.rows):
        return ()
    return tuple(norm.path for norm, _ in known if not _is_kept_still(norm))


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
            fit = fitted([(norm, population)])
            fraction, updates = (fit.fraction, fit.updates) if fit else (None, None)
            off = apart((norm, population))
            found.append(LayerDistance(norm.path, population.count, off, fraction, updates))
    return tuple(found)


def _is_kept_still(norm: NormFacts) -> bool:
    """Whether fit leaves its statistics as they are, so that what is behind it learns with them."""
    return not norm.trainable or (False in norm.baked and not norm.overruled)


def _is_finite(norm: NormFacts) -> bool:
    return bool(np.isfinite(norm.mean).all() and np.isfinite(norm.variance).all())


def _few(pair: Pair) -> Iterator[Symptom]:
    norm, actual = pair
    if actual.count < MIN_COUNT:
        detail = (
            f"the data give {actual.count} values per channel; {MIN_COUNT} are the least that "
            "anything can be told from"
        )
        yield Symptom((norm.path,), Cause.TOO_FEW_VALUES, "note", detail)


def _shared(pair: Pair) -> Iterator[Symptom]:
    norm, actual = pair
    if actual.between > BETWEEN:
        detail = (
            f"is called {norm.calls} times on inputs so different that {actual.between:.0%} of a "
            "channel's variance lies between the calls: in training each was normalized by its "
            "own, in inference all are by one"
        )
        advice = "give each input a BatchNormalization of its own and train again"
        yield Symptom((norm.path,), Cause.SHARED_DOMAINS, "fault", detail, advice=advice)


def _in_other_units(pairs: list[Pair]) -> Iterator[Symptom]:
    """What reaches the first layer, which no normalization hides from it."""
    factor = _unit(pairs[0]) if pairs else None
    if factor is None:
        return
    near = [(norm, _unit((norm, actual)) or 1.0) for norm, actual in pairs]
    paths = tuple(norm.path for norm, own in near if _is_near(own, factor))
    detail = (
        f"in every channel the data vary {told(factor)} as the stored statistics have it: they are "
        "in other units than in training, as images of 0 to 255 are for a network trained on 0 to 1"
    )
    prepared = f"x / {factor:.3g}" if factor > 1 else f"{1 / factor:.3g} * x"
    advice = (
        f"pass the data prepared as for training, about {prepared} unless something is added too "
        "(--scale of the command), and diagnose again. Only a model that is to take such data "
        "from now on is to be recalibrated on them"
    )
    yield Symptom(paths, Cause.OTHER_UNITS, "fault", detail, advice=advice)


def _is_near(one: float, other: float) -> bool:
    return abs(np.log(one / other)) < np.log(_NEAR)


#: Two factors this near are one.
_NEAR = 1.5


def _unit(pair: Pair) -> float | None:
    norm, actual = pair
    if norm.never_updated:
        return None
    return other_unit(norm.mean, norm.variance, actual.mean, actual.variance)


# --- all layers together ---------------------------------------------------------------------


def _never_updated(pairs: list[Pair], losses: Losses | None) -> Iterator[Symptom]:
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


def _together(
    pairs: list[Pair], losses: Losses | None, rows: int, still: frozenset[str]
) -> Iterator[Symptom]:
    """Too few updates, or other data; the loss, where it is known, has the last word.

    Without it nothing is advised for `still`, layers that are frozen: a network trained behind a
    frozen base has learned with just these statistics, whatever data they came from.
    """
    frozen = [] if losses else [pair for pair in pairs if pair[0].path in still]
    moving = [pair for pair in pairs if losses or pair[0].path not in still]
    remedy = RECALIBRATE_SOME if frozen else RECALIBRATE
    fit, off = fitted(moving), _off(moving, rows)
    if fit and (fit.fraction >= LEFT or off) and _is_common(moving, fit):
        paths = tuple(norm.path for norm, _ in moving)
        left = "" if fit.updates is None else f", as after {fit.updates:.0f} updates"
        detail = (
            f"{fit.fraction:.0%} of the initial 0 and 1 are still in the statistics of all "
            f"layers{left}; that explains {fit.explained:.0%} of their distance from the data"
        )
        yield _judged(paths, Cause.UNCONVERGED, "fault", detail, losses, remedy)
    elif off:
        paths, severity = tuple(norm.path for norm, _ in off), "fault" if losses else "warning"
        yield _judged(paths, Cause.SHIFTED, severity, _shifted(off), losses, remedy)
    if off := _off(frozen, rows):
        paths, detail = tuple(norm.path for norm, _ in off), _shifted(off) + _STILL
        yield Symptom(paths, Cause.SHIFTED, "warning", detail, Remedy(Verb.ASK_LABELS))


def _off(pairs: list[Pair], rows: int) -> list[Pair]:
    return [pair for pair in pairs if apart(pair) > SHIFTED + 1.0 / np.sqrt(rows)]


def _shifted(off: list[Pair]) -> str:
    farthest = max(off, key=apart)
    return (
        f"the stored statistics are not those of the data, by {apart(farthest):.2g} sigma in "
        f"{farthest[0].path}, and too few updates do not explain it: they come from other data "
        "or preprocessing, or from before the weights were changed or averaged"
        f"{_few_at_once(off)}"
    )


_STILL = (
    ". It is frozen, and that is right where what follows was trained with it as it is, as behind "
    "a pretrained base; labels decide"
)


def _few_at_once(pairs: list[Pair]) -> str:
    """What batches of n values leave: their variance is (n - 1) / n of that of the data."""
    with np.errstate(divide="ignore", over="ignore"):  # of a channel that is constant in the data
        logs = [np.log(n.variance / p.variance) for n, p in pairs if np.all(n.variance > 0)]
    varying = [found for found in logs if np.isfinite(found).all()]
    if not varying:
        return ""
    found = np.concatenate(varying)
    share, spread = float(np.exp(np.mean(found))), float(np.std(found))
    if not _FEWEST <= share <= _FEW or spread > -np.log(share):
        return ""
    return f", or from batches of about {1 / (1 - share):.0f} values, whose variances are smaller"


#: Shares of a variance that batches of two values leave, somewhat less, and of five.
_FEWEST, _FEW = 0.4, 0.8


def _judged(
    paths: tuple[str, ...],
    cause: Cause,
    severity: str,
    detail: str,
    losses: Losses | None,
    remedy: Remedy,
) -> Symptom:
    if losses is None:
        return Symptom(paths, cause, severity, detail, remedy)
    detail = f"{detail}; {losses}"
    if losses.worse:
        return Symptom(paths, cause, "note", f"{detail}: better left as it is")
    return Symptom(paths, cause, severity if losses.better else "warning", detail, remedy)


def _is_common(pairs: list[Pair], fit: Convergence) -> bool:
    """Whether most layers taken alone tell nearly the same."""
    alone = [fitted([pair]) for pair in pairs]
    near = [f for f in alone if f and abs(f.fraction - fit.fraction) < 0.5 * fit.fraction]
    return 2 * len(near) >= len(pairs)
