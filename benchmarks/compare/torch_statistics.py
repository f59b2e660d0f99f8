"""The statistics of a network by PyTorch's ways, and the reference; runs in PyTorch's environment.

    python -m benchmarks.compare.torch_statistics ResNet50 FILE OUTPUT

The reference is one pass of all images as a single batch in float64, in which every BN
normalizes by the statistics of all images: that is layer by layer. It goes to OUTPUT as
`NAME/mean` and `NAME/variance`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from fvcore.nn.precise_bn import update_bn_stats
from torch.optim.swa_utils import update_bn

from .in_torch import build
from .networks import NETWORKS

BATCH = 32


def main(name: str, file: str, output: str) -> None:
    with np.load(file) as stored:
        arrays = dict(stored)
    x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(arrays["input_0"], -1, 1)))
    batches: list[Any] = list(torch.split(x, BATCH))
    np.savez(output, **reference(name, arrays, x))
    told: dict[str, Any] = {}
    for title, way in {
        "PyTorch update_bn": lambda model: update_bn(batches, model),
        "fvcore update_bn_stats": lambda model: update_bn_stats(
            model.train(), batches, len(batches), progress=None
        ),
    }.items():
        told[title] = tried(name, arrays, way)
    told["versions"] = {package: version(package) for package in ("torch", "fvcore")}
    print(json.dumps(told))


def reference(name: str, arrays: dict[str, Any], x: Any) -> dict[str, Any]:
    model, norms = build(NETWORKS[name], arrays)
    model.double().train()
    found: dict[str, Any] = {}

    def keep(norm: str) -> Callable[..., None]:
        def hook(module: Any, given: Any, made: Any) -> None:
            values = given[0].transpose(0, 1).flatten(1)
            found[f"{norm}/mean"] = values.mean(1).numpy()
            found[f"{norm}/variance"] = values.var(1, unbiased=False).numpy()

        return hook

    for norm, module in norms.items():
        module.register_forward_hook(keep(norm))
    with torch.no_grad():
        model(x.double())
    return found


def tried(name: str, arrays: dict[str, Any], way: Callable[[Any], Any]) -> dict[str, Any]:
    model, norms = build(NETWORKS[name], arrays)
    began = time.process_time()
    with torch.no_grad():
        way(model)
    return {
        "seconds": time.process_time() - began,
        "statistics": {
            norm: [module.running_mean.tolist(), module.running_var.tolist()]
            for norm, module in norms.items()
        },
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
