"""Statistics measured shard by shard, by whatever runs: processes, a cluster, a queue of jobs.

What one shard holds adds up with what others hold (Chan, Golub & LeVeque 1983), wherever and
whenever they were measured:

    statistics = sum(bnfix.statistics(model, shard, method="streaming") for shard in shards)
    statistics.apply(model)

Exact statistics need a round for each level of BatchNormalizations, since what reaches one depends
on those before it, over all shards:

    known = None
    while known is None or not known.complete:
        known = sum(bnfix.statistics(model, shard, after=known) for shard in shards)
    known.apply(model)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bnfix.adapters import state, weights
from bnfix.adapters.fingerprint import of_trained
from bnfix.adapters.subject import Subject
from bnfix.errors import OptionError, StatisticsError
from bnfix.graph.select import alternatives
from bnfix.numerics.moments import ChannelMoments, Floats
from bnfix.recalibration.commit import committed
from bnfix.recalibration.shard_files import Level, Record, opened, written
from bnfix.restoring import all_or_nothing


@dataclass(frozen=True)
class Statistics:
    """What reaches the BatchNormalizations of a model, over the data seen so far.

    Attributes:
        record: Everything, as it is saved.
    """

    record: Record

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be measured; else they are to be passed as `after`."""
        return self.record.complete

    @property
    def rows(self) -> int:
        """Rows of data that they rest on."""
        return self.record.rows

    @property
    def paths(self) -> tuple[str, ...]:
        """The layers measured so far, by full path."""
        return tuple(self._moments)

    @all_or_nothing()
    def mean(self, path: str) -> Floats:
        """(channels,), of what reaches the layer at `path`.

        Raises:
            OptionError: It is none of `paths`.
        """
        return self._at(path).mean

    @all_or_nothing()
    def variance(self, path: str) -> Floats:
        """(channels,), of what reaches the layer at `path`.

        Raises:
            OptionError: It is none of `paths`.
            StatisticsError: It saw too few values for a variance.
        """
        return self._at(path).variance(ddof=self.record.ddof)

    def _at(self, path: str) -> ChannelMoments:
        found = self._moments
        if path not in found:
            raise OptionError(
                f"no layer of these statistics is at {path!r}; "
                f"{alternatives([str(path)], list(found))}. Ask for one of `paths`.",
                path=str(path),
            )
        return found[path]

    @property
    def _moments(self) -> Mapping[str, ChannelMoments]:
        return {path: found for level in self.record.levels for path, found in level.found.items()}

    @all_or_nothing()
    def __add__(self, other: Any) -> Statistics:
        """Of both parts of the data.

        Raises:
            StatisticsError: They are of different models, options or rounds.
        """
        if not isinstance(other, Statistics):
            return NotImplemented
        ours, theirs = self.record, other.record
        if ours.facts != theirs.facts:
            raise StatisticsError(
                "these statistics do not add up: they are of different models, weights, options or "
                f"rounds ({_difference(ours, theirs)}). Add up those of one round over the shards "
                "of one data set."
            )
        *settled, last = ours.levels
        found = {path: moments.copy() for path, moments in last.found.items()}
        for path, moments in theirs.levels[-1].found.items():
            found.setdefault(path, ChannelMoments(moments.mean.size)).absorb(moments)
        levels = (*settled, Level(last.at, found))
        return Statistics(replace(ours, levels=levels, rows=ours.rows + theirs.rows))

    def __radd__(self, other: Any) -> Statistics:
        """`sum` begins with 0."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    @all_or_nothing()
    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write them to `path`, an `.npz` file of numbers and text.

        Raises:
            FileError: There is a file already and `overwrite` is not given, or it cannot be
                written.
        """
        written(self.record, Path(path), overwrite=overwrite)

    @classmethod
    @all_or_nothing()
    def load(cls, path: str | Path) -> Statistics:
        """Those saved at `path`.

        Raises:
            FileError: It cannot be read, or holds something else.
        """
        return cls(opened(Path(path)))

    def apply(self, model: Any, *, prior: float = 0.0) -> Any:
        """Store them in `model`, the one that they were measured on or one of the same weights.

        With a `prior` of N rows, those that the model has are kept in part, as for data of another
        domain of which there are only n rows (Schneider et al. 2020, arXiv:2006.16971, equation 2):

            mean     = N / (N + n) * stored mean     + n / (N + n) * mean of the data
            variance = N / (N + n) * stored variance + n / (N + n) * variance of the data

        Args:
            model: Changed in place, all or nothing.
            prior: N; 0 keeps nothing of what is stored.

        Returns:
            The model.

        Raises:
            StatisticsError: They are not complete, or of another model.
            OptionError: `prior` is less than 0 or not finite.
        """
        return _applied(model, self, prior)


@all_or_nothing(state.everything)
def _applied(model: Any, found: Statistics, prior: float) -> Any:
    subject = Subject.of(model)
    adapter = subject.adapter
    if not 0 <= prior < float("inf"):
        raise OptionError(f"prior is {prior!r}; it may be 0 or a number of rows above.")
    if not found.complete:
        raise StatisticsError(
            f"these statistics are those of {len(found.record.levels)} of more rounds. Pass their "
            "sum over all shards as after= until they are complete."
        )
    if found.record.told["model"] != told_apart(subject):
        raise StatisticsError(
            f"these statistics are not of {model.name}: its layers or weights are others than "
            "those that they were measured on."
        )
    norms, share = dict(adapter.batch_norms(model)), found.rows / (prior + found.rows)
    updates: list[tuple[Any, Floats, Floats]] = []
    for path in found.paths:
        stored = weights.read_statistics(norms[path])
        new = found.mean(path), found.variance(path)
        blended = [(1 - share) * old + share * now for old, now in zip(stored, new, strict=True)]
        updates.append((norms[path], blended[0], blended[1]))
    with committed(adapter, updates) as keep:
        keep()
    return model


def told_apart(subject: Subject) -> str:
    """Tells a model, by its layers and by all that is trained, from others."""
    paths = " ".join(path for path, _ in subject.adapter.batch_norms(subject.model))
    return f"{of_trained(subject)} {paths}"


def _difference(ours: Record, theirs: Record) -> str:
    differing = [key for key, value in ours.facts.items() if theirs.facts.get(key) != value]
    return ", ".join(differing) or "what they hold"
