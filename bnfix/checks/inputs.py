"""Which rows is a model checked on, and which batch sizes does it take?"""

from __future__ import annotations

from typing import Any

import numpy as np

from bnfix.adapters.defining import flat_inputs
from bnfix.adapters.subject import Subject
from bnfix.checks.probes import Probes
from bnfix.data.batches import batches, first_rows
from bnfix.data.fit import check_fits, spec_of
from bnfix.data.sizes import cycled
from bnfix.errors import DataError
from bnfix.graph.definition import TensorSpec
from bnfix.options import whole
from bnfix.tree import leaves, map_leaves


def probes_from(subject: Subject, x: Any, rows: int) -> tuple[Probes, tuple[str, ...]]:
    """The first `rows` rows of `x`, and notes on what they cannot show.

    A model that takes one batch size gets that many, rows of `x` repeated as needed; one on several
    replicas two for each, so that every row has a neighbour.

    Raises:
        DataError: `x` does not fit the model, is not finite, or has fewer than two rows.
        OptionError: `rows` is not a whole number of at least 2.
    """
    adapter, model = subject
    replicas = adapter.replicas(model)
    rows = max(whole("rows", rows, at_least=2), 2 * replicas if replicas > 1 else 0)
    rows += -rows % replicas
    specs = [adapter.tensor_spec(tensor) for tensor in adapter.inputs(model)]
    declared = next((spec.shape[0] for spec in specs if spec.shape and spec.shape[0]), None)
    wanted = max(rows, declared or 0)
    taken = first_rows(batches(x, batch_size=wanted, steps=wanted), wanted)
    number = _checked(subject, taken, specs)
    fixed = _binding(subject, cycled(min(number, rows), taken), declared)
    number = fixed or (min(number, rows) if replicas == 1 else rows)
    taken = cycled(number, taken)
    alone = None if fixed else map_leaves(lambda array: array[[0] * replicas], taken)
    several = not adapter.backend.compiles_each_length
    probes = Probes(taken, number, alone, least=replicas, several=several)
    return probes, tuple(_notes(probes, fixed))


def _checked(subject: Subject, taken: Any, specs: list[TensorSpec]) -> int:
    """Number of rows in `taken`, which fits the model."""
    adapter, model = subject
    if taken is None:
        raise DataError("x is empty; check needs at least two rows.")
    if specs:
        number = check_fits(
            flat_inputs(*subject, taken), adapter.input_names(model), specs, index=0
        )
    else:  # any shape and dtype may do, but values must be finite
        held = list(leaves(taken))
        names = [str(position) for position in range(len(held))]
        number = check_fits(held, names, [spec_of(array) for array in held], index=0)
    if number < 2:
        raise DataError(
            "check needs at least two rows to tell whether they influence each other; got "
            f"{number}."
        )
    return number


def _binding(subject: Subject, taken: Any, declared: int | None) -> int | None:
    """The batch size that the model insists on, if it does.

    A size may be declared without binding anyone: a Sequential remembers the batch it was built
    on, and many a model made for serving says 1 but takes more.
    """
    adapter, model = subject
    if declared is None:
        return None
    if declared > 1 and not adapter.is_sequential(model):
        return declared
    try:
        with adapter.untouched(model):
            adapter.infer(model, map_leaves(adapter.fed, taken))
    except adapter.run_errors:
        return declared
    return None


def _notes(probes: Probes, fixed: int | None) -> list[str]:
    if fixed == 1:
        return ["the model takes one row at a time, so no row has neighbours"]
    notes: list[str] = []
    if fixed:
        notes.append(f"the model takes batches of {fixed} only, so row 0 was not tried alone")
    if all(np.array_equal(leaf, cycled(len(leaf), leaf[:1])) for leaf in leaves(probes.x)):
        notes.append("all rows of x are equal, so a dependence between them cannot be seen")
    return notes
