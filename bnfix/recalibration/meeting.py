"""Where workers bring together what each has found in its part of the data.

All of them come to the same meetings in the same order, and leave with the same bits. One meeting
is one `all_reduce` of a table with a row for each worker: a worker fills in its own and leaves the
others 0, so that the sum is what all have said. What is merged from the rows is merged by everyone
in the order of the workers.

A worker that fails says so at the next meeting, where the others wait for it. One without data
follows: it comes to every meeting, says nothing, and is told what came of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Event

import numpy as np

from bnfix.errors import ModelError, WorkerError
from bnfix.numerics.moments import ChannelMoments, Floats
from bnfix.workers import Workers

#: Numbers in a row before those that are said: how, at which meeting, and how many.
_HEAD = 3
#: How a row is said: by a worker that follows, that takes part, or that has failed.
_FOLLOWS, _TAKES_PART, _FAILED = 0.0, 1.0, 2.0
#: Numbers that a row has room for at least: 64 KiB, which cost no more than a byte would.
_ROOM = 1 << 13


class Meeting:
    """That of a process without others: everything is as it has found it."""

    size = 1

    def agree(self, *, engine: str, room: int, levels: int | None = None) -> None:
        """Find out whether all do the same.

        Args:
            engine: Which this one runs.
            room: Most numbers that it may say at a later meeting.
            levels: How many meetings there will be where moments are merged, where that is known.

        Raises:
            WorkerError: They do not.
        """

    def merged(self, found: Mapping[str, ChannelMoments], *, at: str) -> dict[str, ChannelMoments]:
        """The moments of each path over all workers.

        Args:
            found: Of this one's data, for any of the paths; not changed.
            at: Which meeting this is; the same for all who take part.

        Raises:
            WorkerError: One has failed, is gone, or is at another meeting.
        """
        return dict(found)

    def gathered(self, said: Floats, *, at: str) -> list[Floats]:
        """What each worker says at the meeting `at`, by rank; raises as `merged` does."""
        return [said]

    def finish(self, moments: dict[str, ChannelMoments]) -> None:
        """The measurements are over, and these are what came of them."""

    def follow(self) -> tuple[str, dict[str, ChannelMoments]] | None:
        """For a worker without data: the engine of the others and what they found, at the end."""
        return None


class Together(Meeting):
    """That of several workers.

    Args:
        workers: All of them.
        channels: By path, the channels of each BatchNormalization; the same for all.
        engines: All that there are.
    """

    def __init__(
        self,
        workers: Workers,
        channels: Mapping[str, int],
        engines: Sequence[str],
    ) -> None:
        self.workers, self.size = workers, workers.size
        self._channels = channels
        self._paths, self._engines = list(channels), list(engines)
        self._room, self._speaker = _ROOM, 0
        self._engine = ""
        self._followers = self._ended = False
        self.cancelled = Event()  # by whoever waits for the work, and does so no more

    @contextmanager
    def attended(self) -> Generator[None]:
        """An error within the block is told to the others, at the meeting where they wait."""
        try:
            yield
        except WorkerError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}\n{error}".encode()[:_ROOM]
            with suppress(WorkerError):  # who failed elsewhere too
                self._meet(_FAILED, np.frombuffer(said, np.uint8).astype(np.float64), at="")
            raise

    def compare(self, facts: Mapping[str, str]) -> None:
        """Find out whether all have the same.

        Args:
            facts: By what to call it.

        Raises:
            WorkerError: They have not.
        """
        rows = self.gathered(np.array([_digest(fact) for fact in facts.values()]), at="start")
        for name, *told in zip(facts, *rows, strict=True):
            for rank, value in enumerate(told):
                if value != told[0]:
                    raise WorkerError(
                        f"workers 0 and {rank} have not the same {name}. All have to call bnfix "
                        "with the same model, the same weights and the same options."
                    )

    def agree(self, *, engine: str, room: int, levels: int | None = None) -> None:
        how = _TAKES_PART if engine else _FOLLOWS
        number = self._engines.index(engine) if engine else -1
        rows = self._meet(how, np.array([float(number), float(room)]), at="the engine")
        working = {rank: int(row[0]) for rank, row in enumerate(rows) if row[0] >= 0}
        names = sorted({self._engines[number] for number in working.values()})
        if len(names) > 1:
            raise WorkerError(
                f"the data takes some workers through the {names[0]} engine and others through the "
                f"{names[1]} one. Give all of them rows of the same shapes."
            )
        self._room = max(_ROOM, *(int(row[1]) for row in rows))
        self._followers = len(working) < self.size
        self._speaker = min(working, default=0)
        self._engine = names[0] if names else ""

    def merged(self, found: Mapping[str, ChannelMoments], *, at: str) -> dict[str, ChannelMoments]:
        rows = self._meet(_TAKES_PART, self._written(found), at=at)
        return self._pooled(rows)

    def gathered(self, said: Floats, *, at: str) -> list[Floats]:
        return self._meet(_TAKES_PART, said, at=at)

    def gathered_in_parts(self, said: Floats) -> Iterator[list[Floats]]:
        """As `gathered`, for more numbers than a meeting has room for."""
        for start in range(0, said.size, self._room):
            yield self.gathered(said[start : start + self._room], at=f"part {start}")

    def finish(self, moments: dict[str, ChannelMoments]) -> None:
        self._meet(_TAKES_PART, np.zeros(0), at=_END)
        if self._followers:
            for path in self._paths:
                speaks = self.workers.rank == self._speaker and path in moments
                said = {path: moments[path]} if speaks else {}
                self._meet(_TAKES_PART, self._written(said), at=path)

    def follow(self) -> tuple[str, dict[str, ChannelMoments]] | None:
        self.agree(engine="", room=0)
        if not self._engine:
            return None  # nobody has any
        while not self._ended:
            self._meet(_FOLLOWS, np.zeros(0), at="")
        rows = [self._meet(_FOLLOWS, np.zeros(0), at="") for _ in self._paths]
        found: dict[str, ChannelMoments] = {}
        for told in rows:
            found |= self._pooled(told)
        return self._engine, found

    # --- one meeting -------------------------------------------------------------------------

    def _meet(self, how: float, said: Floats, *, at: str) -> list[Floats]:
        """What all have said, by rank."""
        if self.cancelled.is_set() and how != _FAILED:
            raise ModelError("the call was interrupted, by Ctrl-C for example.")
        table = np.zeros((self.size, _HEAD + self._room))
        row = table[self.workers.rank]
        row[:_HEAD] = how, _digest(at), said.size
        row[_HEAD : _HEAD + said.size] = said
        table = self.workers.all_reduce(table)
        told = [row[_HEAD : _HEAD + int(row[2])] for row in table]
        self._check_failures(table[:, 0], told)
        meetings = {row[1] for row in table if row[0] == _TAKES_PART}
        if len(meetings) > 1:
            raise WorkerError(
                "some workers are at another place than the others: their data takes another way "
                "through the model, or they call other functions of bnfix. All of them have to "
                "make the same calls in the same order."
            )
        self._ended = meetings == {_digest(_END)}
        return told

    def _check_failures(self, how: Floats, told: list[Floats]) -> None:
        for rank in np.flatnonzero(how == _FAILED):
            if rank == self.workers.rank:
                continue
            text = told[rank].astype(np.uint8).tobytes().decode(errors="replace")
            kind, _, message = text.partition("\n")
            raise WorkerError(
                f"worker {rank} failed, so that worker {self.workers.rank} stopped too: "
                f"{kind}: {message}",
                kind=kind,
            )

    def _written(self, found: Mapping[str, ChannelMoments]) -> Floats:
        said = [np.concatenate([[self._paths.index(path)], *m.part]) for path, m in found.items()]
        return np.concatenate(said) if said else np.zeros(0)

    def _pooled(self, rows: list[Floats]) -> dict[str, ChannelMoments]:
        found: dict[str, ChannelMoments] = {}
        for row in rows:
            at = 0
            while at < row.size:
                path = self._paths[int(row[at])]
                channels = self._channels[path]
                part = row[at + 1 : at + 1 + 3 * channels].reshape(3, channels)
                found.setdefault(path, ChannelMoments(channels)).merge(*part)
                at += 1 + 3 * channels
        return {path: found[path] for path in self._paths if path in found}


#: The last meeting of the measurements.
_END = "end"


def room_for(channels: Iterable[int]) -> int:
    """Numbers that moments take, of one BatchNormalization for each of `channels`."""
    return sum(1 + 3 * number for number in channels)


def _digest(text: str) -> float:
    """Tells texts apart; 48 bits, which a float64 holds."""
    return float(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big"))
