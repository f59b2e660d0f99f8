"""What can be wrong with a model at inference, each cause in words."""

from __future__ import annotations

from collections.abc import Sequence

from bnfix.checks.report import Finding, Gap, Measurement, worst

Points = Sequence[Measurement]

REPORT = "compiled and uncompiled code differ: report it to Keras"


def assign_in_training(path: str) -> str:
    return f"let {path} assign its weights under training=True only"


def random_in_training(path: str) -> str:
    return f"let {path} be random under training=True only, unless it is wanted"


def batch_statistics(path: str, points: Points, mend: str) -> Finding:
    detail = "normalizes by the batch at hand, not by its moving statistics" + _moved(points)
    return Finding(path, "batch_statistics", _where(points), detail, mend)


def batch_coupling(path: str, points: Points) -> Finding:
    detail = "mixes the rows of a batch" + _moved(points)
    mend = f"let {path} work on each row by itself"
    return Finding(path, "batch_coupling", _where(points), detail, mend)


def stale_function(points: Points) -> Finding:
    detail = "was compiled before a layer was frozen or thawed, and goes by the old flag"
    mend = "model.make_predict_function(force=True)"
    return Finding(None, "stale_function", _where(points), f"predict {detail}", mend)


def changed(path: str, points: Points, mend: str) -> Finding:
    by = [point for point in points if path in point.changed]
    detail = "its weights are overwritten by each call; they were put back after the check"
    return Finding(path, "inference_changes_weights", _where(by), detail, mend)


def state(path: str, points: Points) -> Finding:
    by = [point for point in points if path in point.carried]
    detail = "goes on from the state in which the call before has left it"
    mend = f'model.get_layer("{path}").reset_states()  # before each new sequence'
    if "/" in path:
        mend = f"reset the states of {path} before each new sequence"
    return Finding(path, "state", _where(by), detail, mend)


def randomness(path: str | None, points: Points, mend: str) -> Finding:
    detail = f"two equal calls differ by {worst(p.repeat for p in points).difference:.2g}"
    if any(point.noise for point in points):
        detail += "; what rows do to each other may be hidden by that"
    return Finding(path, "randomness", _where(points), detail, mend)


def nonfinite(path: str, points: Points) -> Finding:
    by = [point for point in points if not point.finite]
    detail = "makes infinities or NaN of finite numbers"
    return Finding(path, "nonfinite", _where(by), detail, f"look at the weights of {path}")


def batch_size(name: str, points: Points) -> Finding:
    alone = worst(_alone(points))
    detail = (
        f"row 0 alone differs by {alone.difference:.2g} from row 0 among others, more than "
        f"rounding ({alone.tolerance:.2g}), although it does not depend on who its neighbours are"
    )
    mend = "look for code that uses the batch size, or for huge weights, which amplify rounding"
    return Finding(name, "batch_size", _where(points), detail, mend)


def disagreement(path: str | None, points: Points, mend: str) -> Finding:
    difference = worst(point.against_predict for point in points).difference
    detail = f"answers differ by {difference:.2g} from those of predict"
    return Finding(path, "entry_points_disagree", _where(points), detail, mend)


def rounding(points: Points) -> list[Finding]:
    """Any difference at all between batch sizes is told, so that nobody wonders about it."""
    seen = [point for point in points if point.alone and point.alone.difference > 0]
    if not seen:
        return []
    alone = worst(_alone(seen))
    detail = (
        f"other batch sizes run through other kernels: {alone.difference:.2g}, within what "
        f"rounding explains ({alone.tolerance:.2g})"
    )
    return [Finding(None, "rounding", _where(seen), detail, "nothing to fix")]


def _where(points: Points) -> str:
    return ", ".join(point.entry_point for point in points)


def _moved(points: Points) -> str:
    difference = worst(point.coupling for point in points).difference
    return f"; a row moves by {difference:.2g} with its neighbours" if difference else ""


def _alone(points: Points) -> list[Gap]:
    return [point.alone for point in points if point.alone is not None]
