"""Re-estimate the moving statistics of every BatchNormalization, exactly."""

from __future__ import annotations

import warnings
from typing import Any, Literal, overload

from bnfix.adapters import state, weights
from bnfix.adapters.choose import adapter_of
from bnfix.breadth_first.loading import loaded
from bnfix.data.batches import batches
from bnfix.data.sizes import InBatchesOf
from bnfix.errors import BnfixWarning, OptionError, StatisticsError
from bnfix.graph.select import Selection
from bnfix.numerics.moments import ChannelMoments
from bnfix.options import size, whole
from bnfix.recalibration.commit import committed
from bnfix.recalibration.estimate import METHODS, Estimate, Settings, estimate
from bnfix.recalibration.guard import Guard, Metric, check_mode
from bnfix.recalibration.outlying import Watch
from bnfix.recalibration.statistics import LayerStatistics, RecalibrationReport
from bnfix.recalibration.targets import never_built, targets
from bnfix.recalibration.verdict import Verdict
from bnfix.restoring import all_or_nothing


@overload
def recalibrate(
    model: Any,
    ds: Any,
    *,
    method: str = ...,
    batch_size: int = ...,
    steps: int | None = ...,
    layers: Selection = ...,
    include_frozen: bool = ...,
    min_count: int = ...,
    ddof: int = ...,
    memory_limit: int | str | None = ...,
    guard: str | bool = ...,
    metric: Metric | None = ...,
    verbose: int | str = ...,
    return_report: Literal[False] = ...,
) -> Any: ...
@overload
def recalibrate(
    model: Any,
    ds: Any,
    *,
    method: str = ...,
    batch_size: int = ...,
    steps: int | None = ...,
    layers: Selection = ...,
    include_frozen: bool = ...,
    min_count: int = ...,
    ddof: int = ...,
    memory_limit: int | str | None = ...,
    guard: str | bool = ...,
    metric: Metric | None = ...,
    verbose: int | str = ...,
    return_report: Literal[True],
) -> tuple[Any, RecalibrationReport]: ...


@all_or_nothing(state.everything)
def recalibrate(
    model: Any,
    ds: Any,
    *,
    method: str = "exact",
    batch_size: int = 32,
    steps: int | None = None,
    layers: Selection = None,
    include_frozen: bool = True,
    min_count: int = 32,
    ddof: int = 0,
    memory_limit: int | str | None = None,
    guard: str | bool = "auto",
    metric: Metric | None = None,
    verbose: int | str = "auto",
    return_report: bool = False,
) -> Any:
    """Replace the moving statistics of every BatchNormalization by those of `ds`.

    Batches go through the network side by side, layer by layer, so that each BN sees inputs
    normalized by final statistics (Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 2, without its
    small-batch approximation): the result equals one training-mode pass over all of `ds` as a
    single batch and does not depend on batch size or order. Dropout and the like are off.

    With labels the loss on `ds` is compared before and after, and worse statistics are not kept.

    Args:
        model: Built model of either Keras and any kind, subclassed included. Changed in place, all
            or nothing; only statistics change.
        ds: What `fit` takes: `x`, `(x, y)` or `(x, y, weight)` as arrays, `tf.data.Dataset`,
            generator, `PyDataset` or `Sequence`; preprocessed as for training, read once.
        method: "exact", or "streaming" for data too large to hold: one pass in which each BN
            normalizes by the batch at hand, as training does, so that it is exact for the first
            BN only. The larger the batches, the better.
        batch_size: For arrays; with "exact" any value gives the same statistics. A model with a
            batch size of its own gets that, whatever comes.
        steps: Number of batches to take; needed where `ds` does not end.
        layers: Paths (a nested model's stands for all in it) or a function of a path; all by
            default.
        include_frozen: Whether BNs with `trainable=False` are re-estimated too.
        min_count: Fewest values per channel, summed over batches and space. With 32 the mean is
            known to 0.18 sigma and the variance to 25 %.
        ddof: 0 stores the population variance, 1 the unbiased one that fused tf_keras layers store.
        memory_limit: Bytes that tensors on their way through the network may take, a number or
            text such as "1 GiB"; the others go to files in a temporary folder. All are held in
            memory by default.
        guard: "auto" puts back the old statistics, with a warning, where the new ones have a higher
            loss on `ds` by more than chance, rows taken in pairs, and refuses to replace statistics
            that were never updated where it cannot compare; "raise" raises; False keeps the new
            ones whatever they do.
        metric: What the guard compares instead of the compiled loss: a function of the labels and
            the predictions of a batch, as they come, that gives a number or one a row, the smaller
            the better.
        verbose: "auto" shows progress on a terminal; 0 never, 1 always.
        return_report: Return `(model, report)`.

    Returns:
        The model.

    Raises:
        UnsupportedModelError: Not a built Keras model, or no BatchNormalization in it.
        DataError: `ds` is empty, endless, not finite, or does not fit the model.
        StatisticsError: A BN saw fewer than `min_count` values, or some that are not finite; or the
            guard raises.
        ModelError: The model fails on `ds`, or takes other ways for other batches.
        ResourceError: Memory or disk space does not suffice.
        OptionError: An argument is none of what it may be.
        In every case, KeyboardInterrupt included, nothing is changed.

    Example:
        >>> model, report = bnfix.recalibrate(model, (x, y), verbose=0, return_report=True)
        >>> [layer.path for layer in report.layers]
        ['bn']
    """
    adapter = adapter_of(model)
    settings = checked(method, min_count, ddof, memory_limit, guard, metric, verbose)
    judge = Guard(adapter, model, guard, metric, limit=_share(settings))
    norms = targets(adapter, model, layers, include_frozen=include_frozen)
    held = settings.method == "exact" and settings.memory_limit is None
    read = batches(ds, batch_size=batch_size, steps=steps, held=held)
    sized = InBatchesOf(adapter.batch_size(model), read)
    stream = loaded(adapter, model, sized)
    outlying = Watch(adapter.input_names(model) if getattr(model, "inputs", None) else [])
    passing = judge.watch(outlying.over(stream), norms)
    found = estimate(adapter, model, norms, passing, settings)
    _check_counts(found.moments, settings.min_count)
    rows = tuple(_row(path, norms[path], m, ddof) for path, m in found.moments.items())
    before = judge.sample(norms)
    updates = [(norms[row.path], row.mean, row.variance) for row in rows]
    with committed(adapter, updates) as keep:
        after = None if before is None else judge.sample(norms)
        verdict = None if before is None or after is None else Verdict.of(before, after)
        kept = verdict is None or not verdict.worse
        if not kept and guard == "raise":
            raise StatisticsError(
                f"new statistics make {model.name} worse: {verdict}. They are those of the data "
                "as it was passed; guard=False keeps them anyway.",
                advises=("guard",),
            )
        if kept:
            keep()
    if verdict is not None and not kept:
        warnings.warn(
            f"recalibrate made {model.name} worse and put the old statistics back: {verdict}. It "
            "goes by the data as it was passed, and by labels; guard=False keeps the new ones.",
            BnfixWarning,
            stacklevel=3,
        )
    notes = (
        *never_built(adapter, model),
        *sized.notes,
        *outlying.notes(),
        *_uncompared(model, judge.reason),
    )
    report = _report(found, rows, kept, verdict, notes)
    return (model, report) if return_report else model


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
    return Settings(method, ddof, limit, verbose, whole("min_count", min_count, at_least=1))


def _uncompared(model: Any, reason: str | None) -> tuple[str, ...]:
    if reason is None:
        return ()
    return (f"losses were not compared, since {model.name} gives none ({reason}); metric= does",)


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
