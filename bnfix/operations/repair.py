"""What to call first: find what makes a model depend on the batch, mend it, prove it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bnfix.adapters.base import Adapter
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.reading import Reading
from bnfix.checks.check import CheckReport, check
from bnfix.data.batches import Batch, batches, first_rows
from bnfix.errors import DataError
from bnfix.operations.fold import fold as fold_model
from bnfix.operations.freeze import freeze
from bnfix.operations.strip_training import strip_training
from bnfix.passes.strip_training import baked_over_batch_norm
from bnfix.recalibration.recalibrate import recalibrate
from bnfix.recalibration.statistics import RecalibrationReport
from bnfix.report import Rendered, Report

#: Rows on which the model is checked; more would only cost time.
_CHECKED_ROWS = 8


@dataclass(frozen=True)
class RepairReport(Rendered):
    """The story of a repair; true if the model is batch-invariant at its end.

    Attributes:
        steps: What was done and why, a sentence each, in order.
        before: The check of the model as given.
        after: The check of the model returned.
        recalibration: What was re-estimated, or None.
        fold: What was folded, or None if that was not asked for.
    """

    steps: tuple[str, ...]
    before: CheckReport
    after: CheckReport
    recalibration: RecalibrationReport | None = None
    fold: Report | None = None

    @property
    def ok(self) -> bool:
        return self.after.ok

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        steps = [f"  {number}. {step}" for number, step in enumerate(self.steps, 1)]
        verdict = "repaired" if self.ok else "NOT repaired"
        parts = [f"repair: {verdict}", *steps, "before", _indented(self.before), "after"]
        return "\n".join([*parts, _indented(self.after)])


def repair(
    model: Any,
    ds: Any,
    *,
    batch_size: int = 32,
    steps: int | None = None,
    fold: bool = False,
    min_count: int = 32,
    verbose: int | str = "auto",
    return_report: bool = False,
) -> Any:
    """Check `model`, take out what makes it depend on the batch, recalibrate it, check it again.

    A `training=True` baked into a call that reaches a BatchNormalization is stripped, which gives a
    new model; without a graph the BatchNormalizations are frozen instead. Then every statistic is
    re-estimated on `ds`.

    Args:
        model: Keras 3 or tf_keras model. Changed in place only where nothing has to be stripped;
            the model to go on with is the one returned.
        ds: Calibration data, what `fit` takes; read once. Preprocess it exactly as for training.
        batch_size: For arrays.
        steps: Number of batches to take.
        fold: Also fold BatchNormalization into neighbouring linear layers.
        min_count: Fewest values per channel that statistics may rest on.
        verbose: "auto" shows progress on a terminal; 0 never, 1 always.
        return_report: Return `(model, report)`.

    Returns:
        The repaired model.

    Raises:
        BnfixError: As `check`, `recalibrate` and `fold` do; the given model is as before then.
    """
    adapter = adapter_of(model)
    data = list(batches(ds, batch_size=batch_size, steps=steps))
    if not data:
        raise DataError(
            "the calibration data is empty: at least one batch is required. Nothing was changed."
        )
    rows = first_rows(data, _CHECKED_ROWS)
    before = check(model, rows)
    if not adapter.batch_norms(model):
        story = ("the model has no BatchNormalization; there is nothing to repair",)
        report = RepairReport(story, before, before)
        return (model, report) if return_report else model
    story_so_far: list[str] = []
    model = _without_baked(adapter, model, story_so_far)
    model, recalibration = recalibrate(
        model,
        (_parts(batch) for batch in data),
        min_count=min_count,
        verbose=verbose,
        return_report=True,
    )
    story_so_far.append(
        f"recalibrated {len(recalibration.layers)} BatchNormalizations on {recalibration.batches} "
        "batches"
    )
    folded = None
    if fold:
        model, folded = fold_model(model, return_report=True)
        story_so_far.append(f"folded {len(folded.changed)} of {len(folded.outcomes)}")
    after = check(model, rows)
    report = RepairReport(tuple(story_so_far), before, after, recalibration, folded)
    return (model, report) if return_report else model


def _without_baked(adapter: Adapter, model: Any, story: list[str]) -> Any:
    """`model` with nothing in it that forces a BatchNormalization into training mode."""
    if not adapter.has_graph(model):
        story.append("froze every BatchNormalization: without a graph no call can be rewritten")
        return freeze(model)
    baked = baked_over_batch_norm(Reading(adapter, model))
    if not baked:
        return model
    story.append(
        f"stripped training=True from {len(baked)} calls, the first at {baked[0]}: they normalized "
        "by the batch at hand"
    )
    return strip_training(model, layers=baked)


def _parts(batch: Batch) -> tuple[Any, ...]:
    return (batch.x,)


def _indented(report: Any) -> str:
    return "\n".join(f"  {line}" for line in str(report).splitlines())
