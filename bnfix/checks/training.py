"""How are rows coupled in training, apart from what chance does?

In training a BatchNormalization normalizes by the batch, and dropout draws lots. The first couples
rows, the second does not but hides whether anything else does, so it is kept out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from bnfix.adapters.intercepting import intercepted
from bnfix.adapters.subject import Subject
from bnfix.checks.check_report import Finding

ENTRY_POINT = "training"


@contextmanager
def without_chance(subject: Subject) -> Generator[None]:
    """While the block runs, layers that draw random numbers work as in inference."""
    adapter, model = subject
    random = [layer for _, layer in adapter.tree(model) if adapter.draws_lots(layer)]

    def wrap(layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(call)

        def calm(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs)
            if "training" in signature.parameters:
                given.arguments["training"] = False
            return call(*given.args, **given.kwargs)

        return calm

    with intercepted(random, wrap):
        yield


def entry_point(subject: Subject) -> dict[str, Callable[[Any], Any]]:
    """The model as a training step calls it."""
    adapter, model = subject
    return {ENTRY_POINT: adapter.backend.trained(model)}


def faults(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Those of `findings` that are faults in training."""
    return tuple(finding for finding in findings if finding.cause.in_training)
