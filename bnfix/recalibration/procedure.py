"""How statistics are re-estimated, by one process or by one of several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bnfix.adapters import weights
from bnfix.adapters.subject import Subject
from bnfix.breadth_first.loading import loaded
from bnfix.data.batches import Batch, batches
from bnfix.data.sizes import InBatchesOf
from bnfix.errors import OptionError, StatisticsError
from bnfix.graph.select import Selection
from bnfix.numerics.moments import ChannelMoments
from bnfix.options import size, whole
from bnfix.recalibration.commit import committed
from bnfix.recalibration.estimate import METHODS, Estimate, Settings, estimate
from bnfix.recalibration.guard import Guard, Metric, check_mode
from bnfix.recalibration.meeting import Meeting
from bnfix.recalibration.outlying import Watch
from bnfix.recalibration.statistics import LayerStatistics, RecalibrationReport
from bnfix.recalibration.targets import never_built, targets
from bnfix.recalibration.verdict import Verdict, compared


@dataclass(frozen=True)
class Options:
    """Those of `recalibrate`, as they came."""

    method: str = "exact"
    batch_size: int = 32
    steps: int | None = None
    layers: Selection = None
    include_frozen: bool = True
    min_count: int = 32
    ddof: int = 0
    memory_limit: int | str | None = None
    guard: str | bool = "auto"
    metric: Metric | None = None
    verbose: int | str = "auto"

    @property
    def settings(self) -> Settings:
        """Those that measuring goes by; raises OptionError where one is not what it may be."""
        limits = self.min_count, self.ddof, self.memory_limit
        return checked(self.method, *limits, self.guard, self.metric, self.verbose)


def read(ds: Any, options: Options) -> Iterator[Batch]:
    """The batches of `ds`, and an error for an option that is none; raises as `recalibrate`."""
    settings = options.settings
    held = settings.method == "exact" and settings.memory_limit is None
    return batches(ds, batch_size=options.batch_size, steps=options.steps, held=held)


def recalibrated(
    subject: Subject, stream: Iterator[Batch], options: Options, meeting: Meeting
) -> RecalibrationReport:
    """As `recalibrate`, on the data of this process and what others find in theirs."""
    adapter, model = subject
    o, settings = options, options.settings
    judge = Guard(subject, o.guard, o.metric, limit=_share(settings))
    norms = targets(subject, o.layers, include_frozen=o.include_frozen)
    sized = InBatchesOf(adapter.batch_size(model), stream)
    fitting = loaded(subject, sized, some_elsewhere=meeting.size > 1)
    outlying = Watch(adapter.input_names(model) if adapter.inputs(model) else [])
    passing = judge.watch(outlying.over(fitting), norms)
    found = estimate(subject, norms, passing, settings, meeting)
    _check_counts(found.moments, settings.min_count)
    rows = tuple(_row(path, norms[path], m, o.ddof) for path, m in found.moments.items())
    before = judge.sample(norms, o.verbose)
    updates = [(norms[row.path], row.mean, row.variance) for row in rows]
    with committed(adapter, updates) as keep:
        after = None if before is None else judge.sample(norms, o.verbose)
        said = meeting.gathered(compared(before, after), at="the losses")
        verdict = Verdict.pooled(said)
        kept = verdict is None or not verdict.worse
        if not kept and o.guard == "raise":
            raise StatisticsError(
                f"new statistics make {model.name} worse: {verdict}. They are those of the data "
                "as it was passed; guard=False keeps them anyway.",
                advises=("guard",),
            )
        if kept:
            keep()
    notes = (
        *never_built(subject),
        *adapter.out_of_reach(model),
        *sized.notes,
        *outlying.notes(),
        *_uncompared(model, judge.reason),
    )
    return _report(found, rows, kept, verdict, notes)


def checked(
    method: Any, min_count: Any, ddof: Any, memory_limit: Any, guard: Any, metric: Any, verbose: Any
) -> Settings:
    """The options of `recalibrate`, if each is something that it may be.

    Raises:
        OptionError: One is not.
    """
    if method not in METHODS:
        raise OptionError(f"method is {method!r}; it may be {' or '.join(map(repr, METHODS))}.")
    if ddof not in (0, 1):
        raise OptionError(f"ddof is {ddof!r}; it may be 0 or 1.")
    check_mode(guard, metric)
    limit = size("memory_limit", memory_limit)
    if limit is not None and method == "streaming":
        raise OptionError(
            f"memory_limit is {memory_limit!r}, and method 'streaming' holds one batch at a time, "
            "whatever the limit. Leave memory_limit out, or pass smaller batches.",
            advises=("memory_limit",),
        )
    return Settings(method, ddof, limit, verbose, whole("min_count", min_count, at_least=1))


def _uncompared(model: Any, reason: str | None) -> tuple[str, ...]:
    if reason is None:
        return ()
    return (
        f"losses were not compared, since {model.name} gives none ({reason}). Pass labels as fit "
        "takes them, one-hot or integers; or compile it with a loss that takes these; or metric=",
    )


def _share(settings: Settings) -> int | None:
    """Bytes of inputs that the guard may keep."""
    if settings.memory_limit is not None:
        return settings.memory_limit // _GUARDS_PART
    return _SAMPLE if settings.method == "streaming" else None


#: What part of a memory limit the guard may take for a sample of the inputs.
_GUARDS_PART = 16

#: Bytes of inputs kept to compare losses where the data is too large to hold.
_SAMPLE = 256 << 20


def _check_counts(moments: dict[str, ChannelMoments], min_count: int) -> None:
    for path, found in moments.items():
        if found.count < min_count:
            raise StatisticsError(
                f"{path} saw {found.count} values per channel; min_count is {min_count}. Pass "
                "more calibration data or lower min_count.",
                path=path,
                advises=("min_count",),
            )


def _row(path: str, layer: Any, moments: ChannelMoments, ddof: int) -> LayerStatistics:
    new = moments.mean, moments.variance(ddof=ddof)
    return LayerStatistics(
        path,
        moments.count,
        *weights.read_statistics(layer),
        *new,
        momentum=float(layer.momentum),
        clamped=weights.too_large(layer, *new),
        epsilon=float(layer.epsilon),
    )


def _report(
    found: Estimate,
    rows: tuple[LayerStatistics, ...],
    kept: bool,
    verdict: Verdict | None,
    notes: tuple[str, ...],
) -> RecalibrationReport:
    return RecalibrationReport(
        rows,
        found.batches,
        kept,
        found.engine,
        verdict,
        None if found.need is None else found.need.total,
        (*found.notes, *notes),
    )
