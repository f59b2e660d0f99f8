"""AIMET's folding of BNs, for PyTorch."""

from __future__ import annotations

import contextlib
from typing import Any

from . import Folded, of_torch

TITLE = "AIMET"
ENVIRONMENT = "aimet"
FRAMEWORKS = ("torch",)
PACKAGES = ("aimet-torch==2.42.0",)
VERSIONS = ("aimet-torch", "torch")
NOTE = (
    "`aimet_torch.batch_norm_fold.fold_all_batch_norms(model, input_shapes)` of what its "
    "`prepare_model` makes of the same networks in PyTorch, or of the network itself where "
    "that raises. Gives the pairs that it folded; says nothing of what it leaves. Its package "
    "for Keras is on PyPI as a placeholder only (0.0.1)."
)


def fold(model: Any, inputs: Any) -> Folded:
    from aimet_torch.batch_norm_fold import fold_all_batch_norms
    from aimet_torch.model_preparer import prepare_model

    with contextlib.suppress(Exception):
        model = prepare_model(model)
    shapes = [(1, x.shape[-1], *x.shape[1:-1]) for x in inputs]
    fold_all_batch_norms(model, shapes if len(shapes) > 1 else shapes[0])
    return of_torch(model, [])
