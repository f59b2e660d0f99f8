"""Which Keras can open this file, and may it?

The configuration is read first. It tells who wrote the file, so that the right Keras gets it, and
what opening it would run, so that nothing but Keras and what the user has handed in does.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from bnfix.adapters import kerases, opening
from bnfix.errors import BnfixWarning, FileError, gist
from bnfix.files.backslashes import with_slashes
from bnfix.files.container import WEIGHTS, Format, Stored, format_of, opened
from bnfix.files.harmless import check_harmless
from bnfix.files.plan import Plan, plan_for
from bnfix.progress import progress
from bnfix.restoring import all_or_nothing

_SUFFIXES = {Format.H5: (".h5", ".hdf5"), Format.KERAS: (".keras",)}


@all_or_nothing()
def load(
    path: str | os.PathLike[str],
    custom_objects: Mapping[str, Any] | None = None,
    *,
    allow_unsafe: bool = False,
    verbose: int | str = "auto",
) -> Any:
    """Open a model file with the Keras that can, running nothing that the file brings along.

    The format is told by the content, the Keras by what the file says of itself; the log of
    `"bnfix"` says at level INFO which one it was, of all but programs. A model comes back compiled,
    its optimizer's state included, if it was saved so; where that cannot be had, it is opened
    without, and a `BnfixWarning` says why.

    Args:
        path: `.h5`, `.keras` or the folder of a SavedModel, whatever its name.
        custom_objects: Classes and functions of your own that the file names, by name.
        allow_unsafe: Open files that run code: lambdas stored in the file, modules that it names.
            Only for files whose author you trust as you trust a program's.
        verbose: "auto" shows progress on terminals and in notebooks; 0 never, 1 always.

    Returns:
        A model of Keras 3 or Keras 2.

    Raises:
        UnsafeFileError: Opening the file would run code that is not Keras's own.
        FileError: The file is damaged, holds no model, or needs code that was not handed in or a
            Keras that is not installed.

    Examples:
        >>> bnfix.save(model, "model.keras")
        >>> bnfix.load("model.keras").name == model.name
        True
    """
    where, form = format_of(path)
    with progress(1, f"opening {where.name}", verbose):
        if form is Format.SAVED_MODEL:
            from bnfix.files.saved_model import load_saved_model

            return load_saved_model(where, custom_objects or {}, allow_unsafe=allow_unsafe)
        with opened(where, form) as stored:
            plan = plan_for(stored, custom_objects or {}, allow_unsafe=allow_unsafe)
            if stored.weights is None:
                raise FileError(
                    f"{plan.title} holds its weights in a form that is not looked into, so that "
                    "nobody knows what opening it would do. Save it as Keras does by itself, with "
                    "its weights in HDF5."
                )
            check_harmless(stored.weights)
            windows = form is Format.KERAS and stored.weights.has_backslashes
        if not windows:
            return _Opening(where, form, plan).result()
        with tempfile.TemporaryDirectory(prefix="bnfix-") as folder:
            copied = Path(folder) / f"model{form.suffix}"
            with_slashes(where, copied, WEIGHTS)
            return _Opening(copied, form, plan).result()


class _Opening:
    """Tries one Keras after the other, with and without the compile state."""

    def __init__(self, path: Path, form: Format, plan: Plan) -> None:
        self._path, self._form, self._plan = path, form, plan
        self._failures: dict[str, Exception] = {}

    def result(self) -> Any:
        for root in self._plan.roots:
            model = self._by(root)
            if model is not None:
                self._plan.log(root)
                return model
        raise self._plan.refusal(self._failures) from next(iter(self._failures.values()))

    def _by(self, root: str) -> Any:
        """The model as `root` opens it, or None."""
        plan = self._plan
        if problem := kerases.problem_with(root):
            self._failures[root] = ImportError(problem)
            return None
        why = plan.why_uncompiled(root)
        with _named_as_keras_wants(self._path, self._form, root) as path:
            if why is None:
                try:
                    model, goes_on = self._compiled(root, path)
                except Exception as error:  # whatever a Keras raises on a file
                    why = gist(error)
                else:
                    if not goes_on:
                        warnings.warn(plan.with_fresh_optimizer, BnfixWarning, stacklevel=5)
                    return model
            try:
                model = opening.open_model(root, path, plan.objects, compile=False, safe=plan.safe)
            except Exception as error:
                self._failures[root] = error
                return None
        if why:
            warnings.warn(plan.without_compilation(why), BnfixWarning, stacklevel=5)
        return model

    def _compiled(self, root: str, path: str) -> tuple[Any, bool]:
        """The model, and whether its optimizer goes on from the state in the file."""
        objects = self._plan.objects_for(root)
        with opening.unlogged("freshly initialized optimizer"):
            model = opening.open_model(root, path, objects, compile=True, safe=self._plan.safe)
        if self._form is not Format.H5:
            return model, True
        take = opening.mend_optimizer if kerases.generation(root) == 3 else opening.goes_on
        with opened(self._path, self._form) as stored:
            return model, take(model, _optimizer_state(stored))


def _optimizer_state(stored: Stored) -> list[npt.NDArray[Any]]:
    hdf5, root = stored.weights, "optimizer_weights"
    if hdf5 is None or not hdf5.is_group(root):
        return []
    names = hdf5.names(root, "weight_names") or []
    return [hdf5.values(f"{root}/{name}", limit=hdf5.size) for name in names]


@contextmanager
def _named_as_keras_wants(path: Path, form: Format, root: str) -> Generator[str]:
    """`path`, or a link to it under a name with the right extension.

    Keras 2 opens `.keras` files for writing, without writing to them: it gets a copy of those that
    it may not.
    """
    may_not = (
        form is Format.KERAS and kerases.generation(root) == 2 and not os.access(path, os.W_OK)
    )
    if path.name.endswith(_SUFFIXES[form]) and not may_not:
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="bnfix-") as folder:
        alias = Path(folder) / f"model{form.suffix}"
        if may_not:
            shutil.copyfile(path, alias)
        else:
            alias.symlink_to(path.resolve())
        yield str(alias)
