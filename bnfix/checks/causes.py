"""What can be wrong with a model at inference, each cause in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnfix.checks.report import NO_CALL, Finding, Gap, Measurement, worst
from bnfix.graph.miscompiled import SWITCH

Points = Sequence[Measurement]

NOTHING = f"{NO_CALL}nothing is wrong; bnfix.batch_invariant(model) gives the same bits always"
_SWITCH = f"{NO_CALL}on a processor set {SWITCH} before TensorFlow is imported, and check again"
REPORT = f"{NO_CALL}compiled and uncompiled code differ; report it to Keras"


def assign_in_training(path: str) -> str:
    return f"{NO_CALL}let {path} assign its weights under training=True only"


def random_in_training(path: str) -> str:
    return f"{NO_CALL}let {path} be random under training=True only, unless it is wanted"


def batch_statistics(path: str, points: Points, mend: str) -> Finding:
    detail = "normalizes by the batch at hand, not by its moving statistics" + _moved(points)
    return Finding(path, "batch_statistics", _where(points), detail, mend, _moved_outputs(points))


def batch_coupling(path: str, points: Points) -> Finding:
    detail = "mixes the rows of a batch" + _moved(points)
    mend = f"{NO_CALL}let {path} work on each row by itself, along axes other than 0"
    return Finding(path, "batch_coupling", _where(points), detail, mend, _moved_outputs(points))


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
    layer = "".join(f'.get_layer("{name}")' for name in path.split("/"))
    mend = (
        f"{NO_CALL}it is meant to be called on one sequence after the other; run "
        f"model{layer}.reset_states() before each new one, or build it with stateful=False"
    )
    return Finding(path, "state", _where(by), detail, mend)


def counter(path: str, points: Points) -> Finding:
    by = [point for point in points if point.goes_on and path in point.changed]
    detail = "answers depend on the calls before, which have changed its weights"
    return Finding(path, "state", _where(by), detail, assign_in_training(path))


def randomness(path: str | None, points: Points, mend: str) -> Finding:
    detail = f"two equal calls differ by {worst(p.repeat for p in points).difference:.2g}"
    if any(point.noise for point in points):
        detail += "; what rows do to each other may be hidden by that"
    return Finding(path, "randomness", _where(points), detail, mend)


def nonfinite(path: str, points: Points, mend: str) -> Finding:
    by = [point for point in points if not point.finite]
    detail = "makes infinities or NaN of finite numbers"
    return Finding(path, "nonfinite", _where(by), detail, mend)


def batch_size(path: str, points: Points) -> Finding:
    alone = worst(_alone(points))
    detail = (
        f"row 0 in a smaller batch differs by {alone.difference:.2g} from row 0 among all, more "
        f"than rounding ({alone.tolerance:.2g}), although it does not depend on who its neighbours "
        "are"
    )
    mend = f"{NO_CALL}look for code in {path} that uses the batch size"
    return Finding(path, "batch_size", _where(points), detail, mend, _moved_outputs(points))


def disagreement(path: str | None, points: Points, mend: str) -> Finding:
    difference = worst(point.against_predict for point in points).difference
    detail = f"answers differ by {difference:.2g} from those of predict"
    return Finding(path, "entry_points_disagree", _where(points), detail, mend)


def miscompiled(wrong: Mapping[str, Gap]) -> Finding:
    """The entry points that answer otherwise than uncompiled code in float64 does."""
    detail = (
        f"compiled code computes something else than the model's layers do one by one: off by "
        f"{worst(wrong.values()).difference:.2g}"
    )
    return Finding(None, "entry_points_disagree", ", ".join(wrong), detail, _SWITCH)


def rounding(points: Points, dtype: str) -> list[Finding]:
    """Any difference at all between batch sizes is told, so that nobody wonders about it."""
    seen = [point for point in points if _between_sizes(point).difference > 0]
    if not seen:
        return []
    found = worst(_between_sizes(point) for point in seen)
    detail = (
        f"other batch sizes run through other kernels: {found.difference:.2g}, within what "
        f"rounding in {dtype} explains ({found.tolerance:.2g}); among other neighbours in a batch "
        "of the same size it is 0"
    )
    return [Finding(None, "rounding", _where(seen), detail, NOTHING)]


def amplified(points: Points, dtype: str, response: float) -> Finding:
    """Rounding that the network makes larger than usual."""
    found = worst(_between_sizes(point) for point in points)
    detail = (
        f"other batch sizes run through other kernels: {found.difference:.2g}. That is more than "
        f"usual in {dtype} ({found.tolerance:.2g}), but this network amplifies: weights changed by "
        f"one rounding error each move the row by {response:.2g}. Among other neighbours in a "
        "batch of the same size it stays the same, bit for bit"
    )
    return Finding(None, "rounding", _where(points), detail, NOTHING)


def _between_sizes(point: Measurement) -> Gap:
    return worst([point.against_predict, *([point.alone] if point.alone else [])])


def _where(points: Points) -> str:
    return ", ".join(point.entry_point for point in points)


def _moved_outputs(points: Points) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for point in points for name in point.moved))


def _moved(points: Points) -> str:
    difference = worst(point.coupling for point in points).difference
    return f"; a row moves by {difference:.2g} with its neighbours" if difference else ""


def _alone(points: Points) -> list[Gap]:
    return [point.alone for point in points if point.alone is not None]
