"""Pictures of a repair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bnfix.demo.result import DemoResult
from bnfix.errors import BnfixError

# Okabe and Ito's palette, which colour-blind readers can tell apart.
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#999999"


def draw_repair(result: DemoResult, out: Path) -> None:
    """One PNG: how far each layer's statistics were off, and the accuracy at each step.

    Raises:
        BnfixError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BnfixError('pictures need matplotlib: pip install "bnfix[demo]".') from error
    # Not through pyplot, which would choose a display for the caller's whole process.
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.3, 1.3, 1))
    _draw_drift(left, middle, result)
    _draw_accuracy(right, result)
    figure.suptitle("How far BatchNormalization's statistics were off, and what that cost")
    figure.savefig(out, dpi=120)


def _draw_drift(means: Any, variances: Any, result: DemoResult) -> None:
    layers = result.recalibration.layers
    rows = range(len(layers))
    means.barh(rows, [layer.mean_shift for layer in layers], color=_BLUE)
    means.set_xlabel("mean was off by (standard deviations)")
    means.set_yticks(rows, [layer.path for layer in layers], fontsize=8)
    ratios = [layer.variance_ratio for layer in layers]
    # On a logarithmic axis a bar has to start at the right value, 1, to show its distance from it.
    variances.barh(rows, [ratio - 1 for ratio in ratios], left=1, color=_ORANGE)
    variances.axvline(1, color=_GREY, linestyle="--", linewidth=1)
    for row, ratio in enumerate(ratios):
        variances.text(max(ratio, 1) * 1.05, row, f"{ratio:.2g} x", va="center", fontsize=8)
    variances.set_xlim(min(*ratios, 1) / 1.2, max(*ratios, 1) * 2)
    variances.set_xscale("log")
    variances.set_xlabel("stored variance / true variance (dashed: right)")
    variances.set_yticks(rows, ["" for _ in rows])
    for axes in (means, variances):
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    means.set_title("moving_mean", fontsize=10)
    variances.set_title("moving_variance", fontsize=10)


def _draw_accuracy(axes: Any, result: DemoResult) -> None:
    names = [step.name for step in result.steps]
    values = [100 * step.test_accuracy for step in result.steps]
    bars = axes.bar(names, values, color=[_ORANGE, *([_BLUE] * (len(values) - 1))], width=0.6)
    labels = [f"{value:.1f} %" for value in values]
    axes.bar_label(bars, labels, label_type="center", color="white", fontweight="bold")
    axes.axhline(100 * result.fit_accuracy, color=_GREY, linestyle="--", linewidth=1)
    axes.text(
        -0.35,
        100 * result.fit_accuracy + 2,
        f"training accuracy in fit: {result.fit_accuracy:.1%}",
        color="#555555",
        fontsize=8,
        ha="left",
    )
    axes.set_ylim(0, 112)
    axes.set_ylabel("accuracy of predict on test images (%)")
    axes.set_title("accuracy", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
