"""Which BatchNormalizations can become GroupNormalizations, of how many groups?

A BatchNormalization that is called with `training=True` on one row at a time normalizes each
channel of that row by itself: that is a GroupNormalization of one group a channel, exactly. All
others are replaced by something else, which data can bring close to what they computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnfix.errors import OptionError
from bnfix.graph.definition import LayerKey
from bnfix.graph.graph import Call
from bnfix.graph.source import Source
from bnfix.numerics import groups as rules
from bnfix.numerics.norm import GroupNormSpec, NormSpec
from bnfix.passes.absorbing import Objection


@dataclass(frozen=True)
class Site:
    """A BatchNormalization that can become a GroupNormalization.

    Attributes:
        norm: What it holds.
        candidates: Numbers of groups to choose from, by data if there are several.
        by_batch: Whether it is called with `training=True`, so that on a single row it already is
            a GroupNormalization of one group a channel.
    """

    norm: NormSpec
    candidates: tuple[int, ...]
    by_batch: bool

    def spec(self, groups: int) -> GroupNormSpec:
        """With gamma, beta and epsilon of the BatchNormalization."""
        norm = self.norm
        return GroupNormSpec(groups, norm.axis, norm.gamma, norm.beta, norm.epsilon)

    def is_exact(self, groups: int) -> bool:
        """Whether so many groups reproduce the BatchNormalization on single rows."""
        return self.by_batch and groups == self.norm.channels


def checked(groups: Any) -> int | str:
    """`groups`, numpy's numbers as Python's; refuses what no number of groups can be."""
    if isinstance(groups, str) and groups == "auto":
        return groups
    number = isinstance(groups, int | np.integer) and not isinstance(groups, bool)
    if number and (groups == -1 or int(groups) > 0):
        return int(groups)
    raise OptionError(
        f'groups is {groups!r}; it may be "auto", a positive number, or -1 for one group a channel.'
    )


def sites(
    source: Source, norms: Iterable[LayerKey], groups: int | str, *, data: bool
) -> tuple[dict[LayerKey, Site], dict[LayerKey, str]]:
    """Which of `norms` can be replaced, and why the others must stay.

    Args:
        source: The model.
        norms: BatchNormalizations that its graph calls.
        groups: "auto"; -1 for one group a channel; or a number, of which the largest divisor of
            the channels up to it is taken.
        data: Whether there is data to choose by.
    """
    first: dict[LayerKey, Call] = {}
    for call in source.graph:
        first.setdefault(call.layer, call)
    found: dict[LayerKey, Site] = {}
    objections: dict[LayerKey, str] = {}
    for key in norms:
        try:
            found[key] = _site(source, source.graph.sharing(first[key]), groups, data)
        except Objection as objection:
            objections[key] = str(objection)
    return found, objections


def _site(source: Source, calls: tuple[Call, ...], groups: int | str, data: bool) -> Site:
    first = calls[0]
    norm = source.norm(first)
    if norm is None:
        raise Objection("normalizes over several axes at once")
    if norm.axis == 0:
        raise Objection("normalizes along the axis of the rows")
    if any(call.masked for call in calls):
        raise Objection("a mask comes with its inputs, which GroupNormalization does not heed")
    by_batch = norm.trainable and any(call.training for call in calls)
    values = min((_values(call, norm.axis) for call in calls), key=lambda n: n or math.inf)
    candidates = _candidates(norm.channels, values, groups, by_batch=by_batch, data=data)
    return Site(norm, candidates, by_batch)


def _values(call: Call, axis: int) -> int | None:
    """Of a row in each channel; None where that is not known."""
    sizes = [size for at, size in enumerate(call.inputs[0].shape) if at not in (0, axis)]
    return None if None in sizes else math.prod(size or 0 for size in sizes)


def _candidates(
    channels: int, values: int | None, groups: int | str, *, by_batch: bool, data: bool
) -> tuple[int, ...]:
    if values == 1 and by_batch and groups == "auto":
        raise Objection(
            "is called with training=True on inputs of one value a channel, of which a single row "
            "leaves only beta; run bnfix.strip_training first"
        )
    if values == 1 and channels < rules.FEWEST:
        raise Objection(
            f"its rows have {channels} values to normalize by, one a channel; "
            f"{rules.FEWEST} are needed"
        )
    if values == 1 and groups == -1:
        raise Objection("a group would have one value a row, and be erased")
    if groups == -1 or (groups == "auto" and by_batch and not data):
        return (channels,)
    if groups == "auto" and data:
        return tuple(rules.candidates(channels, values))
    found = rules.usual(channels, values) if groups == "auto" else None
    if isinstance(groups, int):
        found = rules.at_most(channels, values, groups)
    if found is None:
        raise Objection(f"no number of groups divides its {channels} channels")
    return (found,)
