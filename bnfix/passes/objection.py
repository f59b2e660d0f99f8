"""Why a BatchNormalization must stay."""

from bnfix.graph.graph import Graph, Value


class Objection(Exception):
    """One reason, in a clause that names the layers."""


def check_not_returned(graph: Graph, value: Value) -> None:
    """Refuse to change what somebody gets who calls the model, or one nested in it, by itself."""
    made_by = graph.producer(value).path
    if graph.is_output(value):
        raise Objection(f"{made_by} is an output of the model as well")
    if value in graph.unread:
        raise Objection(f"{made_by} is an output of a nested model, although nothing takes it here")
