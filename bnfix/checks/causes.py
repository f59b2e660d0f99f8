"""What is said of each cause, and what mends it, as far as that does not depend on the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bnfix.checks.cause import Cause
from bnfix.checks.check_report import Finding
from bnfix.checks.measurement import Gap, Measurement, worst
from bnfix.remedy import Remedy, Verb

Points = Sequence[Measurement]


@dataclass(frozen=True)
class Cure:
    """The remedy of a finding, and what to know about it; or what to do where there is none."""

    remedy: Remedy | None = None
    advice: str = ""


_NOTHING = Cure(advice="nothing is wrong; bnfix.batch_invariant(model) gives the same bits always")
ANEW = Cure(Remedy(Verb.MAKE_PREDICT))


def unexplained(uncompiling: str) -> Cure:
    """Where compiled and uncompiled code differ, and nothing tells which of them is off.

    Args:
        uncompiling: What to do about compiled code, as its backend says.
    """
    return Cure(
        advice="no layer does it by itself: compiled and uncompiled code of the same layers "
        f"differ; {uncompiling}, and check again: where they agree then, compiled code was off; "
        "where they do not, try another version of Keras"
    )


def assign_in_training(path: str) -> Cure:
    return Cure(advice=f"let {path} assign its weights under training=True only")


def random_in_training(path: str) -> Cure:
    return Cure(advice=f"let {path} be random under training=True only, unless it is wanted")


def finding(
    path: str | None, cause: Cause, points: Points, detail: str, cure: Cure, *, moved: bool = False
) -> Finding:
    """One of `cause` that shows at `points`; with the outputs that move, where `moved`."""
    outputs = _moved_outputs(points) if moved else ()
    severity = "fault" if cause.is_fault else "note"
    return Finding(path, cause, _where(points), detail, cure.remedy, cure.advice, severity, outputs)


def batch_statistics(path: str, points: Points, cure: Cure) -> Finding:
    detail = "normalizes by the batch at hand, not by its moving statistics" + _moved(points)
    return finding(path, Cause.BATCH_STATISTICS, points, detail, cure, moved=True)


def batch_coupling(path: str, points: Points) -> Finding:
    cure = Cure(advice=f"let {path} work on each row by itself, along axes other than 0")
    detail = "mixes the rows of a batch" + _moved(points)
    return finding(path, Cause.BATCH_COUPLING, points, detail, cure, moved=True)


def stale_function(predict: Measurement, anew: Measurement) -> Finding:
    """As `predict` is, and as it is once it is compiled again."""
    answers = anew.against_predict
    detail = (
        "predict was compiled before something in the model was changed (a layer frozen or thawed, "
        "an activation or another attribute set), and goes by what was there"
        + (f"; compiled anew its answers differ by {answers.difference:.2g}" * answers.is_real)
    )
    return finding(None, Cause.STALE_FUNCTION, [predict], detail, ANEW)


def changed(path: str, points: Points, cure: Cure) -> Finding:
    by = [point for point in points if path in point.changed]
    detail = "its weights are overwritten by each call; they were put back after the check"
    return finding(path, Cause.INFERENCE_CHANGES_WEIGHTS, by, detail, cure)


def state(path: str, points: Points) -> Finding:
    by = [point for point in points if path in point.carried]
    detail = "goes on from the state in which the call before has left it"
    layer = "".join(f'.get_layer("{name}")' for name in path.split("/"))
    cure = Cure(
        advice="it is meant to be called on one sequence after the other; run "
        f"model{layer}.reset_states() before each new one, or build it with stateful=False"
    )
    return finding(path, Cause.STATE, by, detail, cure)


def counter(path: str, points: Points) -> Finding:
    by = [point for point in points if point.goes_on and path in point.changed]
    detail = "answers depend on the calls before, which have changed its weights"
    return finding(path, Cause.STATE, by, detail, assign_in_training(path))


def randomness(path: str | None, points: Points, cure: Cure) -> Finding:
    detail = f"two equal calls differ by {worst(p.repeat for p in points).difference:.2g}"
    if any(point.noise for point in points):
        detail += "; what rows do to each other may be hidden by that"
    return finding(path, Cause.RANDOMNESS, points, detail, cure)


def nonfinite(path: str, points: Points, cure: Cure) -> Finding:
    by = [point for point in points if not point.finite]
    detail = "makes infinities or NaN of finite numbers"
    return finding(path, Cause.NONFINITE, by, detail, cure)


def batch_size(path: str, points: Points) -> Finding:
    alone = worst(_alone(points))
    detail = (
        f"row 0 in a smaller batch differs by {alone.difference:.2g} from row 0 among all, more "
        f"than rounding ({alone.tolerance:.2g}), although it does not depend on who its neighbours "
        "are"
    )
    cure = Cure(advice=f"look for code in {path} that uses the batch size")
    return finding(path, Cause.BATCH_SIZE, points, detail, cure, moved=True)


def training_by_default(path: str, points: Points, cure: Cure, *, everywhere: bool) -> Finding:
    """A note where `predict` is right, which is how such a layer is meant to be used."""
    known = any(point.entry_point == "predict" for point in points)
    why = "set_learning_phase(1) has it" if everywhere else "is the default of its own call"
    detail = f"is in training mode wherever nobody says training=, as {why}" + (
        "" if known else "; predict and model(x, training=False) are right"
    )
    found = finding(path, Cause.TRAINING_BY_DEFAULT, points, detail, cure)
    return found if known else found.as_note()


def disagreement(path: str | None, points: Points, cure: Cure) -> Finding:
    difference = worst(point.against_predict for point in points).difference
    detail = f"answers differ by {difference:.2g} from those of predict"
    return finding(path, Cause.ENTRY_POINTS_DISAGREE, points, detail, cure)


def miscompiled(wrong: Mapping[str, Gap], uncompiling: str) -> Finding:
    """The entry points that answer otherwise than uncompiled code in float64 does."""
    detail = (
        f"compiled code computes something else than the model's layers do one by one: off by "
        f"{worst(wrong.values()).difference:.2g}"
    )
    advice = f"{uncompiling}, and check again"
    return Finding(None, Cause.MISCOMPILED, ", ".join(wrong), detail, None, advice)


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
    return [finding(None, Cause.ROUNDING, seen, detail, _NOTHING)]


def amplified(points: Points, dtype: str, response: float) -> Finding:
    """Rounding that the network makes larger than usual."""
    found = worst(_between_sizes(point) for point in points)
    detail = (
        f"other batch sizes run through other kernels: {found.difference:.2g}. That is more than "
        f"usual in {dtype} ({found.tolerance:.2g}), but this network amplifies: weights changed by "
        f"one rounding error each move the row by {response:.2g}. Among other neighbours in a "
        "batch of the same size it stays the same, bit for bit"
    )
    return finding(None, Cause.ROUNDING, points, detail, _NOTHING)


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
