"""What one layer's statistics tell of it alone: where else do those of the data stand?

Weights that a converter has put in each other's place, deviations where variances belong, the
statistics of another layer: each leaves numbers that are right somewhere else.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bnfix.diagnosis.cause import Cause
from bnfix.diagnosis.data_facts import Population
from bnfix.diagnosis.diagnosis_report import Symptom
from bnfix.diagnosis.model_facts import NormFacts
from bnfix.diagnosis.remedies import RECALIBRATE_SOME
from bnfix.numerics.convergence import Convergence, convergence, distance
from bnfix.numerics.moments import Floats
from bnfix.numerics.tolerance import SMALL_SHARE, SUSPICIOUS
from bnfix.remedy import Remedy, Verb

Pair = tuple[NormFacts, Population]

#: Share of a distance explained beyond which nothing else is looked for.
_ALL_BUT_ALL = 0.95

#: With fewer channels a chance agreement is too likely.
_LEAST_CHANNELS = 4

_TINY = 1e-12


def apart(pair: Pair) -> float:
    """Stored from actual statistics, in sigma."""
    norm, actual = pair
    ours, theirs = (norm.mean, norm.variance), (actual.mean, actual.variance)
    return distance(*ours, *theirs, epsilon=norm.epsilon)


def fitted(pairs: list[Pair]) -> Convergence | None:
    """What too few updates, the same number in all layers, explain of that."""
    if not pairs:
        return None
    joined = [
        np.concatenate(parts)
        for parts in zip(*[(n.mean, n.variance, p.mean, p.variance) for n, p in pairs], strict=True)
    ]
    momenta, epsilons = (
        np.concatenate([np.full(n.mean.shape, getattr(n, name)) for n, _ in pairs])
        for name in ("momentum", "epsilon")
    )
    return convergence(*joined, momentum=momenta, epsilon=epsilons)


def of_its_own(pair: Pair, pairs: list[Pair]) -> Iterator[Symptom]:
    """The reason of this layer, among all of `pairs`; none that lets a variance be negative but
    that it is none.
    """
    norm, actual = pair
    if norm.never_updated or norm.mean.size < _LEAST_CHANNELS:
        return
    if max(apart(pair), _off(norm.variance, actual.variance)) < SUSPICIOUS:
        return
    is_negative = bool(np.any(norm.variance < 0))
    fit = fitted([pair])
    if fit is not None and fit.explained > _ALL_BUT_ALL and not is_negative:
        return
    exchanged = _exchanged(norm, actual)
    if exchanged:
        yield exchanged
    elif is_negative:
        return
    elif _are_deviations(norm, actual):
        detail = (
            "the stored variances are the square roots of the actual ones, within "
            f"{_off(norm.variance, np.sqrt(actual.variance)):.0%}: standard deviations were stored"
        )
        yield Symptom((norm.path,), Cause.DEVIATIONS_STORED, "fault", detail, RECALIBRATE_SOME)
    elif other := _another(pair, pairs):
        detail = f"the stored statistics are those of {other}"
        yield Symptom((norm.path,), Cause.OF_ANOTHER_LAYER, "fault", detail, RECALIBRATE_SOME)


# --- weights in each other's place -----------------------------------------------------------


def _exchanged(norm: NormFacts, actual: Population) -> Symptom | None:
    """The statistics of the data stand in the place of other weights."""
    if norm.gamma is None or norm.beta is None:
        return None
    stored = {
        "gamma": norm.gamma,
        "beta": norm.beta,
        "moving_mean": norm.mean,
        "moving_variance": norm.variance,
    }
    homes = {
        home: place
        for home, place in (
            ("moving_mean", _place_of_mean(stored, actual)),
            ("moving_variance", _place_of_variance(stored, actual)),
        )
        if place is not None
    }
    if not homes or (homes.get("moving_mean") == "moving_variance" and len(homes) < _BOTH):
        return None
    pairs = _swaps(homes)
    which = ", ".join(" and ".join(pair) for pair in pairs)
    detail = f"{which} are exchanged: the data's statistics are found in the other"
    remedy = Remedy(Verb.EXCHANGE, (norm.path,), exchanged=pairs)
    return Symptom((norm.path,), Cause.EXCHANGED, "fault", detail, remedy)


_BOTH = 2


def _place_of_mean(stored: dict[str, Floats], actual: Population) -> str | None:
    """Which other weight is the actual mean, where neither the stored one nor 0 is."""
    sigma = np.sqrt(np.maximum(actual.variance, _TINY))
    left = {
        name: float(np.sqrt(np.mean(np.square((values - actual.mean) / sigma))))
        for name, values in stored.items()
    }
    initial = float(np.sqrt(np.mean(np.square(actual.mean / sigma))))
    return _elsewhere(left, "moving_mean", initial)


def _place_of_variance(stored: dict[str, Floats], actual: Population) -> str | None:
    """Which other weight is the actual variance, where neither the stored one nor 1 is."""
    left = {
        name: _off(values, actual.variance)
        for name, values in stored.items()
        if name == "moving_variance" or np.all(values > 0)
    }
    return _elsewhere(left, "moving_variance", _off(np.ones(1), actual.variance))


def _elsewhere(left: dict[str, float], home: str, initial: float) -> str | None:
    place = min(left, key=lambda name: left[name])
    if place == home or left[home] <= SUSPICIOUS:
        return None
    return place if left[place] < SMALL_SHARE * min(left[home], initial, 1.0) else None


def _swaps(homes: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Pairs of places whose weights to exchange, one after the other, until all are at home."""
    held: dict[str, str] = {}  # by place, what has come there; the rest is where it was
    pairs: list[tuple[str, str]] = []
    for home, origin in homes.items():
        place = next((p for p, came in held.items() if came == origin), origin)
        if place != home:
            pairs.append((home, place))
            held[home], held[place] = held.get(place, place), held.get(home, home)
    return tuple(pairs)


# --- other numbers ---------------------------------------------------------------------------


def _are_deviations(norm: NormFacts, actual: Population) -> bool:
    sigma = np.sqrt(np.maximum(actual.variance, _TINY))
    means = float(np.sqrt(np.mean(np.square((norm.mean - actual.mean) / sigma))))
    as_stored, as_root = _off(norm.variance, actual.variance), _off(norm.variance, sigma)
    return means < SUSPICIOUS / 2 and as_root < min(SMALL_SHARE * as_stored, SMALL_SHARE)


def _another(pair: Pair, pairs: list[Pair]) -> str | None:
    norm, limit = pair[0], SMALL_SHARE * min(apart(pair), 1.0)
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
