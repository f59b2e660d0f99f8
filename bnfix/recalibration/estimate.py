"""Measure what every BatchNormalization would have to hold, and change nothing.

Which engine does it: `exact` where the graph shows every call and no BN feeds itself, `lockstep`
where not, both exact; `streaming` on request, for data that cannot be held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from bnfix.adapters import weights
from bnfix.adapters.reading import Reading
from bnfix.adapters.subject import Subject
from bnfix.breadth_first.loading import Loaded, as_inputs
from bnfix.breadth_first.memory import Need
from bnfix.breadth_first.network import Network
from bnfix.breadth_first.run import run
from bnfix.breadth_first.schedule import Schedule, schedule
from bnfix.data.batches import EMPTY
from bnfix.errors import DataError, OptionError
from bnfix.graph.definition import LayerKey
from bnfix.numerics.moments import ChannelMoments
from bnfix.progress import counted, progress
from bnfix.recalibration.batch_moments import BatchMoments
from bnfix.recalibration.lockstep import LockstepEngine
from bnfix.recalibration.meeting import Meeting, room_for
from bnfix.recalibration.opening import opened
from bnfix.recalibration.streaming import StreamingEngine
from bnfix.recalibration.targets import in_graph

METHODS = ("exact", "streaming")

#: What measures.
ENGINES = ("exact", "lockstep", "streaming")


@dataclass(frozen=True)
class Estimate:
    """What was measured.

    Attributes:
        moments: Of what reaches each BatchNormalization, by path.
        engine: "exact", "lockstep" or "streaming".
        batches: Number of batches read.
        need: Memory that the graph implies; None where there is no graph.
        notes: What else the user should know.
    """

    moments: dict[str, ChannelMoments]
    engine: str
    batches: int
    need: Need | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        method: One of `METHODS`.
        ddof: Of the variance by which measured BNs normalize.
        memory_limit: Bytes that tensors may take in memory, or None.
        verbose: Whether progress is shown, as in Keras.
        min_count: Fewest values per channel that statistics may rest on.
    """

    method: str
    ddof: int
    memory_limit: int | None
    verbose: int | str
    min_count: int


def estimate(
    subject: Subject,
    norms: dict[str, Any],
    batches: Iterator[Loaded],
    settings: Settings,
    meeting: Meeting,
) -> Estimate:
    """Moments of everything that reaches each of `norms` when `batches` run through the model.

    Args:
        subject: A built model.
        norms: The BNs to measure, by path.
        batches: Those of this process; there may be none if others have some.
        settings: How to measure.
        meeting: Where what other workers find is added.
    """
    first = next(batches, None)
    if first is None:
        return _followed(norms, meeting)
    found = _measured(subject, norms, chain([first], batches), settings, meeting)
    meeting.finish(found.moments)
    return found


def _followed(norms: dict[str, Any], meeting: Meeting) -> Estimate:
    told = meeting.follow()
    if told is None:
        raise DataError(EMPTY)
    engine, moments = told
    notes = ("this worker had no data; the statistics are those of the others",)
    return Estimate(moments, engine, 0, None, (*_unused(norms, moments), *notes))


def _measured(
    subject: Subject,
    norms: dict[str, Any],
    batches: Iterator[Loaded],
    settings: Settings,
    meeting: Meeting,
) -> Estimate:
    if settings.method == "exact":
        found, batches = opened(subject, batches, held=settings.memory_limit is None)
        keys = None if found is None else in_graph(found, norms)
        if found is not None and keys is not None:
            plan = schedule(found.graph, keys)
            # What feeds itself agrees with its statistics only after several passes.
            if not plan.chained:
                return _exact(found, norms, keys, plan, batches, settings, meeting)
            if settings.memory_limit is not None:
                raise _unlimited(
                    "no BatchNormalization that is called on a result of its own",
                    f"{plan.chained[0]} of {subject.model.name} is",
                )
    if settings.memory_limit is not None:
        raise _unlimited(
            "a graph that shows every call of a BatchNormalization",
            f"{subject.model.name} hides some in its code",
        )
    without_graph = _lockstep if settings.method == "exact" else _streaming
    return without_graph(subject, norms, batches, settings, meeting)


def _unlimited(needed: str, seen: str) -> OptionError:
    return OptionError(
        f"memory_limit needs {needed}; {seen}. Leave memory_limit out, or pass "
        'method="streaming", which holds one batch at a time.',
        advises=("memory_limit", "method"),
    )


# --- with a graph ------------------------------------------------------------------------------


def _exact(
    reading: Reading,
    norms: dict[str, Any],
    keys: dict[LayerKey, str],
    plan: Schedule,
    batches: Iterator[Loaded],
    settings: Settings,
    meeting: Meeting,
) -> Estimate:
    network = Network(reading.subject, reading.graph, reading.layers)
    stop = BatchMoments(network, keys, ddof=settings.ddof, meeting=meeting)
    levels = [{keys[call.layer] for call in stage.measures} for stage in plan.stages]
    room = max((_room(norms, paths) for paths in levels), default=0)
    meeting.agree(engine="exact", room=room, levels=sum(map(bool, levels)))
    ran = run(
        network,
        plan,
        stop,
        batches,
        doing="recalibrating",
        memory_limit=settings.memory_limit,
        verbose=settings.verbose,
    )
    moments = {path: stop.moments[path] for path in keys.values()}
    return Estimate(moments, "exact", ran.batches, ran.need, _unused(norms, moments))


def _unused(norms: dict[str, Any], moments: dict[str, ChannelMoments]) -> tuple[str, ...]:
    return tuple(
        f"{path} is not called by the model and stays as it is"
        for path in norms
        if path not in moments
    )


def _room(norms: dict[str, Any], paths: Iterable[str]) -> int:
    return room_for(weights.channels(norms[path]) for path in paths)


# --- without -----------------------------------------------------------------------------------


def _lockstep(
    subject: Subject,
    norms: dict[str, Any],
    batches: Iterator[Loaded],
    settings: Settings,
    meeting: Meeting,
) -> Estimate:
    coming = counted(batches, "reading data", settings.verbose)
    inputs = [as_inputs(subject, one) for one in coming]
    engine = LockstepEngine(subject, norms, ddof=settings.ddof, meeting=meeting)
    meeting.agree(engine="lockstep", room=max((_room(norms, [path]) for path in norms), default=0))
    with progress(None, "recalibrating", settings.verbose) as advance:
        engine.run(inputs, advance)
    return Estimate(engine.moments, "lockstep", len(inputs), None, engine.notes)


def _streaming(
    subject: Subject,
    norms: dict[str, Any],
    batches: Iterator[Loaded],
    settings: Settings,
    meeting: Meeting,
) -> Estimate:
    engine = StreamingEngine(subject, norms, ddof=settings.ddof, meeting=meeting)
    meeting.agree(engine="streaming", room=_room(norms, norms), levels=1)
    inputs = (as_inputs(subject, one) for one in batches)
    with progress(None, "recalibrating", settings.verbose) as advance:
        engine.run(inputs, advance)
    return Estimate(engine.moments, "streaming", engine.batches, None, engine.notes)
