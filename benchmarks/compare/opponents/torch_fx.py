"""PyTorch's fusion of a traced network."""

from __future__ import annotations

from typing import Any

from . import Folded, of_torch

TITLE = "torch.fx fuse"
ENVIRONMENT = "torch"
FRAMEWORKS = ("torch",)
PACKAGES = ("torch", "numpy", "fvcore==0.1.5.post20221221")
VERSIONS = ("torch",)
NOTE = (
    "`torch.fx.experimental.optimization.fuse(model)`, on the same networks in PyTorch. "
    "Experimental, by its name; says nothing of what it leaves."
)


def fold(model: Any, inputs: Any) -> Folded:
    from torch.fx.experimental.optimization import fuse

    return of_torch(fuse(model), [])
