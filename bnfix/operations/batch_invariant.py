"""The same bits for a row, whatever it is batched with.

Rounding differs between batch sizes because libraries choose their kernels by shape, and within a
batch because its last rows may not fill a tile. So the model is run at one batch size only, and
rows are put only where the same row gives the same bits: which positions these are is found out by
rotating a batch through all of them. What is left over is filled up and thrown away.

He et al. 2025, "Defeating nondeterminism in LLM inference", reach the same by kernels that do not
look at the batch size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnfix.adapters import state
from bnfix.adapters.subject import Subject
from bnfix.breadth_first.failing import telling
from bnfix.breadth_first.loading import loaded
from bnfix.data.batches import batches, first_rows, length
from bnfix.errors import DataError, ModelError, UnsupportedModelError, gist
from bnfix.operations.samples import samples
from bnfix.options import whole
from bnfix.progress import counted
from bnfix.restoring import all_or_nothing
from bnfix.tree import map_leaves

#: Rows tried at each position; two kernels may round one row alike by chance, but not as many.
_ROWS_TRIED = 8


@dataclass(frozen=True)
class BatchInvariant:
    """A model that is run at one batch size only.

    Attributes:
        model: The model; changes to its weights are followed.
        batch_size: Rows in every call of it.
        positions: Those of them that give the same bits, and so are used.
    """

    model: Any
    batch_size: int
    positions: tuple[int, ...]

    def __call__(self, x: Any) -> Any:
        return self.predict(x)

    @all_or_nothing(lambda callable: state.settings(callable.model))
    def predict(self, x: Any, *, steps: int | None = None, verbose: int | str = "auto") -> Any:
        """What `model.predict` gives, and the same bits for a row in whatever company it comes.

        Args:
            x: Inputs as `fit` takes them; targets are ignored.
            steps: Number of batches to take, where `x` does not end.
            verbose: "auto" shows progress on terminals and in notebooks; 0 never, 1 always.

        Returns:
            Numpy arrays in the structure of the model's outputs.

        Raises:
            DataError: `x` is empty or none of what `fit` takes.
        """
        subject = Subject.of(self.model)
        parts: list[list[Any]] = []
        structure: Any = None
        for piece in counted(self._pieces(subject, x, steps), "predicting", verbose):
            structure, flat = _run(subject, self._placed(piece))
            used = list(self.positions[: length(piece)])
            parts.append([leaf[used] for leaf in flat])
        joined = [_joined(pieces) for pieces in zip(*parts, strict=True)]
        return subject.adapter.pack(structure, joined)

    def _pieces(self, subject: Subject, x: Any, steps: int | None) -> Iterator[Any]:
        """`x` in pieces of at most as many rows as there are positions."""
        size = len(self.positions)
        stream = batches(x, batch_size=size, steps=steps, held=False)
        for one in loaded(subject, stream):
            for start in range(0, one.rows, size):
                yield _rows(one.batch.x, range(start, min(start + size, one.rows)))

    def _placed(self, piece: Any) -> Any:
        """A batch with the rows of `piece` at the positions, copies of the first elsewhere."""
        order = [0] * self.batch_size
        for row, position in zip(range(length(piece)), self.positions, strict=False):
            order[position] = row
        return _rows(piece, order)


@all_or_nothing(state.settings)
def batch_invariant(model: Any, batch_size: int = 8, *, x: Any = None) -> BatchInvariant:
    """`model` as a callable whose answer for a row is the same to the last bit in any batch.

    The model itself is neither copied nor changed, so it is saved as ever; after loading, this line
    makes the callable again. It removes rounding, not faults: where `check` finds that rows depend
    on each other, mend that first. The bits are those of this machine and its libraries.

    Args:
        model: Built Keras 3 or tf_keras model of any kind.
        batch_size: Rows in every call; fewer are filled up, more are split. Small ones waste less
            on single rows, large ones are faster on many.
        x: Some inputs to try positions with; made from the model's inputs by default.

    Returns:
        An object with `predict`; it can be called as well.

    Raises:
        UnsupportedModelError: `model` is not a Keras model, carries states from call to call,
            takes another batch size only, or has no inputs to make some for and `x` is not given.
        DataError: `x` is empty, does not fit the model, or is not finite.
        OptionError: `batch_size` is not a whole number of at least 1.
        ModelError: The model cannot be run.

    Examples:
        >>> answer = bnfix.batch_invariant(model, batch_size=8)
        >>> bool((answer(x[:1]) == answer(x[:5])[:1]).all())
        True
    """
    subject = Subject.of(model)
    batch_size = whole("batch_size", batch_size, at_least=1)
    _refuse_states(subject)
    fixed = _fixed_size(subject)
    if fixed is not None and fixed != batch_size:
        raise UnsupportedModelError(
            f"{model.name} takes batches of {fixed} only; got batch_size={batch_size}. Pass "
            f"batch_size={fixed}."
        )
    with subject.adapter.untouched(model):
        positions = _positions(subject, batch_size, x)
    return BatchInvariant(model, batch_size, positions)


def _refuse_states(subject: Subject) -> None:
    adapter, model = subject
    carried = [path for path, layer in adapter.tree(model) if getattr(layer, "stateful", False)]
    if carried and adapter.carried(model):
        raise UnsupportedModelError(
            f"{carried[0]} goes on from the state in which the call before has left it, so the "
            "rows of a call cannot be split or filled up. Build it with stateful=False.",
            path=carried[0],
        )


def _fixed_size(subject: Subject) -> int | None:
    """The batch size that a model's inputs declare; a Sequential only remembers its first."""
    adapter, model = subject
    if adapter.is_sequential(model):
        return None
    shapes = [adapter.tensor_spec(tensor).shape for tensor in adapter.inputs(model)]
    return next((shape[0] for shape in shapes if shape and shape[0]), None)


