"""Is a model batch-invariant; and if not, which layer is to blame, why, and what mends it?

Batch size 1 against N alone cannot tell: other batch sizes run through other kernels, whose
rounding differs. With the neighbours of row 0 replaced at the same batch size, shapes and kernels
are the same, so any difference in row 0 is real.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bnfix.adapters.base import Adapter
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.reading import Reading, flat_inputs
from bnfix.checks.localise import Trace
from bnfix.checks.probes import Probes, measure
from bnfix.checks.report import CheckReport, Finding, Gap, Measurement
from bnfix.data.batches import batches, first_rows
from bnfix.data.fit import check_fits
from bnfix.data.structure import leaves, map_arrays
from bnfix.errors import DataError, UnsupportedModelError

__all__ = ["CheckReport", "Finding", "check"]


def check(model: Any, x: Any, *, rows: int = 8) -> CheckReport:
    """Whether the answer for a row depends on the rows next to it, and on how the model is called.

    `predict(x)`, `model(x)` and `tf.function(model)(x)` are each tried with row 0 alone, among
    others, and among replaced neighbours; twice; and the weights are compared before and after.
    Everything that the model remembers is put back.

    Args:
        model: Built Keras 3 or tf_keras model of any kind, with BatchNormalization or without.
        x: Inputs as `fit` takes them (targets are ignored); the first `rows` rows are used. Real
            data: on constant inputs a dependence can stay hidden.
        rows: Batch size of the check, 2 or more.

    Returns:
        The report. Rounding alone leaves it `ok`.

    Raises:
        UnsupportedModelError: `model` is not a Keras model, or not built.
        DataError: `x` does not fit the model, is not finite, or has fewer than two rows.
        ModelError: The model cannot be run on `x`.
    """
    adapter = adapter_of(model)
    if not model.built:
        raise UnsupportedModelError(
            f"check needs a built model; {model.name} ({type(model).__name__}) has never seen an "
            "input "
            "shape. Call it once on a batch, or give it an Input. Nothing was changed."
        )
    probes, notes = _probes(adapter, model, x, rows)
    measurements = tuple(measure(adapter, model, probes))
    findings = tuple(_findings(adapter, model, probes, measurements))
    alone = [m.alone for m in measurements if m.alone is not None]
    coupling = [m.coupling for m in measurements]
    return CheckReport(
        ok=all(finding.cause == "rounding" for finding in findings),
        max_difference=_worst(alone).difference,
        coupling=_worst(coupling).difference,
        tolerance=_worst(alone + coupling).tolerance,
        findings=findings,
        measurements=measurements,
        rows=probes.rows,
        notes=notes,
    )


def _worst(gaps: list[Gap]) -> Gap:
    return max(gaps, key=lambda gap: gap.ratio, default=Gap(0.0, 0.0))


# --- inputs ------------------------------------------------------------------------------------


def _probes(adapter: Adapter, model: Any, x: Any, rows: int) -> tuple[Probes, tuple[str, ...]]:
    specs = [adapter.tensor_spec(tensor) for tensor in _inputs(model)]
    # A Sequential that was built by calling it remembers that batch size, which binds nobody.
    sizes = [] if adapter.is_sequential(model) else [spec.shape[0] for spec in specs if spec.shape]
    fixed = next((size for size in sizes if size and size > 1), None)
    wanted = fixed or max(rows, 2)
    taken = first_rows(batches(x, batch_size=wanted, steps=wanted), wanted)
    if taken is None:
        raise DataError("x is empty; check needs at least two rows. Nothing was changed.")
    if specs:
        check_fits(flat_inputs(adapter, model, taken), adapter.input_names(model), specs, index=0)
    arrays = [np.asarray(leaf) for leaf in leaves(taken) if leaf is not None]
    number = len(arrays[0])
    if number < 2:
        raise DataError(
            "check needs at least two rows to tell whether they influence each other; got "
            f"{number}. "
            "Nothing was changed."
        )
    notes: list[str] = []
    if fixed:
        notes.append(f"the model takes batches of {fixed} only, so row 0 was not tried alone")
    if all(np.array_equal(array, np.repeat(array[:1], number, axis=0)) for array in arrays):
        notes.append("all rows of x are equal, so a dependence between them cannot be seen")
    alone = None if fixed else map_arrays(lambda array: array[:1], taken)
    return Probes(taken, number, alone), tuple(notes)


def _inputs(model: Any) -> list[Any]:
    """Symbolic inputs; a model without graph has none."""
    return list(getattr(model, "inputs", None) or [])


# --- findings ----------------------------------------------------------------------------------


def _findings(
    adapter: Adapter, model: Any, probes: Probes, measurements: tuple[Measurement, ...]
) -> list[Finding]:
    found: list[Finding] = []
    for training, points in _by_mode(measurements).items():
        if any(_is_suspicious(measurement) for measurement in points):
            trace = Trace(adapter, model, probes, training)
            found += _blamed(adapter, model, trace, points)
    found += _disagreement(adapter, model, probes, measurements)
    found = _merged(found)
    found.sort(key=lambda finding: _ORDER.index(finding.cause))
    return found or _rounding(measurements)


def _merged(findings: list[Finding]) -> list[Finding]:
    """One finding per layer and cause, naming all its entry points."""
    merged: dict[tuple[str | None, str], Finding] = {}
    for finding in findings:
        key = finding.path, finding.cause
        if key in merged:
            both = f"{merged[key].entry_point}, {finding.entry_point}"
            merged[key] = replace(merged[key], entry_point=both)
        else:
            merged[key] = finding
    return list(merged.values())


#: Causes first, symptoms of them last.
_ORDER = (
    "batch_statistics",
    "batch_coupling",
    "inference_changes_weights",
    "randomness",
    "nonfinite",
    "batch_size",
    "entry_points_disagree",
)


def _by_mode(measurements: tuple[Measurement, ...]) -> dict[bool | None, list[Measurement]]:
    """Entry points by the `training` that they pass on; `predict` passes False."""
    modes: dict[bool | None, list[Measurement]] = {}
    for measurement in measurements:
        mode = False if measurement.entry_point == "predict" else None
        modes.setdefault(mode, []).append(measurement)
    return modes


def _is_suspicious(measurement: Measurement) -> bool:
    gaps = (measurement.alone, measurement.coupling, measurement.repeat)
    return (
        any(gap is not None and gap.is_real for gap in gaps)
        or bool(measurement.changed)
        or not measurement.finite
    )


def _blamed(adapter: Adapter, model: Any, trace: Trace, points: list[Measurement]) -> list[Finding]:
    """The findings at entry points that share a mode."""
    where = ", ".join(measurement.entry_point for measurement in points)
    worst = _worst([measurement.coupling for measurement in points])
    norms = trace.by_batch_statistics()
    by_batch = (
        "normalizes by the batch at hand, not by its moving statistics; row 0 moves by "
        f"{worst.difference:.2g}"
    )
    found = [
        Finding(path, "batch_statistics", where, by_batch, _mend(adapter, model)) for path in norms
    ]
    random = any(measurement.repeat.is_real for measurement in points)
    if worst.is_real and not random:
        others = [path for path in trace.coupled() if path not in norms]
        if not norms and not others:
            others = [model.name]
        found += [_coupled(path, where, worst) for path in others]
    changed = dict.fromkeys(path for measurement in points for path in measurement.changed)
    found += [_changed(path, where, path in norms, _mend(adapter, model)) for path in changed]
    if random and not changed:
        found.append(_random(where, _worst([m.repeat for m in points])))
    if not all(measurement.finite for measurement in points):
        found += [_nonfinite(path, where) for path in trace.not_finite()[:1] or [model.name]]
    sizes = [m.alone for m in points if m.alone is not None and m.alone.is_real]
    if sizes and not found:
        found.append(_batch_size(model.name, where, _worst(sizes)))
    return found


def _mend(adapter: Adapter, model: Any) -> str:
    baked = adapter.has_graph(model) and any(
        call.training and adapter.batch_norms(model) for call in Reading(adapter, model).graph
    )
    if baked:
        return "model = bnfix.strip_training(model), or bnfix.freeze(model) in place"
    return "bnfix.freeze(model)"


def _coupled(path: str, where: str, worst: Gap) -> Finding:
    return Finding(
        path,
        "batch_coupling",
        where,
        f"mixes the rows of a batch; row 0 moves by {worst.difference:.2g} with its neighbours",
        f"let {path} work on each row by itself",
    )


def _changed(path: str, where: str, by_batch: bool, mend: str) -> Finding:
    detail = "its weights are overwritten by each call; weights were put back after the check"
    fix = mend if by_batch else f"let {path} assign its weights under training=True only"
    return Finding(path, "inference_changes_weights", where, detail, fix)


def _random(where: str, worst: Gap) -> Finding:
    return Finding(
        None,
        "randomness",
        where,
        f"two equal calls differ by {worst.difference:.2g}; what rows do to each other is hidden "
        "by that",
        "if it is not wanted (as for Monte Carlo dropout): model = bnfix.strip_training(model)",
    )


def _nonfinite(path: str, where: str) -> Finding:
    detail = "makes infinities or NaN of finite numbers"
    return Finding(path, "nonfinite", where, detail, f"look at the weights of {path}")


def _batch_size(name: str, where: str, worst: Gap) -> Finding:
    return Finding(
        name,
        "batch_size",
        where,
        f"row 0 alone differs by {worst.difference:.2g} from row 0 among others, more than "
        "rounding "
        f"({worst.tolerance:.2g}), although it does not depend on who its neighbours are",
        "look for code that uses the batch size, or for huge weights, which amplify rounding",
    )


def _disagreement(
    adapter: Adapter, model: Any, probes: Probes, measurements: tuple[Measurement, ...]
) -> list[Finding]:
    apart = [m for m in measurements if m.against_predict.is_real]
    if not apart or any(m.repeat.is_real for m in measurements):
        return []
    with_false, without = (Trace(adapter, model, probes, mode) for mode in (False, None))
    path = next(iter(with_false.differs_from(without)), None)
    worst = _worst([measurement.against_predict for measurement in apart])
    fix = (
        _mend(adapter, model) if path else "compiled and uncompiled code differ: report it to Keras"
    )
    return [
        Finding(
            path,
            "entry_points_disagree",
            ", ".join(measurement.entry_point for measurement in apart),
            f"answers differ by {worst.difference:.2g} from those of predict",
            fix,
        )
    ]


def _rounding(measurements: tuple[Measurement, ...]) -> list[Finding]:
    seen = [m for m in measurements if m.alone is not None and m.alone.difference > 0]
    if not seen:
        return []
    worst = _worst([m.alone for m in seen if m.alone is not None])
    return [
        Finding(
            None,
            "rounding",
            ", ".join(measurement.entry_point for measurement in seen),
            f"other batch sizes run through other kernels: {worst.difference:.2g}, within what "
            "rounding "
            f"explains ({worst.tolerance:.2g})",
            "nothing to fix",
        )
    ]
