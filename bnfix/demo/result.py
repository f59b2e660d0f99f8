"""What the demo measured, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from bnfix.checks.check_report import CheckReport
from bnfix.recalibration.statistics import RecalibrationReport


@dataclass(frozen=True)
class Step:
    """The model at one point of the story.

    Attributes:
        name: What was done before.
        training_accuracy: Of `predict` on the training images.
        test_accuracy: Of `predict` on images never trained on.
        batch_norms: BatchNormalization layers left.
        milliseconds: Median time of `predict` on the test images.
        check: Whether it is batch-invariant.
    """

    name: str
    training_accuracy: float
    test_accuracy: float
    batch_norms: int
    milliseconds: float
    check: CheckReport


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured.

    Attributes:
        fit_accuracy: Training accuracy as `fit` showed it in its last epoch.
        batch_accuracy: On the test images, normalized by their own statistics: what can be had.
        steps: As trained, recalibrated, folded.
        recalibration: The statistics before and after.
    """

    fit_accuracy: float
    batch_accuracy: float
    steps: tuple[Step, ...]
    recalibration: RecalibrationReport
