"""A model made anew by an edit, and proven before anyone sees it."""

from __future__ import annotations

from typing import Any

from bnfix.adapters.reading import Reading
from bnfix.adapters.rebuilding import rebuild
from bnfix.graph.edit import Edit
from bnfix.operations.verify import opened_as, verify


def proven(
    reading: Reading,
    edit: Edit,
    x: Any,
    *,
    operation: str,
    verbose: int | str,
    calm: Edit | None = None,
) -> tuple[Any, tuple[str, ...]]:
    """The model that `edit` makes of the one read, and what to tell of it.

    Args:
        reading: Of the model.
        edit: What is to be changed.
        x: Inputs on which both are compared, or None to make some.
        operation: Named in errors and on the progress bar.
        verbose: As for `progress`.
        calm: What is proven instead, where calls that keep a `training=True` may be random.

    Raises:
        VerificationError: The new model does not compute what it should.
    """
    rebuilt = rebuild(reading, edit)
    proof = edit if calm is None else calm
    judged = rebuilt.model if proof == edit else rebuild(reading, proof).model
    # Without its training= the model read can be run call by call only, as its code was opened.
    opened = opened_as(reading, x, operation=operation) if proof.untrain else ()
    agreement = verify(reading, proof, judged, x, operation=operation, verbose=verbose)
    return rebuilt.model, (*rebuilt.lost, *opened, *agreement.notes)
