"""Re-estimate the moving statistics of every BatchNormalization, exactly."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Literal, overload

from bnfix.adapters import state
from bnfix.adapters.subject import Subject
from bnfix.errors import BnfixWarning
from bnfix.graph.select import Selection
from bnfix.recalibration.guard import Metric
from bnfix.recalibration.meeting import Meeting
from bnfix.recalibration.procedure import Options, read, recalibrated
from bnfix.recalibration.statistics import RecalibrationReport, of_other_units
from bnfix.recalibration.together import together
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
    strategy: Any = ...,
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
    strategy: Any = ...,
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
    strategy: Any = None,
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
        memory_limit: Of "exact": bytes that tensors on their way through the network may take, a
            number or text such as "1 GiB"; the others go to files in a temporary folder. All are
            held in memory by default.
        guard: "auto" puts back the old statistics, with a warning, where the new ones have a higher
            loss on `ds` by more than chance, rows taken in pairs, and refuses to replace statistics
            where it cannot compare, none was ever updated, and gamma or beta were trained; "raise"
            raises; False keeps the new ones whatever they do.
        metric: What the guard compares instead of the compiled loss: a function of the labels and
            the predictions of a batch, as they come, that gives a number or one a row, the smaller
            the better.
        strategy: The `tf.distribute.Strategy` whose workers each hold a part of the data; by
            default that under which `model` was made. All of them have to make this call.
        verbose: "auto" shows progress on terminals and in notebooks; 0 never, 1 always.
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
        WorkerError: Another worker failed, is gone, or does something else.

    Whatever it raises, KeyboardInterrupt included, nothing is changed then.

    Examples:
        >>> model, report = bnfix.recalibrate(model, (x, y), verbose=0, return_report=True)
        >>> [layer.path for layer in report.layers]
        ['bn']
    """
    subject = Subject.of(model)
    options = Options(
        method, batch_size, steps, layers, include_frozen, min_count, ddof, memory_limit, guard,
        metric, verbose,
    )  # fmt: skip
    workers = subject.adapter.workers(model, strategy)
    if workers.size == 1:
        report = recalibrated(subject, read(ds, options), options, Meeting())
    else:
        report = together(subject, workers, ds, options)
    if layers is None and report.kept:
        report = replace(report, notes=(*report.notes, *of_other_units(report.layers)))
    if report.verdict is not None and not report.kept:
        warnings.warn(
            f"recalibrate made {model.name} worse and put the old statistics back: "
            f"{report.verdict}. It goes by the data as it was passed, and by labels; guard=False "
            "keeps the new ones.",
            BnfixWarning,
            stacklevel=3,
        )
    return (model, report) if return_report else model
