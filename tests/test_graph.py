"""The graph view: every call once, in an order in which it can run, under its full path."""

import sys
from dataclasses import replace

import pytest
import zoo
from zoo.common import chain

import bnfix
from bnfix.adapters.choose import adapter_of

CASES = zoo.cases(lacking={"subclassed"})


def assert_is_a_view(graph, model):
    """Order, producers, consumers, sharing and paths agree with each other and with `model`."""
    layers = {path for path, _ in adapter_of(model).tree(model)}
    for position, call in enumerate(graph):
        assert call.index == position
        for value in call.reads:
            assert value.call < position, "read before it is made"
            assert value in graph.producer(value).outputs
            assert call in graph.consumers(value)
        for value in call.outputs:
            assert all(value in reader.reads for reader in graph.consumers(value))
        shared = graph.sharing(call)
        assert call in shared
        assert {other.layer for other in shared} == {call.layer}
        # A shared layer stands in the tree where it is met first; a bare function never does, nor
        # does the input of a Sequential.
        bare = call.kind in ("Operation", "InputLayer") or call.options is not None
        known = bare or any(call.path in layers for call in shared)
        assert known, f"{call.path} is no path of the model"
    assert all(graph.is_output(value) for value in graph.outputs)
    assert len(graph.inputs) == len(model.inputs)
    assert len(graph.outputs) == len(model.outputs)


@pytest.mark.parametrize(("entry", "dialect"), CASES)
def test_the_view_agrees_with_itself_and_with_the_model(entry, dialect):
    model = zoo.build(entry, dialect)
    assert_is_a_view(bnfix.graph_of(model), model)


def backwards(graph):
    return replace(graph, calls=graph.calls[::-1])


def without_nesting(graph):
    """Names instead of paths, which nested models repeat."""
    return replace(graph, calls=tuple(replace(call, path=call.name) for call in graph))


@pytest.mark.parametrize("mutant", [backwards, without_nesting])
def test_the_law_rejects_a_wrong_view(dialect, mutant):
    by_name = {entry.name: entry for entry in zoo.MODELS}
    model = zoo.build(by_name["three_deep"], dialect)
    with pytest.raises(AssertionError):
        assert_is_a_view(mutant(bnfix.graph_of(model)), model)


def test_a_nested_model_called_twice_gives_two_calls_of_each_of_its_layers(K):
    encoder = chain(
        K, (4,), K.layers.Dense(3, name="dense"), K.layers.BatchNormalization(name="bn")
    )
    a, b = K.Input((4,)), K.Input((4,))
    graph = bnfix.graph_of(K.Model([a, b], K.layers.Add()([encoder(a), encoder(b)])))
    first, second = graph.of_kind("BatchNormalization")
    assert first.path == second.path == f"{encoder.name}/bn"
    assert graph.sharing(first) == (first, second)
    assert graph.producer(first.inputs[0]).path == f"{encoder.name}/dense"
    assert [call.kind for call in graph.consumers(first.outputs[0])] == ["Add"]


def test_a_graph_deeper_than_the_recursion_limit_is_read_copied_and_folded(K):
    depth = sys.getrecursionlimit() + 100
    layers = [K.layers.Activation("linear") for _ in range(depth)]
    tail = K.layers.Dense(2), K.layers.BatchNormalization(), K.layers.ReLU()
    sys.setrecursionlimit(4 * depth)  # whoever makes it needs that too
    try:
        model = chain(K, (3,), *layers, *tail)
    finally:
        sys.setrecursionlimit(depth - 100)
    zoo.randomise_batch_norms(model, 0)
    folded, report = bnfix.fold(model, return_report=True)
    assert len(report.changed) == 1
    assert len(bnfix.graph_of(folded)) == len(bnfix.graph_of(model)) - 1
    assert sys.getrecursionlimit() == depth - 100


def test_a_model_without_graph_is_refused_if_nothing_may_be_opened(dialect):
    for entry in zoo.entries(dialect, having={"subclassed"}):
        with pytest.raises(bnfix.UnsupportedModelError, match=r"bnfix\.recalibrate"):
            bnfix.graph_of(zoo.build(entry, dialect), open="never")
