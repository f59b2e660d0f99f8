"""What one opponent makes of each graph, as lines of JSON; runs in its environment.

python -m benchmarks.compare.worker kito tensorflow.keras FOLDER conv residual ...
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np

from .graphs import GRAPHS
from .in_keras import Inexpressible

#: Of an error, in letters.
_LONGEST = 300


def main(name: str, framework: str, folder: str, *graphs: str) -> None:
    # What opponents print must not get between the lines of JSON.
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    opponent = importlib.import_module(f".opponents.{name}", __package__)
    for line in lines(opponent, framework, folder, graphs):
        print(json.dumps(line), file=told, flush=True)


def lines(
    opponent: Any, framework: str, folder: str, graphs: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """The versions of what runs; then what came of each of `graphs`."""
    yield {"versions": _versions(opponent.VERSIONS)}
    for graph in graphs:
        with np.load(os.path.join(folder, f"{graph}.npz")) as file:
            stored = dict(file)
        yield {"graph": graph, **_tried(opponent, framework, graph, stored)}


def _tried(opponent: Any, framework: str, graph: str, stored: dict[str, Any]) -> dict[str, Any]:
    inputs, expected = _numbered(stored, "input"), _numbered(stored, "output")
    try:
        original, run, norms = _built(framework, graph, stored)
        wanted = run(original, inputs)
        before = norms(original)
    except Inexpressible as lack:
        return {"unbuilt": str(lack)}
    except Exception as error:
        return {"unbuilt": _said(error)}
    if expected and (apart := _apart(wanted, expected)) > 1e-4:
        return {"unbuilt": f"the network answers differently by {apart:.0e} before it is folded"}
    # A second one, since some opponents change what they are given.
    model, run, norms = _built(framework, graph, stored)
    try:
        folded = opponent.fold(model, inputs)
        found = folded.run(inputs)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # some call `exit()`
        return {"norms": before, "raised": _said(error)}
    return {
        "norms": before,
        "left": folded.left,
        "reasons": folded.reasons,
        "difference": _apart(found, wanted),
    }


def _built(framework: str, graph: str, weights: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The model, what runs it, and what counts its BNs."""
    if framework == "torch":
        from . import in_torch as made

        return made.model_of(GRAPHS[graph], weights), made.run, made.norms
    from . import in_keras

    model = in_keras.model_of(importlib.import_module(framework), GRAPHS[graph], weights)
    return model, in_keras.run, in_keras.norms


def _numbered(stored: dict[str, Any], kind: str) -> list[Any]:
    return [stored[f"{kind}_{i}"] for i in range(sum(key.startswith(kind) for key in stored))]


def _apart(found: list[Any], wanted: list[Any]) -> float:
    """The largest difference in units of the largest value; 1e9 if it cannot be compared."""
    if [x.shape for x in found] != [x.shape for x in wanted]:
        return 1e9
    worst = 0.0
    for x, y in zip(found, wanted, strict=True):
        worst = max(worst, float(np.max(np.abs(x.astype("float64") - y))) / float(np.abs(y).max()))
    return worst if np.isfinite(worst) else 1e9


def _said(error: BaseException) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split()).replace(sys.prefix, "")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    from importlib.metadata import version

    return {"python": ".".join(map(str, sys.version_info[:3])), **{p: version(p) for p in packages}}


if __name__ == "__main__":
    main(*sys.argv[1:])
