"""How many rows of a value come from one row of the model's inputs?

One as a rule; as many as there are steps where the steps of all rows are made rows, as within a
TimeDistributed.
"""

from __future__ import annotations

from bnfix.graph.graph import Graph, Value


def rows_per_row(graph: Graph) -> dict[Value, int]:
    """For each value of `graph`, how many of its rows come from one row of an input."""
    found: dict[Value, int] = {}
    for call in graph:
        number = max((found[value] for value in call.reads), default=1)
        if call.kind == "StepsToRows":
            number *= call.inputs[0].shape[1] or 1
        elif call.kind == "RowsToSteps":
            number = max(number // (call.outputs[0].shape[1] or 1), 1)
        found.update(dict.fromkeys(call.outputs, number))
    return found
