"""One round over one shard: what reaches the BatchNormalizations there, as far as it can be known.

Exact statistics of a level depend on those of all before it, over all shards. So a round goes by
the levels that are known already, and ends with the first one that is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bnfix.adapters.subject import Subject
from bnfix.breadth_first.loading import Loaded, loaded
from bnfix.data.sizes import InBatchesOf
from bnfix.errors import BnfixError, StatisticsError
from bnfix.graph.select import Selection
from bnfix.numerics.moments import ChannelMoments
from bnfix.recalibration.estimate import estimate
from bnfix.recalibration.meeting import Meeting
from bnfix.recalibration.procedure import Options, read
from bnfix.recalibration.shard_files import Level, Record
from bnfix.recalibration.shards import Statistics, told_apart
from bnfix.recalibration.targets import targets
from bnfix.restoring import all_or_nothing


@all_or_nothing()
def statistics(
    model: Any,
    ds: Any,
    *,
    after: Statistics | None = None,
    method: str = "exact",
    batch_size: int = 32,
    steps: int | None = None,
    layers: Selection = None,
    include_frozen: bool = True,
    ddof: int = 0,
    memory_limit: int | str | None = None,
    verbose: int | str = "auto",
) -> Statistics:
    """Measure what reaches every BatchNormalization over one shard of the data; changes nothing.

    Args:
        model: As for `recalibrate`.
        ds: A shard, with at least one row.
        after: The sum over all shards of the round before, for the next level of "exact".
        method: "streaming" is complete after one round; "exact" takes one for each level, of a
            model whose calls a graph does not show one for each BN in turn and one more.
        batch_size: As for `recalibrate`, as are the rest.
        steps: Number of batches to take.
        layers: Paths or a function of a path; all by default.
        include_frozen: Whether BNs with `trainable=False` are measured too.
        ddof: Of the variance.
        memory_limit: Bytes that tensors may take.
        verbose: "auto" shows progress on a terminal.

    Raises:
        BnfixError: As `recalibrate` does; StatisticsError if `after` is of something else.

    Examples:
        >>> half = bnfix.statistics(model, x[:32], method="streaming", verbose=0)
        >>> both = half + bnfix.statistics(model, x[32:], method="streaming", verbose=0)
        >>> both.complete, both.rows == len(x)
        (True, True)
    """
    subject = Subject.of(model)
    options = Options(
        method, batch_size, steps, layers, include_frozen, 1, ddof, memory_limit, False, None,
        verbose,
    )  # fmt: skip
    norms = targets(subject, layers, include_frozen=include_frozen)
    facts = {
        "model": told_apart(subject),
        "method": method,
        "ddof": str(ddof),
        "layers": " ".join(norms),
    }
    known = () if after is None else after.record.levels
    if after is not None and (after.complete or after.record.told != facts):
        raise StatisticsError(
            "after= is of another model, other weights or other options, or complete already. Pass "
            "the sum of the round before, or None for the first."
        )
    rounds, counted = _Rounds(known), _Counted()
    sized = InBatchesOf(subject.adapter.batch_size(model), read(ds, options))
    stream = counted.over(loaded(subject, sized))
    try:
        found = estimate(subject, norms, stream, options.settings, rounds).moments
        # Of all calls of each layer, which were levels of their own.
        last, complete = Level("the end", found), True
    except _Reached as reached:
        last, complete = reached.level, len(known) + 1 == rounds.levels
    return Statistics(Record(facts, (*known, last), counted.rows, ddof, complete))


class _Counted:
    """Counts the rows that pass."""

    rows = 0

    def over(self, batches: Iterator[Loaded]) -> Iterator[Loaded]:
        for one in batches:
            self.rows += one.rows
            yield one


class _Reached(BnfixError):
    """What was to be found out in this round is known; it never leaves this module."""

    def __init__(self, level: Level) -> None:
        super().__init__(level.at)
        self.level = level


class _Rounds(Meeting):
    """Meetings of one round each, of which the first ones have been."""

    def __init__(self, known: tuple[Level, ...]) -> None:
        self._coming = iter(known)
        self.levels: int | None = None

    def agree(self, *, engine: str, room: int, levels: int | None = None) -> None:
        self.levels = levels

    def merged(self, found: Mapping[str, ChannelMoments], *, at: str) -> dict[str, ChannelMoments]:
        if not found:
            return {}
        level = next(self._coming, None)
        if level is None:
            raise _Reached(Level(at, dict(found)))
        if level.at != at:
            raise StatisticsError(
                f"after= was measured at {level.at}, where this shard comes to {at}: its data "
                "takes another way through the model."
            )
        return dict(level.found)
