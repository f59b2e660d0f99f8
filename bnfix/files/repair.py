"""How is a model file repaired on disk, whether or not the model can be opened?

With calibration data the model is opened, repaired, written, and read again to prove it. Without,
what needs no forward pass is edited in the file. In both cases the result is written beside its
place and moved there when it is whole.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

from bnfix.adapters.choose import adapter_of
from bnfix.data.batches import batches, first_rows
from bnfix.errors import BnfixWarning, FileError, VerificationError, gist
from bnfix.files.asked import check_options, check_target
from bnfix.files.container import Format, format_of, opened
from bnfix.files.edit import Wishes, plan_edits
from bnfix.files.file_report import FileRepair
from bnfix.files.harmless import check_harmless
from bnfix.files.inspect import inspect
from bnfix.files.load import load
from bnfix.files.proof import losses, new_findings, reopened, told
from bnfix.files.rewrite import rewrite
from bnfix.files.save import not_safe, write
from bnfix.graph.select import Selection
from bnfix.operations.repair import repair
from bnfix.operations.repair_report import RepairReport
from bnfix.outcomes import Outcome
from bnfix.progress import counted, progress
from bnfix.recalibration.guard import Metric
from bnfix.replacing import replacing
from bnfix.restoring import all_or_nothing

#: Rows on which the model from the new file is checked.
_CHECKED_ROWS = 8


@overload
def repair_file(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    ds: Any = ...,
    custom_objects: Mapping[str, Any] | None = ...,
    overwrite: bool = ...,
    allow_unsafe: bool = ...,
    strip_training: bool = ...,
    freeze: bool = ...,
    replace_non_finite: bool = ...,
    layers: Selection = ...,
    batch_size: int = ...,
    steps: int | None = ...,
    fold: bool = ...,
    method: str = ...,
    min_count: int = ...,
    memory_limit: int | str | None = ...,
    guard: str | bool = ...,
    metric: Metric | None = ...,
    verbose: int | str = ...,
    return_report: Literal[False] = ...,
) -> Path: ...
@overload
def repair_file(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    ds: Any = ...,
    custom_objects: Mapping[str, Any] | None = ...,
    overwrite: bool = ...,
    allow_unsafe: bool = ...,
    strip_training: bool = ...,
    freeze: bool = ...,
    replace_non_finite: bool = ...,
    layers: Selection = ...,
    batch_size: int = ...,
    steps: int | None = ...,
    fold: bool = ...,
    method: str = ...,
    min_count: int = ...,
    memory_limit: int | str | None = ...,
    guard: str | bool = ...,
    metric: Metric | None = ...,
    verbose: int | str = ...,
    return_report: Literal[True],
) -> tuple[Path, FileRepair]: ...


@all_or_nothing()
def repair_file(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    ds: Any = None,
    custom_objects: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    allow_unsafe: bool = False,
    strip_training: bool = True,
    freeze: bool = False,
    replace_non_finite: bool = False,
    layers: Selection = None,
    batch_size: int = 32,
    steps: int | None = None,
    fold: bool = False,
    method: str = "exact",
    min_count: int = 32,
    memory_limit: int | str | None = None,
    guard: str | bool = "auto",
    metric: Metric | None = None,
    verbose: int | str = "auto",
    return_report: bool = False,
) -> Any:
    """Repair the model in the file `src` and write it to `dst`.

    With `ds` the model is opened by `load`, repaired by `repair`, written in the format of `src`,
    and opened again and checked: a file that does not hold the repair is not let through. Without,
    the file is edited and the model not opened, so that no class of its author is needed:
    `strip_training`, `freeze` and `replace_non_finite` say what is done, and all else in the file
    stays bit for bit.

    A crash at any moment leaves the file that was at `dst`, or the new one.

    Args:
        src: `.h5` or `.keras` file, whatever its name; with `ds` the folder of a SavedModel, too.
        dst: Where the result goes. A SavedModel is written in the format of its extension.
        ds: Calibration data for `repair`, what `fit` takes.
        custom_objects: For `load`.
        overwrite: Replace a file that is at `dst`; needed where that is `src` itself.
        allow_unsafe: For `load`.
        strip_training: Take `training=True` out of the calls that reach a BatchNormalization.
        freeze: Set `trainable=False` on each BatchNormalization that the configuration tells of, in
            `.h5` files on those outside of nested models and wrappers; the report names the others.
        replace_non_finite: Put 0 and 1, with which Keras begins, in place of moving means and
            variances that are not finite. The channels concerned are then as if never trained.
        layers: As for `repair`, as all that follow but the last two; they need `ds`.
        batch_size: For arrays in `ds`.
        steps: Number of batches to take of `ds`.
        fold: Also fold BatchNormalization into neighbouring linear layers.
        method: "exact" or "streaming".
        min_count: Fewest values per channel that statistics may rest on.
        memory_limit: Bytes that tensors on their way through the network may take.
        guard: What is done where statistics make the compiled loss worse.
        metric: What is compared instead of the loss.
        verbose: "auto" shows progress on terminals and in notebooks; 0 never, 1 always.
        return_report: Return `(path, report)`.

    Returns:
        The path of the new file.

    Raises:
        FileError: `src` is no model file, `dst` exists or cannot be written.
        OptionError: An option needs `ds`, or does without it only.
        UnsafeFileError: As for `load`.
        BnfixError: As for `repair`. `dst` is as before in each case.

    Examples:
        >>> bnfix.save(model, "model.keras")
        >>> path = bnfix.repair_file("model.keras", "repaired.keras", ds=(x, y), verbose=0)
        >>> path.name
        'repaired.keras'
    """
    source, form = format_of(src)
    target = Path(dst)
    check_target(source, form, target, overwrite)
    wishes = Wishes(strip_training, freeze, replace_non_finite)
    given = (layers, batch_size, steps, fold, method, min_count, memory_limit, guard, metric)
    check_options(wishes, None if ds is not None else given)
    before = inspect(source)
    with replacing(target) as draft:
        if ds is None:
            outcomes, repaired = _edited(source, form, wishes, draft), None
        else:
            model = load(source, custom_objects, allow_unsafe=allow_unsafe, verbose=verbose)
            read = batches(ds, batch_size=batch_size, steps=steps)
            data = list(counted(read, "reading data", verbose))
            rows = first_rows(data, _CHECKED_ROWS)
            changed, repaired = repair(
                model,
                ((batch.x, batch.y, batch.weight) for batch in data),
                copy=False,
                layers=layers,
                fold=fold,
                method=method,
                min_count=min_count,
                memory_limit=memory_limit,
                guard=guard,
                metric=metric,
                verbose=verbose,
                return_report=True,
            )
            if changed is not model:
                adapter_of(model).copy_optimizer_state(model, changed)
            suffix = target.suffix if form is Format.SAVED_MODEL else form.suffix
            named = draft.with_name(f"model{suffix}")
            with progress(1, f"writing {target.name}", verbose):
                write(changed, named)
            with progress(1, f"proving {target.name}", verbose):
                _prove(changed, named, custom_objects or {}, target, repaired, rows)
            named.rename(draft)
            outcomes = ()
        after = inspect(draft)
    if after.unsafe and not before.unsafe:  # code that was opened may have left a lambda
        said = f"{target} was written, but {not_safe(after.unsafe)}."
        warnings.warn(said, BnfixWarning, stacklevel=3)
    report = FileRepair(
        source=str(source),
        target=str(target),
        loaded=ds is not None,
        outcomes=outcomes,
        repair=repaired,
        before=before,
        after=replace(after, path=str(target)),
    )
    return (target, report) if return_report else target


def _edited(source: Path, form: Format, wishes: Wishes, draft: Path) -> tuple[Outcome, ...]:
    if form is Format.SAVED_MODEL:
        raise FileError(
            f"{source} is a SavedModel, a program that cannot be edited. Pass ds=, or open it by "
            "bnfix.load and save it as .keras."
        )
    with opened(source, form) as stored:
        if stored.weights is not None:
            check_harmless(stored.weights)
        edits = plan_edits(stored, wishes)
    rewrite(source, form, edits, draft)
    return tuple(edits.outcomes)


def _prove(
    model: Any,
    file: Path,
    objects: Mapping[str, Any],
    target: Path,
    repaired: RepairReport,
    rows: Any,
) -> None:
    """Make sure that `file` gives the repaired `model` again, and nothing else.

    Raises:
        VerificationError: It does not.
    """
    try:
        again = reopened(model, file, objects)
    except Exception as error:  # whatever a Keras raises on a file
        raise FileError(
            f"{target}: the repaired model cannot be opened from its file: {gist(error)}. It was "
            "withheld. Load, repair and save it in another format."
        ) from error
    lost = losses(model, again)
    if not lost:
        lost = new_findings(again, rows, repaired.after)
    if lost:
        raise VerificationError(
            f"{target} would not hold the repaired model: {told(lost)}. It was withheld.",
            path=lost[0].path,
        )
