"""Ordinary runs take each test in one Keras: half of them in either, none in neither."""

import importlib
from collections import Counter
from pathlib import Path

import conftest
import pytest
import test_graph
import zoo


class Item:
    """A test as pytest has collected it."""

    def __init__(self, nodeid, *marks):
        self.nodeid, self.marks = nodeid, list(marks)

    def get_closest_marker(self, name):
        return next(
            (mark for mark in self.marks if name in (mark, getattr(mark, "name", ""))), None
        )

    def add_marker(self, name):
        self.marks.append(name)


def collected():
    """Two laws of five cases in each Keras, a test that is for both, and some in one alone."""
    laws = [
        Item(f"test_a.py::{law}[{dialect}-case_{case}]")
        for law in ("one", "other")
        for dialect in zoo.DIALECTS
        for case in range(5)
    ]
    both = [Item(f"test_a.py::both[{dialect}]", "both") for dialect in zoo.DIALECTS]
    alone = [Item("test_a.py::alone[tf_keras-case]"), Item("test_a.py::plain")]
    late = [Item("test_a.py::late[keras3]", "long"), Item("test_a.py::late[tf_keras]")]
    return laws, both, [*alone, late[1]], late[0]


def assert_in_turn(choose):
    laws, both, alone, late = collected()
    slow = [
        Item(f"test_a.py::slow[{dialect}-case_{case}]", pytest.mark.every(3).mark)
        for dialect in zoo.DIALECTS
        for case in range(12)
    ]
    few = [
        Item(f"test_a.py::few[{dialect}-case_{case}]", pytest.mark.every(3).mark)
        for dialect in zoo.DIALECTS
        for case in range(4)
    ]
    choose([*laws, *slow, *few, *both, *alone, late])
    taken = [item.nodeid for item in few if "long" not in item.marks]
    assert sum("[keras3" in nodeid for nodeid in taken) == len(taken) / 2 == 1
    taken = [item.nodeid for item in slow if "long" not in item.marks]
    assert len(taken) == 12 / 3
    assert sum("[keras3" in nodeid for nodeid in taken) == len(taken) / 2
    ordinary = [item for item in laws if "long" not in item.marks]
    cases = Counter(
        item.nodeid.replace("keras3-", "").replace("tf_keras-", "") for item in ordinary
    )
    assert set(cases.values()) == {1}
    assert len(cases) == len(laws) / 2
    assert sum("[keras3" in item.nodeid for item in ordinary) == len(cases) / 2
    assert not any("long" in item.marks for item in (*both, *alone))


def test_each_case_is_taken_in_one_keras_the_two_in_turn():
    if len(zoo.DIALECTS) < 2:
        pytest.skip(f"there is one Keras on {zoo.BACKEND}")
    assert_in_turn(conftest.pytest_collection_modifyitems)


def test_the_law_rejects_a_choice_of_always_the_first_or_of_all():
    if len(zoo.DIALECTS) < 2:
        pytest.skip(f"there is one Keras on {zoo.BACKEND}")

    def first(items):
        for item in items:
            if "[tf_keras-case_" in item.nodeid and "alone" not in item.nodeid:
                item.add_marker("long")

    for wrong in (first, lambda items: None):
        with pytest.raises(AssertionError):
            assert_in_turn(wrong)


# --- what is left of the zoo ----------------------------------------------------------------------


def over_the_zoo():
    """Cases of laws over models of the zoo, each with its model; not those about the zoo itself."""
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        if file.stem == "test_zoo" or '("entry", "dialect")' not in file.read_text("utf-8"):
            continue
        for name, law in vars(importlib.import_module(file.stem)).items():
            marks = getattr(law, "pytestmark", []) if name.startswith("test_") else []
            for mark in marks:
                if mark.name == "parametrize" and mark.args[0] == ("entry", "dialect"):
                    for case in mark.args[1]:
                        item = Item(f"{file.name}::{name}[{case.id}]", *marks, *case.marks)
                        yield item, case.values[0].name


def assert_each_model_is_met(choose):
    cases = list(over_the_zoo())
    assert len({item.nodeid for item, _ in cases}) == len(cases) > 1000
    choose([item for item, _ in cases])
    met = {model for item, model in cases if not item.get_closest_marker("long")}
    assert met == {entry.name for entry in zoo.MODELS if entry.dialects & {*zoo.DIALECTS}}


def test_each_model_of_the_zoo_is_met_by_some_law():
    assert_each_model_is_met(conftest.pytest_collection_modifyitems)


def test_the_law_rejects_that_no_law_takes_all_of_them(monkeypatch):
    law = test_graph.test_the_view_agrees_with_itself_and_with_the_model
    monkeypatch.setattr(law, "pytestmark", [*law.pytestmark, pytest.mark.every(2).mark])
    with pytest.raises(AssertionError):
        assert_each_model_is_met(conftest.pytest_collection_modifyitems)
