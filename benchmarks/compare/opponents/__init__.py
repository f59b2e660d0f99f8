"""One module an opponent, importable without it.

TITLE       its name in tables
ENVIRONMENT the name of its own environment; None: it runs where bnfix does
FRAMEWORKS  what its networks are built with: modules of a Keras, or "torch"
PACKAGES    of its environment, for pip
VERSIONS    the packages whose versions are told
NOTE        what it was made for, and how it is called here
fold        takes a model and inputs, and gives what became of it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Folded(NamedTuple):
    """A folded network: what runs it, how many normalizations are left in it, and why."""

    run: Callable[[list[Any]], list[Any]]
    left: int
    reasons: Sequence[str] = ()


def of_keras(model: Any, reasons: list[str]) -> Folded:
    """A Keras model that was folded."""
    from ..in_keras import norms, run

    return Folded(lambda inputs: run(model, inputs), norms(model), reasons)


def of_torch(model: Any, reasons: list[str]) -> Folded:
    """A PyTorch module that was folded."""
    from ..in_torch import norms, run

    return Folded(lambda inputs: run(model, inputs), norms(model), reasons)


#: In the order in which they are told.
ALL = (
    "bnfix",
    "kito",
    "batchnorm_folding",
    "mct",
    "inc",
    "qkeras",
    "tflite",
    "onnx",
    "torch_fx",
    "torch_pairs",
    "aimet",
)
