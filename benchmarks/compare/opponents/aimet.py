"""AIMET's folding of BNs, for PyTorch."""

from __future__ import annotations

from typing import Any

from . import Folded, of_torch

TITLE = "AIMET"
ENVIRONMENT = "aimet"
FRAMEWORKS = ("torch",)
PACKAGES = ("aimet-torch==2.42.0",)
VERSIONS = ("aimet-torch", "torch")
NOTE = (
    "`aimet_torch.batch_norm_fold.fold_all_batch_norms(model, input_shapes)`, on the same "
    "networks in PyTorch; its package for Keras is on PyPI as a placeholder only (0.0.1)."
)


def fold(model: Any, inputs: Any) -> Folded:
    from aimet_torch.batch_norm_fold import fold_all_batch_norms

    shapes = [(1, x.shape[-1], *x.shape[1:-1]) for x in inputs]
    fold_all_batch_norms(model, shapes if len(shapes) > 1 else shapes[0])
    return of_torch(model, [])