# --- positions ---------------------------------------------------------------------------------


def _positions(subject: Subject, batch_size: int, x: Any) -> tuple[int, ...]:
    """The largest set of positions in a batch at which every row tried gives the same bits."""
    number = batch_size * -(-_ROWS_TRIED // batch_size)
    tried = _inputs(subject, batch_size, number, x)
    seen: list[list[bytes]] = [[] for _ in range(batch_size)]
    for start in range(0, number, batch_size):
        for turn in range(batch_size):
            order = [start + (row + turn) % batch_size for row in range(batch_size)]
            _, flat = _run(subject, _rows(tried, order))
            for position, row in enumerate(order):
                bits = b"".join(leaf[position].tobytes() for leaf in flat)
                seen[position].append(row.to_bytes(4, "big") + bits)
    groups: dict[tuple[bytes, ...], list[int]] = {}
    for position, answers in enumerate(seen):
        groups.setdefault(tuple(sorted(answers)), []).append(position)
    return tuple(max(groups.values(), key=len))


def _inputs(subject: Subject, batch_size: int, number: int, x: Any) -> Any:
    """`number` rows on which the model runs."""
    adapter, model = subject
    if x is not None:
        stream = loaded(subject, batches(x, batch_size=number, steps=number))
        taken = first_rows((one.batch for one in stream), number)
        if taken is None or not length(taken):
            raise DataError("x is empty: at least one row is required.")
        return _rows(taken, [row % length(taken) for row in range(number)])
    specs = [adapter.tensor_spec(tensor) for tensor in adapter.inputs(model)]
    if not specs:
        raise UnsupportedModelError(
            f"{model.name} ({type(model).__name__}) does not tell what inputs it takes. Pass some "
            "as x=."
        )
    error: Exception | None = None
    for flat in samples(specs, rows=number):
        flat = [np.resize(array, (number, *array.shape[1:])) for array in flat]
        inputs = adapter.pack(adapter.input_structure(model), flat)
        try:
            _run(subject, _rows(inputs, range(batch_size)))
        except ModelError as failure:
            error = failure
            continue
        return inputs
    raise ModelError(
        f"{model.name} could not be run on generated inputs ({gist(error or ValueError())}). Pass "
        "inputs that it accepts as x=."
    )


# --- calls -------------------------------------------------------------------------------------


def _run(subject: Subject, x: Any) -> tuple[Any, list[Any]]:
    """The outputs for one batch, in the model's structure and flat."""
    adapter, model = subject
    with telling(model.name, "a batch"):
        outputs = model.predict_on_batch(map_leaves(adapter.fed, x))
    return outputs, [adapter.to_numpy(leaf) for leaf in adapter.flatten(outputs)]


def _joined(pieces: Sequence[Any]) -> Any:
    """The rows of all `pieces`."""
    shapes = sorted({piece.shape[1:] for piece in pieces})
    if len(shapes) > 1:
        raise DataError(
            f"rows of different sizes were answered by rows of shapes {shapes}, which do not go "
            "into one array. Pass one batch at a time."
        )
    return np.concatenate(pieces)


def _rows(structure: Any, order: Any) -> Any:
    return map_leaves(lambda array: array[list(order)], structure)
