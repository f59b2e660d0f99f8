"""Prove that a changed model computes what its source computes, in every way it will be run."""

from __future__ import annotations

from typing import Any

from bnfix.adapters import overruling
from bnfix.adapters.reading import Reading
from bnfix.adapters.rebuilding import rebuild
from bnfix.adapters.subject import Subject
from bnfix.errors import VerificationError
from bnfix.graph.edit import Edit
from bnfix.numerics.tolerance import floor, is_coarse, rounding
from bnfix.operations import reference
from bnfix.operations.agreement import Agreement
from bnfix.operations.comparison import Answers, Comparison, dtype_of
from bnfix.operations.trial import Trial, gaps
from bnfix.progress import progress


def verify(
    reading: Reading, edit: Edit, changed: Any, x: Any, *, operation: str, verbose: int | str = 0
) -> Agreement:
    """Compare the model read with `changed`, the model rebuilt from it by `edit`.

    Args:
        reading: Of the model that was changed.
        edit: What was changed.
        changed: The new model.
        x: Inputs of the model, or None to make some from its input specs.
        operation: Named in the error.
        verbose: Whether progress is shown, as in Keras.

    Raises:
        MiscompiledError: Compiled code computes something else than uncompiled code.
        VerificationError: They do not agree, or could not be run.
    """
    with progress(None, f"proving what {operation} made", verbose) as advance:
        trial = Trial.of(reading, x, edit.untrain)
        advance()
        return Comparison(reading, edit, changed, trial, operation, advance).run()


def opened_as(reading: Reading, x: Any, *, operation: str) -> tuple[str, ...]:
    """Compare the model read with the calls that were found in its code; what to tell of it.

    Raises:
        VerificationError: They do not agree, or could not be run.
    """
    if not reading.opened:
        return ()
    trial, dtype = Trial.of(reading, x, frozenset()), dtype_of(reading)
    found = reference.call_by_call(reading, trial.inputs, overruling.overruled(reading))
    tolerance = floor(dtype) if is_coarse(dtype) else rounding(dtype, len(reading.graph), 1.0)
    agreement = Agreement(max(gaps(found, trial.wanted), default=0.0), tolerance, dtype)
    if agreement:
        return (f"opened as it is: {agreement}",)
    again = reference.uncompiled(reading, trial.inputs)
    if max(gaps(again, trial.wanted), default=0.0) > 0:
        return ("opened, and not compared with its code, which is random",)
    raise VerificationError(
        f"{operation} opened the code of {reading.model.name}, but what was found in it computes "
        f"something else: {agreement}. It was withheld. Please report this model; open='never' "
        "leaves its code closed.",
    )


def verify_compiled(changed: Any, x: Any, *, operation: str, verbose: int | str = 0) -> Agreement:
    """Compare what `changed` answers compiled with what it answers uncompiled.

    That is all there is to prove of a model that was meant to compute something else.

    Args:
        changed: The new model.
        x: Its inputs, or None to make some.
        operation: Named in the error.
        verbose: Whether progress is shown, as in Keras.

    Raises:
        VerificationError: They do not agree, or the model could not be run.
    """
    reading = Reading(Subject.of(changed))
    with progress(None, f"proving what {operation} made", verbose) as advance:
        trial = Trial.of(reading, x, frozenset())

        def uncompiled() -> Answers:
            with reading.adapter.uncompiled():
                return trial.answers(changed, advance)

        return Comparison(reading, Edit(), changed, trial, operation, advance, uncompiled).run()


def verify_on_single_rows(reading: Reading, edit: Edit, changed: Any, *, operation: str) -> None:
    """Compare what both models answer to one row, as the calls of the model read are written.

    In float64 where float32 leaves a doubt. Models that draw lots tell nothing.

    Raises:
        VerificationError: They do not agree.
    """
    adapter = reading.adapter
    if any(adapter.draws_lots(layer) for layer in adapter.callables(reading.model)):
        return
    inputs = Trial.of(reading, None, frozenset(), rows=1).inputs

    def agreement(old: Reading, new: Any) -> Agreement:
        wanted = reference.call_by_call(old, inputs, frozenset())
        with adapter.uncompiled():
            apart = max(gaps(adapter.infer(new, inputs), wanted), default=0.0)
        dtype = adapter.coarsest_dtype(old.model)
        return Agreement(apart, rounding(dtype, len(old.graph), 1.0), dtype)

    found = agreement(reading, changed)
    if not found or is_coarse(found.dtype):
        with adapter.backend.float64():
            twin = Reading(Subject(adapter, rebuild(reading, Edit(), dtype="float64").model))
            found = agreement(twin, rebuild(reading, edit, dtype="float64").model)
    if not found:
        raise VerificationError(
            f"{operation} gave a model that answers otherwise to single rows than "
            f"{reading.model.name}, where it should not: {found}. It was withheld. Please report "
            "this model."
        )
