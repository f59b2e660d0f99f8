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
from typing import Any

import numpy as np

from bnfix.adapters.choose import adapter_of
from bnfix.errors import BnfixWarning, FileError, OptionError, VerificationError
from bnfix.files.container import Format, format_of, opened
from bnfix.files.edit import Wishes, plan_edits
from bnfix.files.inspect import inspect
from bnfix.files.load import load
from bnfix.files.place import replacing
from bnfix.files.report import FileRepair
from bnfix.files.rewrite import rewrite
from bnfix.files.save import write
from bnfix.files.survey import survey
from bnfix.operations.repair import repair
from bnfix.report import Outcome
from bnfix.restoring import all_or_nothing

_FORMAT_OF_SUFFIX = {".h5": Format.H5, ".hdf5": Format.H5, ".keras": Format.KERAS}


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
    batch_size: int = 32,
    steps: int | None = None,
    fold: bool = False,
    min_count: int = 32,
    verbose: int | str = "auto",
    return_report: bool = False,
) -> Any:
    """Repair the model in the file `src` and write it to `dst`.

    With `ds` the model is opened by `load`, repaired by `repair`, written in the format of `src`,
    and read back: weights that differ are not let through. Without, the file is edited and the
    model not opened, so that no class of its author is needed: `strip_training`, `freeze` and
    `replace_non_finite` say what is done, and all else in the file stays bit for bit.

    A crash at any moment leaves the file that was at `dst`, or the new one.

    Args:
        src: `.h5` or `.keras` file, whatever its name; with `ds` the folder of a SavedModel, too.
        dst: Where the result goes. A SavedModel is written in the format of its extension.
        ds: Calibration data for `repair`, what `fit` takes.
        custom_objects: For `load`.
        overwrite: Replace a file that is at `dst`; needed where that is `src` itself.
        allow_unsafe: For `load`.
        strip_training: Take `training=True` out of the calls that reach a BatchNormalization.
        freeze: Set `trainable=False` on each BatchNormalization.
        replace_non_finite: Put 0 and 1, with which Keras begins, in place of moving means and
            variances that are not finite. The channels concerned are then as if never trained.
        batch_size: For arrays in `ds`.
        steps: Number of batches to take of `ds`.
        fold: As for `repair`.
        min_count: As for `repair`.
        verbose: As for `repair`.
        return_report: Return `(path, report)`.

    Returns:
        The path of the new file.

    Raises:
        FileError: `src` is no model file, `dst` exists or cannot be written.
        UnsafeFileError: As for `load`.
        BnfixError: As for `repair`. `dst` is as before in each case.
    """
    source, form = format_of(src)
    target = Path(dst)
    _check_target(source, form, target, overwrite)
    wishes = Wishes(strip_training, freeze, replace_non_finite)
    _check_options(wishes, fold=fold, with_data=ds is not None)
    before = inspect(source)
    with replacing(target) as draft:
        if ds is None:
            outcomes, repaired = _edited(source, form, wishes, draft), None
        else:
            model = load(source, custom_objects, allow_unsafe=allow_unsafe)
            changed, repaired = repair(
                model,
                ds,
                batch_size=batch_size,
                steps=steps,
                fold=fold,
                min_count=min_count,
                verbose=verbose,
                return_report=True,
            )
            if changed is not model:
                adapter_of(model).copy_optimizer_state(model, changed)
            suffix = target.suffix if form is Format.SAVED_MODEL else form.suffix
            named = draft.with_name(f"model{suffix}")
            write(changed, named)
            _read_back(changed, named, custom_objects, allow_unsafe, source)
            named.rename(draft)
            outcomes = ()
        after = inspect(draft)
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


def _check_target(source: Path, form: Format, target: Path, overwrite: bool) -> None:
    wanted = _FORMAT_OF_SUFFIX.get(target.suffix)
    if target.is_dir():
        raise FileError(f"{target} is a folder; the name of a file is required.")
    if form is Format.SAVED_MODEL and wanted is None:
        raise FileError(
            f"{target} names no format for the model in {source}: .keras or .h5 is required."
        )
    if form is not Format.SAVED_MODEL and wanted not in (None, form):
        raise FileError(
            f"{target} would be {form.suffix} inside, as {source} is. A name that ends in "
            f"{form.suffix} is required; bnfix.save(bnfix.load(path), other) changes the format."
        )
    if target.exists() and not overwrite:
        same = target.samefile(source)
        what = "is the file to be repaired" if same else "exists"
        raise FileError(f"{target} {what}. Another name, or overwrite=True, is required.")


def _check_options(wishes: Wishes, *, fold: bool, with_data: bool) -> None:
    if with_data and (wishes.freeze or wishes.replace_non_finite or not wishes.strip_training):
        raise OptionError(
            "strip_training=, freeze= and replace_non_finite= are for files that are edited "
            "without data; with ds= the model is repaired by its diagnosis. Leave these out, or "
            "ds=."
        )
    if fold and not with_data:
        raise OptionError("fold= opens the model, for which ds= is required.")


def _edited(source: Path, form: Format, wishes: Wishes, draft: Path) -> tuple[Outcome, ...]:
    if form is Format.SAVED_MODEL:
        raise FileError(
            f"{source} is a SavedModel, a program that cannot be edited. Pass ds=, or open it by "
            "bnfix.load and save it as .keras."
        )
    with opened(source, form) as stored:
        if stored.weights is not None:
            survey(stored.weights)
        edits = plan_edits(stored, wishes)
    rewrite(source, form, edits, draft)
    return tuple(edits.outcomes)


def _read_back(
    model: Any, file: Path, objects: Mapping[str, Any] | None, allow_unsafe: bool, source: Path
) -> None:
    """Make sure that `file` gives the weights of `model`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BnfixWarning)  # told when the source was opened
        again = load(file, objects, allow_unsafe=allow_unsafe)
    ours, theirs = (
        [adapter_of(one).to_numpy(weight) for weight in one.weights] for one in (model, again)
    )
    same = len(ours) == len(theirs) and all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(ours, theirs, strict=True)
    )
    if not same:
        raise VerificationError(
            f"the repaired model of {source} does not come back from its file as it was written. "
            "It was withheld. Load, repair and save it in another format."
        )
