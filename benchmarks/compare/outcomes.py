"""What came of a graph, judged by the tolerance that bnfix's own proofs use."""

from __future__ import annotations

from enum import Enum
from typing import Any

from bnfix.numerics.tolerance import rounding


class Outcome(str, Enum):
    """From the best to the worst."""

    FOLDED = "folded"
    PARTLY = "partly, the rest with a reason"
    LEFT = "left with a reason"
    PARTLY_SILENTLY = "partly, the rest silently"
    LEFT_SILENTLY = "left silently"
    RAISED = "raised"
    WRONG = "wrong"
    NOT_THERE = "no such network there"


#: In a cell of a table.
MARKS = {
    Outcome.FOLDED: "folded",
    Outcome.PARTLY: "partly",
    Outcome.LEFT: "left",
    Outcome.PARTLY_SILENTLY: "partly?",
    Outcome.LEFT_SILENTLY: "left?",
    Outcome.RAISED: "raised",
    Outcome.WRONG: "**wrong**",
    Outcome.NOT_THERE: "",
}


def judged(told: dict[str, Any], depth: int) -> Outcome:
    """The outcome that `told`, a line of `worker.py`, amounts to in a network of `depth` layers."""
    if "unbuilt" in told:
        return Outcome.NOT_THERE
    if "raised" in told:
        return Outcome.RAISED
    if told["difference"] > rounding("float32", depth, 1.0):
        return Outcome.WRONG
    left, before = told["left"], told["norms"]
    if left == 0:
        return Outcome.FOLDED
    explained = len(told["reasons"]) >= left
    if left < before:
        return Outcome.PARTLY if explained else Outcome.PARTLY_SILENTLY
    return Outcome.LEFT if explained else Outcome.LEFT_SILENTLY
